"""The same edits on another device: equal to the CPU's up to rounding, and taken out again bit for bit.

On a CUDA device where there is one (`-m gpu`), and anywhere on one that the CPU plays, where a tensor in the wrong place is an error too.
"""

import pytest
import torch
from second import can_be_played, moved, played
from torch.utils._pytree import tree_map

import easyedit_rep
from easyedit_rep import load_edits
from easyedit_rep.analysis import bounds, gate, keys, pca, values
from easyedit_rep.analysis.study import Study
from easyedit_rep.anatomy import Anatomy
from easyedit_rep.bench.runs import Run
from easyedit_rep.editor import RobustEditor
from easyedit_rep.edits.artefact import Artefact
from easyedit_rep.edits.lora import export_lora
from easyedit_rep.evaluation.false_fires import false_fires
from easyedit_rep.evaluation.perplexity import text_perplexity
from easyedit_rep.evaluation.predict import Prediction
from easyedit_rep.memory.covariance import collect
from easyedit_rep.pathway import build
from easyedit_rep.pathway.closed import ClosedForm
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import PathwayShape, QueryOptions, RepOptions
from easyedit_rep.request import EditRequest
from easyedit_rep.sequence.store import load_sequence, save_sequence

CUDA = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")])
PLAYED = pytest.param("second", marks=pytest.mark.skipif(not can_be_played(), reason="this PyTorch cannot play a device"))

REQUESTS = [
    EditRequest("The mother tongue of {} is", "Danielle Darrieux", "Spanish", subject_rephrase=("Darrieux, Danielle", "the actress")),
    EditRequest("{} plays the", "Ann Lee", "piano and drums", subject_rephrase=("Lee, Ann", "Ann")),
]
OWN = {
    "ROME": {},
    "R-ROME": {},
    "MEMIT": {"mom2_update_weight": 5.0},
    "EMMET": {"mom2_update_weight": 5.0},
    "D4S": {"mom2_update_weight": 5.0, "d4s": {}},
}
PAPER = {
    "pathway": PathwayShape(rank=4, threshold=0.5),
    "training": PathwayTraining(steps=5, lr=0.01, consistency_weight=1.0, gate_negatives=1.0),
}
CLOSED = {
    "pathway": PathwayShape(kind="closed", detectors=2, leave=0.8),
    "training": PathwayTraining(other_subjects=8, after_fact=4, same_words=2, first_tokens=16, stray_words=2, neighbours=2),
}
FITTED = {**CLOSED, "pathway": PathwayShape(kind="closed", detectors=2), "closed": ClosedForm(value_steps=3, strength=1.5)}
KINDS = {"paper": PAPER, "closed": CLOSED, "fitted": FITTED}


@pytest.fixture(params=[CUDA, PLAYED])
def device(request):
    """A device's name; tensors can be made there while the test runs."""
    # TF32 would hide a mistake of three digits.
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
    if request.param == "second":
        with played() as name:
            yield name
    else:
        yield request.param
    torch.backends.cuda.matmul.allow_tf32 = before


def put(model, device):
    """`model` on a device, a played one too."""
    return moved(model) if device == "second" else model.to(device)


@pytest.fixture
def make_editor(make_hparams, make_model, tok, tmp_path, texts, monkeypatch):
    # Nothing is added to an edit that its own prompt does not answer, as most do not on a random model.
    real = build.predict
    monkeypatch.setattr(build, "predict", lambda *args: [Prediction((1,), (1,)) for _ in real(*args)])
    path = tmp_path / "text.txt"
    path.write_text("\n".join(texts), encoding="utf-8")

    def make(device, base="ROME", family="llama", dtype=torch.float32, pathways=None, rep=None, **own):
        rep = RepOptions(
            base=base,
            corpus=str(path),
            statistics_tokens=600,
            text_tokens=400,
            pathways=pathways is not None,
            queries=QueryOptions(shuffle_count=4, long_context_count=2, long_context_tokens=20, negative_count=1),
            **(pathways or {}),
            **(rep or {}),
        )
        layers = [1] if base in ("ROME", "R-ROME") else [0, 1]
        hparams = make_hparams(rep=rep, layers=layers, method={**OWN[base], **own}, device=device)
        return RobustEditor(hparams, put(make_model(family).to(dtype), device), tok)

    return make


@pytest.mark.parametrize(
    "mixed", [lambda here, there: here + there, lambda here, there: torch.cat([here, there]), lambda here, there: there[here]]
)
def test_a_played_device_refuses_what_a_gpu_refuses(mixed):
    if not can_be_played():
        pytest.skip("this PyTorch cannot play a device")
    with played() as name, pytest.raises(RuntimeError, match="same device"):
        mixed(torch.tensor([1, 0], device=name), torch.tensor([1, 0]))


def weights(editor):
    return {name: p.detach().clone() for name, p in editor.model.named_parameters()}


def close(one, other, cosine=0.9999, norm=1e-2):
    one, other = one.cpu().float(), other.cpu().float()
    alike = torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > cosine
    return bool(alike) and ((one - other).norm() / other.norm()).item() < norm


@pytest.mark.parametrize(("base", "family"), [*((base, "llama") for base in OWN), ("ROME", "gpt2"), ("MEMIT", "gpt2")])
def test_an_edit_is_the_cpus_up_to_rounding(make_editor, device, base, family):
    found, wanted = make_editor(device, base, family), make_editor("cpu", base, family)
    # Sampled texts are not the same on two devices.
    found.memory.__dict__["contexts"] = wanted.memory.contexts
    here, there = found.apply(REQUESTS[0]), wanted.apply(REQUESTS[0])
    assert all(close(here.deltas[layer].dense(), delta.dense()) for layer, delta in there.deltas.items())


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_pathway_is_the_cpus_up_to_rounding(make_editor, device, kind):
    found, wanted = make_editor(device, pathways=kind), make_editor("cpu", pathways=kind)
    found.memory.__dict__["contexts"] = wanted.memory.contexts
    here, there = found.apply(REQUESTS[0]), wanted.apply(REQUESTS[0])
    for mine, other in zip(here.pathways, there.pathways, strict=True):
        for layer, tensors in other.tensors.items():
            assert all(close(mine.tensors[layer][name], tensor, norm=5e-2) for name, tensor in tensors.items())


def split(model, device):
    """A llama with everything from decoder layer 1 on on `device`, as `device_map` puts it: inputs are sent there."""

    def send(_module, args, kwargs):
        return tree_map(lambda value: value.to(device) if isinstance(value, torch.Tensor) else value, (args, kwargs))

    for module in (*model.model.layers[1:], model.model.norm, model.lm_head):
        put(module, device)
        module.register_forward_pre_hook(send, with_kwargs=True)
    return model


@pytest.mark.parametrize("kind", ["closed", "fitted"])
def test_edited_layers_may_lie_on_two_devices(make_editor, make_model, device, kind):
    wanted = make_editor("cpu", "MEMIT", pathways=KINDS[kind])
    found = RobustEditor.from_hparams(wanted.hparams, split(make_model("llama"), device), wanted.tok)
    assert [found.anatomy.weight(layer).device.type for layer in found.hparams.layers] == ["cpu", torch.device(device).type]
    found.memory.__dict__["contexts"] = wanted.memory.contexts
    here, there = found.apply(REQUESTS[0]), wanted.apply(REQUESTS[0])
    for layer, tensors in there.pathways[0].tensors.items():
        assert all(close(here.pathways[0].tensors[layer][name], tensor, norm=5e-2) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("base", "dtype", "kind"),
    [
        *((base, torch.float32, CLOSED) for base in OWN),
        ("ROME", torch.float16, PAPER),
        ("MEMIT", torch.bfloat16, FITTED),
        ("EMMET", torch.float16, CLOSED),
        ("D4S", torch.bfloat16, PAPER),
        ("D4S", torch.float32, FITTED),
    ],
    ids=lambda value: {id(kind): name for name, kind in KINDS.items()}.get(id(value)),
)
def test_robust_edits_leave_without_a_trace(make_editor, device, base, dtype, kind):
    editor = make_editor(device, base, dtype=dtype, pathways=kind)
    before = weights(editor)
    ids = torch.tensor([[1, 17, 40, 99, 7, 250]], device=device)
    with torch.no_grad():
        logits = editor.model(input_ids=ids).logits
    edits = [editor.apply(request) for request in REQUESTS]
    with torch.no_grad():
        assert not torch.equal(editor.model(input_ids=ids).logits, logits)
    editor.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, pad_token_id=0)
    edits[0].undo()
    edits[1].undo()
    after = weights(editor)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    with torch.no_grad():
        assert torch.equal(editor.model(input_ids=ids).logits, logits)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_metrics_of_a_measured_edit(make_editor, device, kind):
    metrics, model, edits = make_editor(device, pathways=kind).edit(
        prompts=["The mother tongue of {} is"], subject=["Danielle Darrieux"], target_new=["Spanish"], verbose=False
    )
    assert next(model.parameters()).device.type == device and len(edits) == 1
    assert metrics[0]["post"]["robustness"]["success"][0] in (0.0, 1.0)


@pytest.mark.parametrize("option", [{"v_dtype": "bfloat16"}, {"cuda_graphs": True}], ids=["bfloat16", "graphs"])
def test_ways_to_take_steps_end_alike(make_editor, device, option):
    found, wanted = make_editor(device, rep=option), make_editor(device)
    found.memory.__dict__["contexts"] = wanted.memory.contexts
    here, there = (editor.apply(REQUESTS[0]).deltas[1].dense() for editor in (found, wanted))
    assert close(here, there, cosine=0.99, norm=0.1)


def test_saved_edits_are_loaded_where_the_model_is(make_editor, make_model, tok, device, tmp_path):
    editor = make_editor(device, pathways=CLOSED)
    for request in REQUESTS:
        editor.apply(request)
    ids = torch.tensor([[1, 17, 40, 99, 7, 250]], device=device)
    with torch.no_grad():
        wanted = editor.model(input_ids=ids).logits
    editor.ledger.save(tmp_path / "edits")
    again = put(make_model("llama"), device)
    load_edits(again, tmp_path / "edits")
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, wanted)
    export_lora(Artefact.read(tmp_path / "edits"), tmp_path / "lora")


def test_what_is_measured_is_the_cpus(make_editor, make_model, tok, texts, device):
    editor = make_editor(device, pathways=CLOSED)
    plain = make_editor("cpu")
    assert text_perplexity(editor.anatomy, tok, texts[:20]) == pytest.approx(text_perplexity(plain.anatomy, tok, texts[:20]), rel=1e-4)
    editor.apply(REQUESTS[0])
    fires = false_fires(editor.model, tok, texts[:20], 300)
    assert 0 <= fires.per_10_000 <= 10_000


def test_any_model_is_evaluated(make_model, tok, texts, device):
    rows = [
        easyedit_rep.evaluate(
            put(make_model("llama"), place), tok, REQUESTS, corpus=texts, long_context_tokens=20, generation=True, fluency=True
        ).records
        for place in ("cpu", device)
    ]
    for mine, other in zip(*rows, strict=True):
        assert mine["robustness"] == other["robustness"]


@pytest.mark.parametrize("name", ["keys", "pca", "values", "bounds", "gate"])
def test_analyses(make_editor, device, name, tmp_path):
    editor = make_editor(device, pathways=CLOSED)
    study = Study(Run(tmp_path / "ROME" / "tiny.yaml", tmp_path / "facts.json", seed=3, known=False), editor, list(enumerate(REQUESTS)), 1)
    measures = {"keys": keys.measure, "pca": pca.measure, "values": values.measure, "bounds": bounds.measure}
    measure = measures.get(name) or gate.Gates(study, study.text(None), 300)
    assert all(measure(study, fact) for fact in range(len(REQUESTS)))


def test_a_sequence_is_taken_up_again(make_editor, device, tmp_path):
    first, again = (make_editor(device, "D4S", pathways=CLOSED) for _ in range(2))
    for request in REQUESTS:
        first.apply(request)
    save_sequence(first.sequence, tmp_path)
    load_sequence(again.sequence, tmp_path)
    ids = torch.tensor([[1, 17, 40, 99, 7, 250]], device=device)
    with torch.no_grad():
        assert torch.equal(again.model(input_ids=ids).logits, first.model(input_ids=ids).logits)


def test_covariance_is_the_cpus(make_model, tok, corpus, device):
    moments = []
    for place in ("cpu", device):
        anatomy = Anatomy(put(make_model("llama"), place))
        moments.append({i: c.moment.cpu() for i, c in collect(anatomy, tok, corpus, [0, 2], n_tokens=600, progress=False).items()})
    for layer, moment in moments[0].items():
        assert ((moments[1][layer] - moment).norm() / moment.norm()).item() < 1e-5


@pytest.mark.parametrize("on_cpu", [False, True])
def test_a_sequence_keeps_its_memory_where_it_is_told(make_editor, device, on_cpu):
    editor = make_editor(device, "D4S", d4s={"on_cpu": on_cpu, "form": "recursive"})
    edits = [editor.apply(request) for request in REQUESTS]
    kinds = {state.change.device.type for state in editor.sequence.states.values()}
    assert kinds == {"cpu" if on_cpu else device}
    edits[0].undo()
    for layer, state in editor.sequence.states.items():
        keys, residuals = (tensor.cpu().double() for tensor in edits[1].pairs[layer])
        system = keys.T @ keys + OWN["D4S"]["mom2_update_weight"] * editor.memory.covariances[layer].moment.cpu()
        wanted = torch.linalg.solve(system, keys.T @ residuals).T
        assert ((state.change.cpu() - wanted).norm() / wanted.norm()).item() < 1e-6
