"""Means over queries and over seeds, and the four formats."""

import statistics

import pytest
from rich.console import Console

from easyedit_rep.bench.compare import COLUMNS
from easyedit_rep.bench.journal import Journal, read_journal
from easyedit_rep.bench.tables import cells, over_seeds, per_seed, render
from easyedit_rep.errors import EditError

SUCCESS = {(0, "ROME"): [1.0, 0.0], (1, "ROME"): [1.0, 1.0], (0, "ROME+REP"): [1.0, 1.0], (1, "ROME+REP"): [1.0, 1.0]}

HPARAMS = {"model_name": "/models/tiny", "rep": {"base": "ROME"}, "layers": [1]}


def record(index, method, success):
    kinds = {k: {"in_domain": {"exact": [1.0, 0.0]}, "out_of_domain": {"exact": []}} for k in ("rephrase", "shuffle", "long")}
    robustness = {"success": [success], "paraphrase": [0.0], **kinds}
    post = {"robustness": robustness, "locality": {"near_acc": [0.5], "near_output": [[1]]}}
    return {"index": index, "method": method, "seconds": {"base": 0.25, "pathway": 0.25}, "post": post}


@pytest.fixture
def paths(tmp_path):
    out = []
    for seed in (0, 1):
        about = {"hparams": HPARAMS, "n": 2, "data": {"file": "facts.json"}, "seed": seed}
        with Journal(tmp_path / f"tiny-ROME-seed{seed}.jsonl", about) as journal:
            journal.add([record(i, m, SUCCESS[seed, m][i]) for i in (0, 1) for m in ("ROME", "ROME+REP")])
        out.append(journal.path)
    return out


def test_mean_and_deviation_over_seeds(paths):
    rows = over_seeds(per_seed(paths))
    plain = rows.loc[("tiny-ROME", "tiny", "facts.json", "ROME", "ROME")]
    assert plain["success", "mean"] == 75.0
    assert plain["success", "std"] == pytest.approx(statistics.stdev([50.0, 100.0]))
    assert plain["rephrase_id", "mean"] == 50.0
    assert plain["seed", "count"] == 2
    assert plain["seconds_per_edit", "mean"] == 0.5


def add(paths, seed, records, **changed):
    """Another journal beside the first."""
    provenance, _ = read_journal(paths[0])
    path = paths[0].with_name(f"tiny-ROME-seed{seed}.jsonl")
    with Journal(path, {**provenance, "seed": seed, **changed}) as journal:
        journal.add(records)
    return [*paths, path]


def test_facts_are_counted_as_they_are(paths):
    refused = [{"index": 1, "method": method, "error": "too long"} for method in ("ROME", "ROME+REP")]
    more = add(paths, 2, [record(0, "ROME", 1.0), record(0, "ROME+REP", 1.0), *refused])
    assert set(cells(over_seeds(per_seed(more)))["facts"]) == {"1–2 × 3, 1 refused", ""}


@pytest.mark.parametrize(
    ("changed", "said"), [({"n": 1}, "n 1, .* with 2"), ({"hparams": {**HPARAMS, "layers": [3]}}, r"hparams\.layers \[3\], .* with \[1\]")]
)
def test_only_seeds_of_one_run_are_pooled(paths, changed, said):
    more = add(paths, 2, [record(0, "ROME", 1.0)], **changed)
    with pytest.raises(EditError, match=rf"seed2\.jsonl was made with {said}, so they are no seeds of one run"):
        per_seed(more)


@pytest.mark.parametrize(
    "changed",
    [
        {
            "hparams": {
                **HPARAMS,
                "model_name": "/other/tiny",
                "device": 1,
                "stats_dir": "x",
                "rep": {"base": "ROME", "corpus": "y", "seed": 2},
            }
        },
        {"texts": {"corpus": "abc"}, "known": True},
    ],
)
def test_seeds_of_another_machine_or_version_are_pooled(paths, changed):
    more = add(paths, 2, [record(0, "ROME", 1.0)], **changed)
    assert over_seeds(per_seed(more))["seed", "count"].max() == 3


def test_other_journals_are_refused(tmp_path):
    with Journal(tmp_path / "sequence.jsonl", {"hparams": {}, "watch": {}}) as journal:
        journal.add([{"after": 2}])
    with pytest.raises(EditError, match="is no benchmark's: `sequence show` and `report` read sequences"):
        per_seed([journal.path])


def test_cells_have_the_gain_and_no_zero_where_nothing_was_asked(paths):
    table = cells(over_seeds(per_seed(paths)))
    assert list(table["method"]) == ["ROME", "ROME+REP", "gain over ROME"]
    assert list(table["Succ."]) == ["75.0 ± 35.4", "100.0 ± 0.0", "+25.0"]
    assert list(table["Reph. OOD"]) == ["–", "–", "–"]
    assert list(table["facts"]) == ["2 × 2", "2 × 2", ""]
    alone = cells(over_seeds(per_seed(paths[:1])))
    assert list(alone["Succ."]) == ["50.0", "100.0", "+50.0"]


@pytest.mark.parametrize("style", ["markdown", "latex", "csv", "terminal"])
def test_every_format_holds_every_number(paths, style):
    table = cells(over_seeds(per_seed(paths)))
    text = render(table, style)
    if style == "terminal":
        console = Console(width=80, record=True)
        console.print(text)
        text = console.export_text()
        assert "…" not in text
    for word in ("75.0", "35.4", "+25.0", "ROME+REP", "tiny"):
        assert word in text
    assert (r"$\pm$" in text) == (style == "latex")
    assert len(COLUMNS) == 9


def test_latex_compiles_whatever_a_file_is_called(paths):
    table = cells(over_seeds(per_seed(paths))).replace("facts.json", "test_set#1.json")
    assert r"test\_set\#1.json & ROME & 2 × 2 & 75.0 $\pm$ 35.4" in render(table, "latex")


def test_unknown_format_and_no_records_are_refused(paths):
    with pytest.raises(EditError, match="format 'html' is not one of terminal"):
        render(cells(over_seeds(per_seed(paths))), "html")
    with pytest.raises(EditError, match="no records yet"):
        per_seed([])
