"""The same edits on a CUDA device: equal to the CPU's up to rounding, and taken out again bit for bit."""

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.editor import RobustEditor
from easyedit_rep.memory.covariance import collect
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import PathwayShape, QueryOptions, RepOptions
from easyedit_rep.request import EditRequest

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

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


@pytest.fixture(autouse=True)
def exact_products():
    """TF32 would hide a mistake of three digits."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture
def make_editor(make_hparams, make_model, tok, tmp_path, texts):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(texts), encoding="utf-8")

    def make(base="ROME", family="llama", device="cuda", dtype=torch.float32, pathways=False, **own):
        rep = RepOptions(
            base=base,
            corpus=str(path),
            statistics_tokens=600,
            text_tokens=100,
            pathways=pathways,
            pathway=PathwayShape(rank=4, threshold=0.5),
            training=PathwayTraining(steps=5, lr=0.01, consistency_weight=1.0, gate_negatives=1.0),
            queries=QueryOptions(shuffle_count=4, long_context_count=2, long_context_tokens=20),
        )
        layers = [1] if base in ("ROME", "R-ROME") else [0, 1]
        hparams = make_hparams(rep=rep, layers=layers, method={**OWN[base], **own}, device=device)
        return RobustEditor(hparams, make_model(family).to(device, dtype), tok)

    return make


def weights(editor):
    return {name: p.detach().clone() for name, p in editor.model.named_parameters()}


@pytest.mark.parametrize("base", OWN)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_edit_is_the_cpus_up_to_rounding(make_editor, base, family):
    found, wanted = make_editor(base, family), make_editor(base, family, device="cpu")
    # Sampled texts are not the same on two devices.
    found.memory.__dict__["contexts"] = wanted.memory.contexts
    here, there = found.apply(REQUESTS[0]), wanted.apply(REQUESTS[0])
    for layer, delta in there.deltas.items():
        one, other = here.deltas[layer].dense().cpu(), delta.dense()
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.9999
        assert ((one - other).norm() / other.norm()).item() < 1e-2


@pytest.mark.parametrize("base", OWN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_robust_edits_leave_without_a_trace(make_editor, base, dtype):
    editor = make_editor(base, dtype=dtype, pathways=True)
    before = weights(editor)
    ids = torch.tensor([[1, 17, 40, 99, 7, 250]], device="cuda")
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


def test_metrics_of_a_measured_edit(make_editor):
    metrics, model, edits = make_editor(pathways=True).edit(
        prompts=["The mother tongue of {} is"], subject=["Danielle Darrieux"], target_new=["Spanish"], verbose=False
    )
    assert next(model.parameters()).is_cuda and len(edits) == 1
    assert metrics[0]["post"]["robustness"]["success"][0] in (0.0, 1.0)


def test_covariance_is_the_cpus(make_model, tok, corpus):
    moments = []
    for device in ("cpu", "cuda"):
        anatomy = Anatomy(make_model("llama").to(device))
        moments.append({i: c.moment.cpu() for i, c in collect(anatomy, tok, corpus, [0, 2], n_tokens=600, progress=False).items()})
    for layer, moment in moments[0].items():
        assert ((moments[1][layer] - moment).norm() / moment.norm()).item() < 1e-5


@pytest.mark.parametrize("on_cpu", [False, True])
def test_a_sequence_keeps_its_memory_where_it_is_told(make_editor, on_cpu):
    editor = make_editor("D4S", d4s={"on_cpu": on_cpu, "form": "recursive"})
    edits = [editor.apply(request) for request in REQUESTS]
    kinds = {state.change.device.type for state in editor.sequence.states.values()}
    assert kinds == {"cpu" if on_cpu else "cuda"}
    edits[0].undo()
    for layer, state in editor.sequence.states.items():
        keys, residuals = (tensor.double() for tensor in edits[1].pairs[layer])
        system = keys.T @ keys + OWN["D4S"]["mom2_update_weight"] * editor.memory.covariances[layer].moment.cpu()
        wanted = torch.linalg.solve(system, keys.T @ residuals).T
        assert ((state.change.cpu() - wanted).norm() / wanted.norm()).item() < 1e-6
