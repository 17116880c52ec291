"""Saved, and loaded into a fresh model in a fresh process: the same bits. What leaves leaves the model that never had it."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from easyedit_rep import load_edits
from easyedit_rep.anatomy import Anatomy
from easyedit_rep.edits.artefact import TENSORS, Artefact
from easyedit_rep.edits.layout import unpack
from easyedit_rep.edits.try_out import check
from easyedit_rep.ledger import Ledger
from easyedit_rep.pathway.model import layers_of

ROOT = Path(__file__).parents[2]
IN_A_FRESH_PROCESS = """
import json, sys
sys.path.insert(0, "tests")
import torch
from safetensors.torch import save_file
from conftest import build_model
from easyedit_rep import load_edits

ids = torch.tensor(json.loads(sys.argv[2]))
out = {}
for name, family, dtype in json.loads(sys.argv[1]):
    model = build_model(family).to(getattr(torch, dtype))
    before = {n: p.clone() for n, p in model.named_parameters()}
    edits = load_edits(model, name)
    with torch.no_grad():
        out[name] = model(input_ids=ids).logits.clone()
    for edit in edits:
        edit.undo()
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters()), name
    assert [n for n, _ in model.named_parameters()] == list(before), name
save_file(out, sys.argv[3])
"""


@pytest.fixture
def round_trips(make_editor, facts, tmp_path, logits, ids):
    """Edit, save, and load each case (base, pathways, family, dtype) in one fresh process; compare every bit of the logits."""

    def check(cases):
        wanted, listed = {}, []
        for base, pathways, family, dtype in cases:
            editor = make_editor(base, family, pathways, getattr(torch, dtype))
            before = logits(editor.model)
            for fact in facts[:2]:
                editor.apply(fact)
            folder = str(editor.ledger.save(tmp_path / f"{base}-{pathways}-{family}-{dtype}"))
            wanted[folder] = logits(editor.model)
            assert not torch.equal(wanted[folder], before)
            listed.append((folder, family, dtype))
        arguments = [json.dumps(listed), json.dumps(ids.tolist()), str(tmp_path / "out.safetensors")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS, *arguments], check=True, cwd=ROOT, env=environment)
        found = load_file(tmp_path / "out.safetensors")
        assert found.keys() == wanted.keys()
        for name, want in wanted.items():
            assert torch.equal(found[name], want), name

    return check


def test_a_saved_edit_is_the_same_bits_in_a_fresh_process(round_trips):
    round_trips(
        [
            ("ROME", True, "llama", "float32"),
            ("MEMIT", True, "gpt2", "bfloat16"),
            ("D4S", False, "qwen2", "float32"),
        ]
    )


@pytest.mark.slow
def test_every_method_plain_and_with_rep_on_every_kind_of_model(round_trips):
    round_trips(
        [
            (base, pathways, family, dtype)
            for base in ("ROME", "R-ROME", "MEMIT", "EMMET", "D4S")
            for pathways in (False, True)
            for family in ("llama", "qwen2", "gpt2")
            for dtype in ("float32", "bfloat16")
        ]
    )


MIXED = (
    {"pathways": 0, "layers": (1, 2)},
    {"whole": True, "layers": (2,), "pathways": 2, "chain": False},
    {"kind": "closed", "detectors": 2, "leave": 0.8, "layers": (0, 2)},
    {"kind": "closed", "detectors": 2, "value": True, "layers": (0, 2), "pathways": 2},
    {"rank": 3, "layers": (0, 1), "gate_ratio": 0.3},
    {"layers": (1,), "rank": 2},
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_ledger_of_unlike_edits(carrying, make_model, family, dtype, tmp_path, logits):
    model, ledger, edits = carrying(*MIXED, family=family, dtype=dtype)
    ledger.save(tmp_path)
    twin = make_model(family).to(dtype)
    before = logits(twin)
    loaded = load_edits(twin, tmp_path)
    assert torch.equal(logits(twin), logits(model))
    assert [edit.name for edit in loaded] == [edit.name for edit in edits]
    for mine, theirs in zip(edits, loaded, strict=True):
        assert (theirs.requests, theirs.method, theirs.made) == (mine.requests, mine.method, mine.made)
        assert all(torch.equal(theirs.deltas[i].dense(), delta.dense()) for i, delta in mine.deltas.items())
        assert all(torch.equal(theirs.info["keys"][i], keys) for i, keys in mine.info["keys"].items())
        assert [p.config.shape for p in theirs.pathways] == [p.config.shape for p in mine.pathways]
    for place in (1, 0):
        edits[place].undo()
        loaded[place].undo()
        assert torch.equal(logits(twin), logits(model))
    Ledger.of(twin, Anatomy(twin)).undo_all()
    assert torch.equal(logits(twin), before)


def test_one_of_several_is_saved_as_if_it_were_alone(carrying, make_model, make_random, tmp_path, logits):
    _, _, edits = carrying(*MIXED)
    edits[2].save(tmp_path)
    twin, alone = make_model("llama"), make_model("llama")
    load_edits(twin, tmp_path)
    Ledger.of(alone, Anatomy(alone)).apply(make_random(alone, 2, **MIXED[2]))
    assert torch.equal(logits(twin), logits(alone))


def test_saved_again_after_loading_it_is_the_same_file(carrying, make_model, tmp_path):
    _, ledger, _ = carrying(*MIXED)
    ledger.save(tmp_path / "a")
    (edit, *_) = load_edits(make_model("llama"), tmp_path / "a")
    edit.ledger.save(tmp_path / "b")
    a, b = (Artefact.read(tmp_path / name) for name in "ab")
    assert a.weights == b.weights
    one, two = load_file(tmp_path / "a" / TENSORS), load_file(tmp_path / "b" / TENSORS)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_fifty_edits_leave_in_random_order(carrying, make_model, make_random, tmp_path, logits):
    kinds = [{"pathways": i % 3 == 0, "layers": ((1,), (0, 2))[i % 2], "rank": 1 + i % 2} for i in range(50)]
    _, ledger, _ = carrying(*kinds)
    ledger.save(tmp_path)
    model = make_model("llama")
    weights = {name: p.clone() for name, p in model.named_parameters()}
    edits = load_edits(model, tmp_path)
    made = [make_random(make_model("llama"), i, **kind) for i, kind in enumerate(kinds)]
    order = random.Random(0).sample(range(50), 50)
    for n, place in enumerate(order):
        edits[place].undo()
        rest = sorted(set(range(50)) - set(order[: n + 1]))
        for layer in (0, 1, 2):
            wanted = weights[Anatomy(model).weight_name(layer)].clone()
            for delta in (made[i].deltas[layer] for i in rest if layer in made[i].deltas):
                delta.add_to(wanted)
            assert torch.equal(Anatomy(model).weight(layer), wanted), f"after {n + 1} left"
        assert {a for layer in layers_of(model).values() for a in layer.rep_count} == {f"edit{i}_0" for i in rest if kinds[i]["pathways"]}
        if n % 10 and n < 45:  # a whole model that never had them takes longer
            continue
        never = make_model("llama")
        theirs = Ledger.of(never, Anatomy(never))
        for i in rest:
            theirs.apply(make_random(never, i, **kinds[i]), f"edit{i}")
        for layer in (0, 1, 2):
            assert torch.equal(Anatomy(model).weight(layer), Anatomy(never).weight(layer)), f"after {n + 1} left"
        assert torch.equal(logits(model), logits(never)), f"after {n + 1} left"
    assert not layers_of(model)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert [name for name, _ in model.named_parameters()] == list(weights)


def test_d4s_goes_on_after_loading(make_editor, facts, tmp_path, logits):
    whole, again = make_editor("D4S"), make_editor("D4S")
    for fact in facts[:2]:
        whole.apply(fact)
    whole.ledger.save(tmp_path)
    loaded = load_edits(again.model, tmp_path)
    assert [edit.requests for edit in again.ledger.sequence.edits] == [(fact,) for fact in facts[:2]]
    whole.apply(facts[2])
    last = again.apply(facts[2])  # the editor has the statistics that the file lacks
    assert torch.allclose(logits(again.model), logits(whole.model), atol=1e-5)
    assert again.ledger.handles == [*loaded, last]
    loaded[0].undo()
    whole.ledger.remove(0)
    assert torch.allclose(logits(again.model), logits(whole.model), atol=1e-5)
    again.ledger.save(tmp_path / "longer")
    assert len(Artefact.read(tmp_path / "longer").edits) == 2


def test_a_d4s_edit_alone_is_the_sequence_without_the_others(make_editor, facts, tmp_path, logits):
    editor = make_editor("D4S")
    first = editor.apply(facts[0])
    editor.apply(facts[1]).save(tmp_path)
    model = make_editor("D4S").model
    load_edits(model, tmp_path)
    first.undo()
    assert torch.allclose(logits(model), logits(editor.model), atol=1e-5)


def test_a_gate_in_two_bytes_loses_nothing(make_editor, make_hparams, facts, tmp_path, logits):
    """Rounded once when it is trained, so that the file, the model and a model it is loaded into are the same bits."""
    sizes = {}
    for dtype in ("float32", "bfloat16"):
        editor = make_editor("ROME")
        editor.hparams.rep = replace(editor.hparams.rep, training=replace(editor.hparams.rep.training, gate_dtype=dtype))
        editor.apply(facts[0])
        folder = editor.ledger.save(tmp_path / dtype)
        name = "base_model.model.model.layers.1.mlp.down_proj.rep_gate_in.weight"
        gate = load_file(folder / TENSORS)[name]
        sizes[dtype] = gate.nbytes
        fresh = make_editor("ROME").model
        load_edits(fresh, folder)
        assert torch.equal(logits(fresh), logits(editor.model))
        assert next(iter(layers_of(fresh).values())).rep_gate_in["edit0_0"].weight.dtype == torch.float32
    assert sizes["bfloat16"] * 2 == sizes["float32"]


def test_the_tensors_are_gone_through_once_however_many_pathways(carrying):
    _model, ledger, _edits = carrying(*[{"pathways": 2}] * 4)
    artefact, passes = ledger.artefact(), []

    class Watched(dict):
        def items(self):
            passes.append(None)
            return super().items()

    packed = artefact.pack()
    found = unpack(packed.records, Watched(packed.tensors), artefact.modules, artefact.transposed)
    assert len(passes) == 1
    for edit, other in zip(artefact.edits, found, strict=True):
        for pathway, same in zip(edit.pathways, other.pathways, strict=True):
            assert all(torch.equal(same.tensors[1][name], tensor) for name, tensor in pathway.tensors[1].items())


@pytest.mark.parametrize("others", [0, 1])
def test_a_file_is_checked_and_the_model_given_back(carrying, make_model, make_random, logits, monkeypatch, others):
    _model, ledger, _edits = carrying(*[{"pathways": 0}] * 3)
    artefact, model = ledger.artefact(), make_model("llama")
    mine = Ledger.of(model, Anatomy(model))
    before = logits(model)
    standing = [mine.apply(make_random(model, 9, layers=(2,))) for _ in range(others)]
    carried, undone = logits(model), []
    monkeypatch.setattr(Ledger, "remove", lambda self, edit, _real=Ledger.remove: (undone.append(edit), _real(self, edit)))
    assert all(finding.well for finding in check(artefact, "edits", model))
    assert len(undone) == (3 if others else 0)  # all that there are leave at once
    assert torch.equal(logits(model), carried) and mine.handles == standing
    mine.undo_all()
    assert torch.equal(logits(model), before)
