"""Three aligned sets: the same facts, balanced answers, nothing true among what is offered as untrue."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from atomic_samples import row, small, v4
from hypothesis import given, settings
from hypothesis import strategies as st

from easyedit_rep import EditError
from easyedit_rep.datasets.atomic import read_atomic
from easyedit_rep.datasets.mqd import TYPES, build, path_of, write_mqd
from easyedit_rep.datasets.mqd.clean import normal
from easyedit_rep.datasets.records import load_dataset_file, load_records
from easyedit_rep.memory.tokens import locate

SHARED = Path(__file__).parents[3] / "shared/data/atomic"


@pytest.fixture
def atomic(tmp_path):
    path = tmp_path / "v4.csv"
    path.write_text(v4(small()))
    return read_atomic(path)


def check(made, atomic):
    """What holds of every MQD."""
    dg, mq, tf = (made.sets[kind] for kind in TYPES)
    assert len(dg) == len(mq) == len(tf) == made.about["samples"]
    said = {}
    for event, relations in atomic.tails.items():
        for tails in relations.values():
            said.setdefault(" ".join(event.split()), set()).update(normal(t.text) for t in tails)
    asked = [(sample["event"], sample["relation"]) for sample in dg]
    assert len(set(asked)) == len(asked)
    for i, (d, m, t) in enumerate(zip(dg, mq, tf, strict=True)):
        for sample in (d, m, t):
            assert sample["case_id"] == i
            assert all(sample[key] == d[key] for key in ("subject", "event", "relation", "tail", "source"))
            assert sample["prompt"].count(sample["subject"]) == 1 and "{}" not in sample["prompt"]
        assert m["prompt"].startswith(f"{d['prompt']} ? Below are four options: (a) ")
        options = m["prompt"].removesuffix(". The correct option is").split(" ? Below are four options: ")[1].split("; ")
        assert options == [f"({name}) {text}" for name, text in zip("abcd", m["options"], strict=True)]
        assert m["options"]["abcd".index(m["target_new"])] == d["target_new"] == d["tail"]
        assert len({normal(option) for option in m["options"]}) == 4
        true = said.get(d["event"], set())
        for offered in m["offered"]:
            assert offered["relation"] != d["relation"] and offered["event"] != d["event"]
            assert normal(offered["tail"]) not in true and offered["tail"] in m["options"]
        statement, question = t["prompt"].split(". Is this sentence logical? ")
        assert question == "Please answer yes or no. A:" and statement.endswith(t["stated"])
        if t["target_new"] == "yes":
            assert statement == f"{d['prompt']} {d['tail']}" and t["swapped"] is None
        else:
            assert t["swapped"]["relation"] == d["relation"] and normal(t["stated"]) not in true
    for answers, size in ((mq, 4), (tf, 2)):
        counts = Counter(sample["target_new"] for sample in answers)
        assert max(counts.values()) - min(counts.values() if len(answers) >= size else [0]) <= 1


def test_a_small_one(atomic):
    made = build(atomic, n=60)
    check(made, atomic)
    assert made.about["samples"] == 60
    assert {sample["relation"] for sample in made.sets["DG"]} == {name for tails in atomic.tails.values() for name in tails}
    assert set(made.sets["DG"][0]["source"]) == {"file", "line", "split"}
    line = made.sets["DG"][0]["source"]["line"]
    assert made.sets["DG"][0]["tail"] in v4(small()).splitlines()[line - 1]


def test_seeds_fix_everything_and_fewer_are_the_first(atomic):
    one, same, other = build(atomic, n=40, seed=1), build(atomic, n=40, seed=1), build(atomic, n=40, seed=2)
    assert one == same and one.sets != other.sets
    assert all(build(atomic, n=10, seed=1).sets[kind] == one.sets[kind][:10] for kind in TYPES)


def test_as_many_as_there_are(atomic):
    made = build(atomic, n=4000)
    assert made.about["samples"] == made.about["questions"]["possible"] == 28 * 9
    check(made, atomic)
    with pytest.raises(EditError, match="at least one"):
        build(atomic, n=0)


def test_events_that_speak_of_the_same_give_each_other_nothing(tmp_path):
    rows = [row(f"PersonX bakes bread {i}", xWant=[f"to eat {i} rolls"], xNeed=[f"to buy {i} eggs"], xIntent=["to rest"]) for i in "abcd"]
    path = tmp_path / "a.csv"
    path.write_text(v4(rows))
    with pytest.raises(EditError, match="none has untrue answers"):
        build(read_atomic(path))


def test_counts_add_up(tmp_path):
    tails = ["to eat", "To eat.", "none", "___ it", "", "he eats", "so; on"]
    path = tmp_path / "a.csv"
    path.write_text(v4([*small(), row("PersonX eats ___", xWant=["to eat"]), row("PersonX dances", xWant=tails)]))
    atomic = read_atomic(path)
    counts = build(atomic).about["tails"]
    total = sum(len(t) for said in atomic.tails.values() for t in said.values()) + atomic.nones
    assert counts["kept"] + sum(counts["dropped"].values()) == total
    wanted = {"event: blank": 1, "none": 1, "duplicate": 1, "blank": 1, "empty": 1, "invalid characters": 1}
    assert wanted.items() <= counts["dropped"].items()


def no_nul(text):
    """Python 3.10's csv does not write it."""
    return text.replace("\0", "")


known = st.sampled_from("bread boat doctor fence PersonY to get is happy a the none ___ ; she ' \" é".split())
words = known | st.text(max_size=6).map(no_nul)
said = st.lists(st.lists(words, max_size=5).map(" ".join), max_size=3)
events = st.lists(words, max_size=4).map(lambda found: " ".join(["PersonX", *found]))
rows = st.lists(st.builds(lambda event, a, b, c: row(event, xWant=a, oReact=b, xEffect=c), events, said, said, said), max_size=8)


@settings(deadline=None, max_examples=30)
@given(rows, st.integers(0, 3))
def test_whatever_the_rows_are(tmp_path_factory, found, seed):
    path = tmp_path_factory.mktemp("fuzz") / "a.csv"
    path.write_text(v4([*small()[::5], *found]).replace("\r\n", "\n"), encoding="utf-8", errors="replace")
    atomic = read_atomic(path)
    check(build(atomic, 30, seed), atomic)


def test_files_are_read_by_the_package_and_by_datasets(atomic, tmp_path, tok):
    from datasets import load_from_disk

    made = build(atomic, n=20)
    write_mqd(made, tmp_path / "mqd")
    write_mqd(made, tmp_path / "mqd")  # over what is there
    assert not list((tmp_path / "mqd").glob("*.tmp*"))
    (tmp_path / "theirs" / "dataset").mkdir(parents=True)
    (tmp_path / "theirs" / "dataset" / "thesis.csv").write_text("a")
    with pytest.raises(EditError, match="was not made by mqd build: give --out another folder"):
        write_mqd(made, tmp_path / "theirs")
    assert [path.name for path in (tmp_path / "theirs").rglob("*")] == ["dataset", "thesis.csv"]
    for kind in TYPES:
        loaded = load_dataset_file(path_of(tmp_path / "mqd", kind))
        assert (loaded.format, loaded.found, len(loaded.requests)) == ("mqd", True, 20)
        assert load_records(tmp_path / "mqd/dataset" / kind.lower()) == loaded.requests
        for request, sample in zip(loaded.requests, made.sets[kind], strict=True):
            assert (request.text, request.subject, request.target_new) == tuple(sample[k] for k in ("prompt", "subject", "target_new"))
            assert request.located.prefix == ""
            locate(tok, request.located)
    assert load_from_disk(str(tmp_path / "mqd/dataset"))["mq"].column_names[:3] == ["case_id", "question", "prompt"]
    assert json.loads((tmp_path / "mqd/about.json").read_text())["samples"] == 20
    assert not list((tmp_path / "mqd").glob("*.tmp*"))


@pytest.mark.parametrize(("file", "samples"), [("v4_atomic_tst.csv", 4000), ("system_eval_test_5000.tsv", 3500)])
def test_the_real_files(file, samples):
    if not (SHARED / file).exists():
        pytest.skip(f"{SHARED / file} is absent: it holds ATOMIC")
    atomic = read_atomic(SHARED / file)
    made = build(atomic, n=random.Random(0).choice([300, 400]) if file.endswith("tsv") else 600)
    check(made, atomic)
    assert not atomic.malformed and made.about["questions"]["possible"] >= samples
