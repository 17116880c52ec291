"""The shipped demo: its files fit together, its model knows its facts, and an edit of one can be taken back."""

import pytest
import torch

from easyedit_rep import REPHyperParams, RobustEditor
from easyedit_rep.bench.compare import known_only
from easyedit_rep.datasets.records import load_records
from easyedit_rep.demo import FACTS, HPARAMS, MODEL_DIR
from easyedit_rep.evaluation.predict import predict


@pytest.fixture(scope="module")
def editor():
    return RobustEditor.from_hparams(REPHyperParams.from_hparams(str(HPARAMS)))


@pytest.fixture(scope="module")
def records():
    return load_records(FACTS)


def test_records_are_complete(records):
    assert len(records) >= 300
    for record in records:
        assert record.text.count(record.subject) == 1
        assert len(set(record.subject_rephrase)) == 10
        assert record.subject not in record.subject_rephrase
        assert record.target_new != record.ground_truth
        assert len(record.rephrase_prompts) >= 4
        assert len(record.locality["neighborhood"]) >= 4


def test_the_model_is_small_and_knows_its_facts(editor, records):
    assert sum(f.stat().st_size for f in MODEL_DIR.iterdir()) < 6 * 2**20
    assert len(known_only(editor, records)) >= 0.95 * len(records)
    asked = [(r.located.with_subject(name).text, r.ground_truth) for r in records[::8] for name in r.subject_rephrase]
    answers = predict(editor.anatomy, editor.tok, *zip(*asked, strict=True))
    assert sum(a.exact for a in answers) >= 0.7 * len(answers), "most other names of a subject are known too"


def test_an_edit_survives_a_rephrase_that_rome_alone_does_not(editor, records):
    """Over a few facts: REP keeps more of what it was trained on, the plain edit loses some; then nothing is left of either."""
    model = editor.model
    before = {name: p.clone() for name, p in model.named_parameters()}
    kept = {"ROME": 0.0, "REP": 0.0}
    asked = 0
    for request in known_only(editor, records)[::60]:
        queries = editor.queries(request)
        texts = [request.located.with_subject(s).text for s in (*queries.rephrase.in_domain, *queries.shuffle.in_domain)]
        base = editor.base_edit(request)
        for name, edit in (("ROME", base), ("REP", editor.robustify(base, queries))):
            editor.ledger.apply(edit)
            kept[name] += sum(p.exact for p in predict(editor.anatomy, editor.tok, texts, [request.target_new] * len(texts)))
            edit.undo()
        asked += len(texts)
    assert kept["REP"] > kept["ROME"] + 0.15 * asked
    after = dict(model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
