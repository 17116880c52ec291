"""Columns beyond the paper's: where they were measured, and nowhere else."""

from rich.console import Console

from easyedit_rep.bench.compare import COLUMNS, compare_one, summarise
from easyedit_rep.bench.journal import Journal
from easyedit_rep.bench.show import draw, table
from easyedit_rep.bench.tables import cells, over_seeds, per_seed, render
from easyedit_rep.editor import RobustEditor
from easyedit_rep.evaluation.measures import Measures
from easyedit_rep.evaluation.metrics import DOMAINS, KINDS
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import QueryOptions, RepOptions
from easyedit_rep.request import EditRequest, Question

ALWAYS = {"method", "n", "seconds_per_edit", *COLUMNS}
REQUEST = EditRequest(
    "{} plays the", "Ann Lee", "piano", ground_truth="violin", locality={"near": (Question("Steve Jobs founded", "Apple"),)}
)


def records(make_hparams, make_model, tok, tmp_path, texts, **rep):
    (tmp_path / "text.txt").write_text("\n".join(texts))
    options = {"corpus": str(tmp_path / "text.txt"), "statistics_tokens": 600, "training": PathwayTraining(steps=2), **rep}
    editor = RobustEditor(make_hparams(rep=RepOptions(**options), v_num_grad_steps=2), make_model("llama"), tok)
    return compare_one(editor, 0, REQUEST)


def few(**more):
    return QueryOptions(shuffle_count=2, long_context_count=2, long_context_tokens=20, **more)


def test_all_that_was_asked_for(make_hparams, make_model, tok, tmp_path, texts):
    rep = {"queries": few(negative_count=1, rephrase_rules=True), "measures": Measures(generation=True, fluency=True)}
    found = records(make_hparams, make_model, tok, tmp_path, texts, **rep)
    rows = summarise(found)
    variants = {f"{kind}_{short}_generation" for kind in KINDS for _, short in DOMAINS}
    assert set(rows[0]) == ALWAYS | {"distracted", "negated", "success_generation", "fluency"} | variants
    assert rows[0]["rephrase_ood"] is not None, "names by rule"
    assert set(summarise(found, reversion=True)[0]) == set(rows[0]) | {"reversion"}
    negatives = found[1]["post"]["robustness"]["negatives"]
    assert all(len(kind["acc"]) == len(kind["output"]) == 1 for kind in negatives.values())
    console = Console(width=120, record=True)
    console.print(table(rows, "title"))
    assert "Distr." in console.export_text()
    draw(rows, tmp_path / "picture.png", "title")

    about = {"hparams": {"model_name": "tiny", "rep": {"base": "ROME"}}, "data": {"file": "facts.json"}, "seed": 0}
    with Journal(tmp_path / "0.jsonl", about) as journal:
        journal.add(found)
    columns = list(cells(over_seeds(per_seed([journal.path]))))
    assert columns[-6:] == ["Rev.", "Distr.", "Neg.", "Succ. gen.", "Flu.", "s/edit"]
    assert "Distr." in render(cells(over_seeds(per_seed([journal.path]))), "markdown")


def test_nothing_more_where_nothing_more_was_asked(make_hparams, make_model, tok, tmp_path, texts):
    rows = summarise(records(make_hparams, make_model, tok, tmp_path, texts, queries=few()))
    assert all(set(row) == ALWAYS for row in rows)
    assert rows[0]["rephrase_id"] is None
