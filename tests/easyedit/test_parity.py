"""The native ROME is EasyEdit's: same model, contexts, C and steps give the same update."""

import importlib

import pytest
import torch

from easyedit_rep import EditRequest
from easyedit_rep.integrations.engine import prepared, their_request
from easyedit_rep.methods import get_method

pytestmark = pytest.mark.easyedit


def cosine(delta, factors) -> float:
    """Between our change and EasyEdit's (D,), (d,) factors, as if both were written out."""
    u, v = factors
    theirs = v[:, None].double() @ u[None].double()
    return torch.cosine_similarity(delta.dense().double().flatten(), theirs.flatten(), dim=0).item()


def both(memory, hparams, request):
    """Our deltas and EasyEdit's factors of one request, by layer, and the cosine between them."""
    ours = get_method("ROME").solve(memory, hparams, [request])
    execute = importlib.import_module("easyeditor.models.rome.rome_main").execute_rome
    with prepared(memory, hparams) as theirs:
        factors = execute(memory.anatomy.model, memory.tok, their_request(request, "ROME"), theirs)
    return ours, {layer: cosine(ours.deltas[layer], factors[memory.anatomy.weight_name(layer)]) for layer in hparams.layers}


@pytest.mark.parametrize("number", range(5))
def test_trained_llama(bench_editor, facts, number, snapshot):
    before = snapshot(bench_editor.model)
    ours, cosines = both(bench_editor.memory, bench_editor.hparams, facts[number])
    assert cosines[1] >= 0.999
    assert ours.info[1][0]["steps"] > 1
    for name, value in snapshot(bench_editor.model).items():
        assert torch.equal(before[name], value)


@pytest.mark.parametrize("layers", [[1], [1, 2]])
@pytest.mark.parametrize("adjusted", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_tiny(family, adjusted, layers, make_model, make_memory, make_hparams, tok):
    memory = make_memory(make_model(family), tok, layers)
    hparams = make_hparams(layers=layers, mom2_adjustment=adjusted)
    request = EditRequest("The mother tongue of Danielle Darrieux is", "Danielle Darrieux", "music")
    _, cosines = both(memory, hparams, request)
    assert min(cosines.values()) >= 0.999
