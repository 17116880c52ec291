"""The LoRA export: what plain PEFT computes from it, and vLLM's rules for such files."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from easyedit_rep import EditError
from easyedit_rep.edits.artefact import CONFIG, TENSORS
from easyedit_rep.edits.lora import RANKS, export_lora
from easyedit_rep.memory.delta import Delta
from easyedit_rep.pathway.model import pathways_disabled
from easyedit_rep.request import EditRequest

PLAIN_PEFT = """
import json, sys
sys.path.insert(0, "tests")
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sys.argv[1]), sys.argv[2]).eval()
assert "easyedit_rep" not in sys.modules
with torch.no_grad():
    save_file({"logits": model(input_ids=torch.tensor(json.loads(sys.argv[3]))).logits}, sys.argv[4])
"""


def accepted_by_vllm(folder, model) -> int:
    """vLLM's own checks of an adapter (`PEFTHelper.from_local_dir`, `LoRAModel.from_local_checkpoint`), said over; returns the rank."""
    config = json.loads((folder / CONFIG).read_text())
    assert all(config.get(name) is not None for name in ("r", "lora_alpha", "target_modules"))
    assert not config["modules_to_save"] and not config["use_dora"] and config["bias"] == "none" and not config["rank_pattern"]
    assert config["r"] in RANKS
    linear = {name.rsplit(".", 1)[-1] for name, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D))}
    halves = {}
    for name, tensor in load_file(folder / TENSORS).items():
        parts = name.split(".")
        assert parts[:2] == ["base_model", "model"] and parts[-1] == "weight" and parts[-2] in ("lora_A", "lora_B"), name
        module = ".".join(parts[2:-2])
        assert module.rsplit(".", 1)[-1] in linear
        assert module in config["target_modules"]
        halves.setdefault(module, {})[parts[-2]] = tensor
    for module, pair in halves.items():
        layer = model.get_submodule(module)
        inputs, outputs = (layer.nx, layer.nf) if isinstance(layer, Conv1D) else (layer.in_features, layer.out_features)
        assert pair["lora_A"].shape == (config["r"], inputs) and pair["lora_B"].shape == (outputs, config["r"])
    return config["r"]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_eight_rome_edits(make_editor, make_model, facts, tmp_path, logits, family):
    editor = make_editor("ROME", family)
    subjects = ["Danielle Darrieux", "Ann Lee", "Steve Jobs", "Ann Smith", "Paris", "Seattle", "Japan", "Zürich"]
    for subject in subjects:
        editor.apply(EditRequest("Much is known about {} and", subject, "winter"))
    done = export_lora(editor.ledger.artefact(), tmp_path / "lora")
    assert (done.rank, done.errors, done.left_out) == (8, {}, 8)
    assert "LoRA cannot express a gate" in "\n".join(done.lines())
    assert accepted_by_vllm(tmp_path / "lora", make_model(family)) == 8
    loaded = PeftModel.from_pretrained(make_model(family), tmp_path / "lora").eval()
    with pathways_disabled(editor.model):
        want = logits(editor.model)
    assert (want - logits(make_model(family))).abs().max() > 0.1
    assert (logits(loaded) - want).abs().max() < 1e-4


def batch(make_editor, family="llama"):
    """64 facts in one MEMIT edit."""
    editor = make_editor("MEMIT", family, pathways=False)
    prompts = ["Much is known about {} and", "The mother tongue of {} is", "{} plays the", "I like to read about {} in the"]
    subjects = ["Ann Lee", "Paris", "Steve Jobs", "Japan", "Seattle", "Apple", "London", "Zürich", "Łódź", "Spanish", "music", "science"]
    subjects += ["Danielle Darrieux", "Gabriel García Márquez", "Ann Smith", "The Eiffel Tower"]
    targets = ["winter", "road", "music"]
    requests = [EditRequest(p, s, targets[(i + j) % 3]) for i, p in enumerate(prompts) for j, s in enumerate(subjects)]
    return editor, editor.install(editor.base_edit(*requests))


def test_a_memit_batch_of_64(make_editor, make_model, tmp_path, logits):
    editor, edit = batch(make_editor)
    assert len(edit.requests) == 64
    artefact = editor.ledger.artefact()
    done = export_lora(artefact, tmp_path / "lora")
    assert set(done.exact.values()) == {64} and done.rank == 64
    assert accepted_by_vllm(tmp_path / "lora", editor.model) == 64
    loaded = PeftModel.from_pretrained(make_model("llama"), tmp_path / "lora").eval()
    assert (logits(editor.model) - logits(make_model("llama"))).abs().max() > 0.1
    assert (logits(loaded) - logits(editor.model)).abs().max() < 1e-4
    # Fewer ranks than facts: the best there is, with its error known.
    small = export_lora(artefact, tmp_path / "small", rank=8)
    assert accepted_by_vllm(tmp_path / "small", editor.model) == 8
    tensors = load_file(tmp_path / "small" / TENSORS)
    for layer, delta in edit.deltas.items():
        name = f"model.layers.{layer}.mlp.down_proj"
        left, right = (tensors[f"base_model.model.{name}.lora_{half}.weight"].double() for half in "BA")
        dense = delta.left.double() @ delta.right.double()
        values = torch.linalg.svdvals(dense)
        assert small.errors[name] == pytest.approx((values[8:].norm() / values.norm()).item(), rel=1e-6)
        assert ((left @ right - dense).norm() / dense.norm()).item() == pytest.approx(small.errors[name], rel=1e-4)
    assert "is lost" in "\n".join(small.lines())


@pytest.mark.slow
def test_plain_peft_loads_it_without_this_package(make_editor, make_model, tmp_path, logits, ids):
    editor, _ = batch(make_editor, "gpt2")
    export_lora(editor.ledger.artefact(), tmp_path / "lora")
    make_model("gpt2").save_pretrained(tmp_path / "base")
    arguments = [str(tmp_path / "base"), str(tmp_path / "lora"), json.dumps(ids.tolist()), str(tmp_path / "out.safetensors")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", PLAIN_PEFT, *arguments], check=True, cwd=tmp_path, env=environment)
    assert (load_file(tmp_path / "out.safetensors")["logits"] - logits(editor.model)).abs().max() < 1e-4


def test_whole_changes_and_d4s_are_factored(carrying, make_editor, facts, make_model, tmp_path, logits):
    model, ledger, _ = carrying({"whole": True, "pathways": 0}, {"pathways": 0, "rank": 2})
    done = export_lora(ledger.artefact(), tmp_path / "whole")
    assert (done.exact, done.rank) == ({"model.layers.1.mlp.down_proj": 34}, 64)
    loaded = PeftModel.from_pretrained(make_model("llama"), tmp_path / "whole").eval()
    assert (logits(loaded) - logits(model)).abs().max() < 1e-4
    editor = make_editor("D4S", pathways=False)
    for fact in facts:
        editor.apply(fact)
    assert set(export_lora(editor.ledger.artefact(), tmp_path / "d4s").exact.values()) == {3}
    loaded = PeftModel.from_pretrained(make_model("llama"), tmp_path / "d4s").eval()
    assert (logits(loaded) - logits(editor.model)).abs().max() < 1e-4


@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_what_rounding_takes_is_said(make_editor, facts, tmp_path, dtype, most):
    editor = make_editor("ROME", pathways=False)
    edit = editor.apply(facts[0])
    done = export_lora(editor.ledger.artefact(), tmp_path, dtype=dtype)
    tensors = load_file(tmp_path / TENSORS)
    (layer, delta), (name, lost) = next(iter(edit.deltas.items())), next(iter(done.errors.items()))
    left, right = (tensors[f"base_model.model.{name}.lora_{half}.weight"].double() for half in "BA")
    dense = delta.left.double() @ delta.right.double()
    assert not done.exact and 1e-6 < lost < most and name.split(".")[2] == str(layer)
    assert ((left @ right - dense).norm() / dense.norm()).item() == pytest.approx(lost, rel=1e-6)


def test_float16_holds_what_is_tiny_on_one_side_and_huge_on_the_other(carrying, tmp_path):
    artefact = carrying({"pathways": 0})[1].artefact()
    (whole,) = artefact.edits
    scaled = {layer: Delta(delta.left * 1e7, delta.right / 1e7, delta.transposed) for layer, delta in whole.deltas.items()}
    done = export_lora(replace(artefact, edits=[replace(whole, deltas=scaled)]), tmp_path / "even", dtype=torch.float16)
    assert max(done.errors.values()) < 1e-3
    huge = {layer: Delta(delta.left * 1e12, delta.right, delta.transposed) for layer, delta in whole.deltas.items()}
    with pytest.raises(EditError, match=r"too large for torch\.float16"):
        export_lora(replace(artefact, edits=[replace(whole, deltas=huge)]), tmp_path / "huge", dtype=torch.float16)


def test_what_cannot_be_exported_is_refused(carrying, tmp_path):
    _, ledger, (edit,) = carrying({})
    artefact = ledger.artefact()
    with pytest.raises(EditError, match="rank: 7 is not one vLLM accepts: take one of 1, 8, 16"):
        export_lora(artefact, tmp_path, rank=7)
    edit.save(tmp_path / "edit")
    with pytest.raises(EditError, match="already holds an adapter or edits: give another folder"):
        export_lora(artefact, tmp_path / "edit")
    ledger.merge()
    with pytest.raises(EditError, match="change no weight"):
        export_lora(ledger.artefact(), tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
