"""Token-level numbers are EasyEdit's, on one edited model."""

import pytest

from easyedit_rep import EditRequest, evaluate
from easyedit_rep.evaluation.fluency import ngram_entropy
from easyedit_rep.evaluation.robustness import finish_locality

pytestmark = pytest.mark.easyedit


@pytest.fixture
def requests(records):
    """EasyEdit's dictionaries of 50 records, each with all its paraphrases and neighbours."""
    out = []
    for record in records[:50]:
        neighbours = record["locality_prompt"]
        paraphrase = next(text for text in record["rephrase_prompt"] if text.strip())
        out.append(
            {
                "prompt": record["prompt"],
                "subject": record["subject"],
                "target_new": record["target_new"],
                "ground_truth": record["target_true"],
                "rephrase_prompt": paraphrase,
                "locality": {"near": {"prompt": neighbours, "ground_truth": [record["locality_ground_truth"]] * len(neighbours)}},
                "portability": {"copy": {"prompt": [record["prompt"]], "ground_truth": [record["target_true"]]}},
            }
        )
    return out


def test_token_level_numbers_are_easyedits(bench_editor, easyeditor, requests):
    from easyeditor.evaluate.evaluate import compute_edit_quality

    model, tok, hparams = bench_editor.model, bench_editor.tok, bench_editor.hparams

    def theirs():
        return [compute_edit_quality(model, hparams.model_name, hparams, tok, request, "cpu") for request in requests]

    before, their_before = evaluate(model, tok, requests), theirs()
    edit = bench_editor.install(bench_editor.base_edit(EditRequest.from_easyedit(requests[0])))
    try:
        after, their_after = evaluate(model, tok, requests, before=before), theirs()
    finally:
        edit.undo()
    assert after.records[0]["rewrite_acc"] == [1.0] != before.records[0]["rewrite_acc"], "the edit is in the model"
    for ours, other in zip([*before.records, *after.records], [*their_before, *their_after], strict=True):
        assert ours["rewrite_acc"] == pytest.approx(other["rewrite_acc"], abs=1e-6)
        assert ours["rephrase_acc"] == pytest.approx(other["rephrase_acc"], abs=1e-6)
        assert ours["portability"]["copy_acc"] == pytest.approx(other["portability"]["copy_acc"], abs=1e-6)
    changed = 0
    for ours, pre, post in zip(after.records, their_before, their_after, strict=True):
        flat = {when: {"locality": {"near_output": _rows(row["locality"]["near_output"])}} for when, row in (("pre", pre), ("post", post))}
        finish_locality(flat["pre"], flat["post"])
        assert ours["locality"]["near_acc"] == pytest.approx(flat["post"]["locality"]["near_acc"], abs=1e-6)
        changed += min(ours["locality"]["near_acc"]) < 1
    assert changed, "some neighbour moved, or nothing was compared"


def _rows(output) -> list[list[int]]:
    """EasyEdit gives a number for a target of one token."""
    return [row if isinstance(row, list) else [row] for row in output]


def test_fluency_is_easyedits(easyeditor, monkeypatch):
    nltk = pytest.importorskip("nltk")
    from easyeditor.evaluate.evaluate_utils import n_gram_entropy

    # Its tokenizer needs a download; on words without signs the two agree on what a word is.
    monkeypatch.setattr(nltk, "word_tokenize", str.split)
    text = "the cat saw the cat that saw the dog and the dog saw the cat"
    assert ngram_entropy(text) == pytest.approx(n_gram_entropy([text]), abs=1e-9)


def test_negatives_through_base_editor_are_compared_with_the_unedited_model(bench_hparams, columns, easyeditor):
    from dataclasses import replace

    hparams = bench_hparams()
    hparams.rep = replace(hparams.rep, queries=replace(hparams.rep.queries, negative_count=2))
    editor = easyeditor.BaseEditor.from_hparams(hparams)
    (row,), _, _ = editor.edit(**columns(1), verbose=False)
    before, after = (row[when]["robustness"]["negatives"] for when in ("pre", "post"))
    assert set(before) == set(after) == {"other_subject", "distracted", "negated"}
    assert all(value == 1.0 for kind in before.values() for value in kind["acc"]), "nothing was edited yet"
    assert [len(kind["output"]) for kind in after.values()] == [len(kind["acc"]) for kind in after.values()]
