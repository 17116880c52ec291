"""ATOMIC's three forms are read to the same thing; what cannot be read is named, and costs no more than itself."""

import json

import pytest
from atomic_samples import row, v4
from hypothesis import given, settings
from hypothesis import strategies as st

from easyedit_rep import EditError
from easyedit_rep.datasets.atomic import read_atomic


@pytest.fixture
def read(tmp_path):
    def make(text, name="atomic.csv"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_atomic(tmp_path / name)

    return make


def texts(atomic):
    return {event: {name: [t.text for t in tails] for name, tails in said.items()} for event, said in atomic.tails.items()}


def test_annotators_are_put_together_and_none_is_not_nobody_asked(read):
    rows = [row(xWant=["to eat"], oWant=["none"]), row(xWant=["to sell it"], oWant=[]), row("PersonX sleeps", xWant=["none", "to dream"])]
    atomic = read(v4(rows))
    assert texts(atomic) == {
        "PersonX bakes bread": {"xWant": ["to eat", "to sell it"], "oWant": []},
        "PersonX sleeps": {"xWant": ["to dream"]},
    }
    assert (atomic.nones, atomic.lines, atomic.malformed) == (2, 3, [])
    assert [(t.line, t.split) for t in atomic.tails["PersonX bakes bread"]["xWant"]] == [(2, "tst"), (3, "tst")]


def test_the_three_forms_agree(read):
    said = {"PersonX bakes bread": {"xWant": ['to say "ah"', "to eat, then rest"], "oWant": []}}
    assert texts(read(v4([row(xWant=said["PersonX bakes bread"]["xWant"], oWant=["none"])]))) == said
    head = "PersonX bakes bread"
    plain = f'{head}\txWant\tto say "ah"\n{head}\txWant\tto eat, then rest\r\n{head}\toWant\tnone\n'
    assert texts(read(plain, "a.tsv")) == said
    grouped = f'{head} @@ xWant\t"to say ""ah""| to eat, then rest"\n{head} @@ oWant\tnone\n'
    assert texts(read(grouped, "b.tsv")) == said


def test_malformed_lines_are_named_and_the_rest_is_used(read):
    good, bad = row(xWant=["to eat"], xNeed=["to buy flour"]), row(xNeed=["to buy flour"])
    bad["xWant"] = '["to eat"'
    lines = v4([good, bad, row(xWant=[1]), row(" ", xWant=["to eat"]), good]).splitlines()
    lines += ['PersonX bakes bread,"[', "PersonX bakes bread,[]", "\ufeff"]
    atomic = read("\n".join(lines))
    assert [(bad.line, bad.field) for bad in atomic.malformed] == [
        (3, "xWant"),
        (4, "xWant"),
        (5, "event"),
        (7, "row"),
        (8, "row"),
        (9, "row"),
    ]
    assert "no JSON" in atomic.malformed[0].reason and "has 2 fields, the header 12" in atomic.malformed[4].reason
    assert texts(atomic)["PersonX bakes bread"] == {"xWant": ["to eat"] * 2, "xNeed": ["to buy flour"] * 3}


def test_a_stray_quote_damages_its_own_line_only(read):
    atomic = read('a man\tCapableOf\t"sing\na man\tCapableOf\trun\nno tabs at all\na man\t7\trun', "a.tsv")
    assert texts(atomic) == {"a man": {"CapableOf": ['"sing', "run"]}}
    assert [(bad.line, bad.field) for bad in atomic.malformed] == [(3, "row"), (4, "relation")]


def test_what_is_not_atomic_is_refused(read, tmp_path):
    with pytest.raises(EditError, match=r"holds nothing of ATOMIC.*line 1"):
        read("just text")
    with pytest.raises(EditError, match="cannot read"):
        read_atomic(tmp_path / "absent.csv")


def raw(size):
    """Text without NUL, which Python 3.10's csv does not write."""
    return st.text(max_size=size).map(lambda said: said.replace("\0", ""))


cells = st.lists(st.text(max_size=12) | st.sampled_from(["none", "to eat", "___", ""]), max_size=3).map(json.dumps) | raw(12)
fuzzed = st.lists(st.builds(lambda event, want, need: {**row(event), "xWant": want, "xNeed": need}, raw(20), cells, cells))


@settings(deadline=None, max_examples=60)
@given(fuzzed, st.binary(max_size=60))
def test_any_rows_are_read_or_named(tmp_path_factory, rows, noise):
    path = tmp_path_factory.mktemp("fuzz") / "a.csv"
    path.write_bytes(v4([row(xWant=["to eat"]), *rows]).encode("utf-8", "surrogatepass") + noise)
    atomic = read_atomic(path)
    assert all(1 < bad.line <= atomic.lines + path.read_bytes().count(b"\n") + 1 and bad.reason for bad in atomic.malformed)
    assert "to eat" in texts(atomic)["PersonX bakes bread"]["xWant"]
