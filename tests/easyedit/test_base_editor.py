"""REP through EasyEdit's own `BaseEditor`."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from easyedit_rep.errors import EditError
from easyedit_rep.integrations.session import Bridge

pytestmark = pytest.mark.easyedit

ORDERS = {
    "easyedit_first": "from easyeditor import BaseEditor\nfrom easyedit_rep import REPHyperParams\nhparams = REPHyperParams(**OPTIONS)",
    "easyedit_last": "from easyedit_rep import REPHyperParams\nhparams = REPHyperParams(**OPTIONS)\nfrom easyeditor import BaseEditor",
}
SCRIPT = """
import os, sys, pickle, torch
sys.path[:0] = [{root!r}, os.path.expanduser(os.environ["EASYEDIT_HOME"])]
OPTIONS = pickle.load(open("options.pickle", "rb"))
{imports}
editor = BaseEditor.from_hparams(hparams)
before = [p.detach().clone() for p in editor.model.parameters()]
metrics, model, restore = editor.edit(prompts=["The mother tongue of Ann Lee is"], target_new=["French"], subject=["Ann Lee"])
assert model is editor.model and callable(restore), restore
assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
assert metrics[0]["pre"]["robustness"] and metrics[0]["post"]["robustness"], metrics
"""


@pytest.mark.parametrize("order", ORDERS)
def test_import_order_does_not_matter(order, bench_hparams, tmp_path):
    Path("options.pickle").write_bytes(pickle.dumps(vars(bench_hparams(v_num_grad_steps=2, context_template_length_params=[]))))
    code = SCRIPT.format(root=str(Path(__file__).resolve().parents[2]), imports=ORDERS[order])
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_single_edits_leave_every_parameter_as_it_was(bench_hparams, columns, easyeditor, snapshot):
    editor = easyeditor.BaseEditor.from_hparams(bench_hparams())
    assert editor.tok.padding_side == "left", "EasyEdit pads on the left for a method it does not know; edits must hold anyway"
    before = snapshot(editor.model)
    metrics, model, restore = editor.edit(**columns(3), verbose=False)
    after = snapshot(model)
    assert model is editor.model
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad for p in model.parameters())
    restore()  # the one that EasyEdit hands out has been called; again does nothing
    for row in metrics:
        assert row["pre"]["rewrite_acc"] == [0.0]
        assert row["post"]["rewrite_acc"] == [1.0]
        assert "rephrase_acc" in row["post"]
        assert "neighborhood_acc" in row["post"]["locality"]
        for when in ("pre", "post"):
            assert set(row[when]["robustness"]) == {"success", "paraphrase", "reversion", "rephrase", "shuffle", "long", "negatives"}
        assert row["pre"]["robustness"]["success"] == [0.0]
        assert row["post"]["robustness"]["success"] == [1.0]
        assert len(row["post"]["robustness"]["long"]["in_domain"]["exact"]) == 1


def test_sequential_edits_stay(bench_hparams, columns, easyeditor, snapshot):
    editor = easyeditor.BaseEditor.from_hparams(bench_hparams())
    before = snapshot(editor.model)
    metrics, model, restore = editor.edit(**columns(2), sequential_edit=True, verbose=False)
    (session,) = Bridge.of(model).sessions.values()
    ledger = session.editor.ledger
    assert [row["post"]["rewrite_acc"] for row in metrics] == [[1.0], [1.0]]
    assert len(ledger.edits) == 2
    restore()
    assert len(ledger.edits) == 1, "the way back of the last call takes the last edit out"
    ledger.undo_all()
    after = snapshot(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_records_may_bring_their_own_queries(bench_hparams, records, easyeditor):
    editor = easyeditor.BaseEditor.from_hparams(bench_hparams())
    record = {
        "prompt": records[0]["prompt"],
        "subject": records[0]["subject"],
        "target_new": records[0]["target_new"],
        "ground_truth": records[0]["target_true"],
        "subject_rephrase": ["Darrieux", "Mme Darrieux", "D. Darrieux"],
        "long_context": ["It rained for weeks.", "The council met again."],
        "portability": {},
        "locality": {},
    }
    (row,), _, _ = editor.edit_requests([record], verbose=False)
    for when in ("pre", "post"):
        robustness = row[when]["robustness"]
        assert [len(robustness["rephrase"][domain]["exact"]) for domain in ("in_domain", "out_of_domain")] == [2, 1]
        assert [len(robustness["long"][domain]["exact"]) for domain in ("in_domain", "out_of_domain")] == [1, 1]


def test_other_methods_are_untouched(bench_hparams, columns, easyeditor):
    hparams = bench_hparams()
    assert hparams.alg_name == "REP"  # registered from here on
    path = Path(easyeditor.__file__).parents[1] / "hparams/ROME/llama-7b.yaml"
    theirs = easyeditor.ROMEHyperParams.from_hparams(str(path))
    for name in ("model_name", "layers", "device", "stats_dir", "context_template_length_params"):
        setattr(theirs, name, getattr(hparams, name))
    theirs.mom2_adjustment, theirs.v_num_grad_steps, theirs.v_loss_layer = False, 2, 7
    editor = easyeditor.BaseEditor.from_hparams(theirs)
    (row,), _, weights = editor.edit(**columns(1), verbose=False)
    assert list(weights) == ["model.layers.1.mlp.down_proj.weight"]
    assert not {"robustness"} & (set(row["pre"]) | set(row["post"]))
    assert not any(name.startswith("_easyedit_rep") for name in vars(editor.model))


def test_two_editors_share_nothing(bench_hparams, columns, easyeditor, snapshot):
    first = easyeditor.BaseEditor.from_hparams(bench_hparams())
    second = easyeditor.BaseEditor.from_hparams(bench_hparams(context_template_length_params=[[8, 5]]))
    untouched = snapshot(second.model)
    alone, _, _ = first.edit(**columns(1), sequential_edit=True, verbose=False)
    assert all(torch.equal(untouched[name], value) for name, value in snapshot(second.model).items())
    second.edit(**columns(1), sequential_edit=True, verbose=False)
    (a,), (b,) = (Bridge.of(editor.model).sessions.values() for editor in (first, second))
    assert a.editor.memory.contexts != b.editor.memory.contexts
    assert a.editor.memory.covariances[1] is not b.editor.memory.covariances[1]
    a.editor.ledger.undo_all()
    assert len(b.editor.ledger.edits) == 1
    again, _, _ = first.edit(**columns(1), sequential_edit=True, verbose=False)
    assert [row["post"] for row in again] == [row["post"] for row in alone]


def test_names_and_contexts_may_be_given_to_edit(bench_hparams, columns, easyeditor):
    names = [["the first name", "the second"], ["the third", "the fourth"]]
    editor = easyeditor.BaseEditor.from_hparams(bench_hparams())
    metrics, _, _ = editor.edit(**columns(2), subject_rephrase=names, long_context=[["A text."], ["A text."]], verbose=False)
    for row in metrics:
        rephrase = row["post"]["robustness"]["rephrase"]
        assert [len(rephrase[half]["exact"]) for half in ("in_domain", "out_of_domain")] == [1, 1]
        assert row["requested_rewrite"]["subject_rephrase"] in names
    with pytest.raises(EditError, match="subject_rephrase has 1 entries for 2 prompts"):
        editor.edit(**columns(2), subject_rephrase=names[:1], verbose=False)


def test_a_target_may_begin_with_a_space(bench_hparams, columns, easyeditor):
    facts = columns(2)
    facts["target_new"] = [f" {target}" for target in facts["target_new"]]
    metrics, _, _ = easyeditor.BaseEditor.from_hparams(bench_hparams()).edit(**facts, verbose=False)
    assert [row["post"]["rewrite_acc"] for row in metrics] == [[1.0], [1.0]]


def test_bfloat16_that_easyedit_does_not_load_is_refused(bench_hparams, columns, easyeditor):
    editor = easyeditor.BaseEditor.from_hparams(bench_hparams(bf16=True))
    with pytest.raises(EditError, match=r"bf16: true, but EasyEdit has loaded the model in torch\.float32"):
        editor.edit(**columns(1), verbose=False)


def test_the_concept_editor_gives_the_model_back(bench_hparams, columns, easyeditor, snapshot, tmp_path):
    (tmp_path / "mistral-bench").symlink_to(bench_hparams().model_name)  # it knows models by their folder's name
    hparams = bench_hparams(model_name=str(tmp_path / "mistral-bench"))
    hparams.stats_dir = None
    editor = easyeditor.ConceptEditor.from_hparams(hparams)
    before = snapshot(editor.model)
    facts = {name: columns(1)[name] for name in ("prompts", "target_new", "subject", "rephrase_prompts", "locality_inputs")}
    instances = {"instance": {"prompt": ["It is"]}}
    metrics, _, _ = editor.edit(**facts, instance_inputs=instances, keep_original_weight=True, verbose=False)
    after = snapshot(editor.model)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert metrics[0]["post"]["rewrite_acc"] == [1.0]
