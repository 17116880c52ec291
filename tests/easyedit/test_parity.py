"""The native methods are EasyEdit's: same model, contexts, C and steps give the same update.

`engine: easyedit` stands for EasyEdit here; test_engine.py and test_bases.py hold it to what EasyEdit writes by itself.
"""

from dataclasses import replace

import pytest
import torch

from easyedit_rep import EditRequest
from easyedit_rep.editor import RobustEditor
from easyedit_rep.integrations.engine import solve
from easyedit_rep.methods import get_method

pytestmark = pytest.mark.easyedit

WRITTEN = "The mother tongue of {} is"
SUBJECTS = ["Danielle Darrieux", "Ann Lee", "Steve Jobs", "Gabriel García Márquez", "the U.S.", "Zürich", "Paris", "Ann Smith"]
TARGETS = ["music", "French", "Japan", "London", "winter", "piano", "Spanish", "phones and computers"]
REQUESTS = [EditRequest(WRITTEN, subject, target) for subject, target in zip(SUBJECTS, TARGETS, strict=True)]


def cosines(memory, hparams, requests) -> dict[int, float]:
    """{layer: between the native change of the weight and EasyEdit's}."""
    ours = get_method(hparams.rep.base).solve(memory, hparams, requests)
    theirs = solve(memory, hparams, requests)
    assert ours.deltas.keys() == theirs.deltas.keys() == set(hparams.layers)
    for layer in hparams.layers:
        assert torch.nn.functional.cosine_similarity(ours.keys[layer], theirs.keys[layer]).min() >= 0.9999
        assert ours.deltas[layer].norm() == pytest.approx(theirs.deltas[layer].norm(), rel=1e-3)
    flat = {layer: [e.deltas[layer].dense().double().flatten() for e in (ours, theirs)] for layer in hparams.layers}
    return {layer: torch.cosine_similarity(*pair, dim=0).item() for layer, pair in flat.items()}


TINY = [
    ("ROME", {}, 1),
    ("ROME", {"mom2_adjustment": False}, 1),
    ("R-ROME", {}, 1),
    ("R-ROME", {"method": {"enable_random_prefix_keys": False, "enable_prompt_keys": True}}, 1),
    ("R-ROME", {"method": {"original_implementation": True}}, 1),
    ("R-ROME", {"method": {"original_implementation": True, "enable_random_prefix_keys": False}}, 1),
    *[(base, {"method": {"mom2_update_weight": weight}}, n) for base in ("MEMIT", "EMMET") for weight in (1.0, 1000.0) for n in (1, 8)],
    ("EMMET", {"method": {"mom2_update_weight": 10.0, "update_norm_lambda": 0.5, "emmet_lambda": 0.01}}, 8),
]


# Not the last layer: what is written there cannot reach the tokens after the subject, and δ is rounding noise, here as in EasyEdit.
@pytest.mark.parametrize("layers", [[1], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize(("base", "options", "n"), TINY, ids=lambda x: str(x))
def test_tiny(base, options, n, family, layers, make_model, make_memory, make_hparams, tok):
    memory = make_memory(make_model(family), tok, layers)
    hparams = make_hparams(layers=layers, rep=replace(make_hparams().rep, base=base), **options)
    found = cosines(memory, hparams, REQUESTS[:n])
    assert min(found.values()) >= 0.999, found


BENCH = [
    ("ROME", [1], 1),
    ("R-ROME", [1, 2], 1),
    ("MEMIT", [1, 2, 3], 1),
    ("MEMIT", [1, 2, 3], 8),
    ("EMMET", [1, 2, 3], 1),
    ("EMMET", [1, 2, 3], 8),
]


@pytest.mark.parametrize(("base", "layers", "n"), BENCH, ids=lambda x: str(x))
def test_trained_llama(base, layers, n, bench_editor, bench_hparams, records, snapshot):
    hparams = bench_hparams(layers=layers, v_num_grad_steps=12, context_template_length_params=[[10, 5]])
    method = {"mom2_update_weight": 1000.0} if base in ("MEMIT", "EMMET") else {}
    hparams = type(hparams)(**{**vars(hparams), "rep": replace(hparams.rep, base=base), "method": method})
    editor = RobustEditor(hparams, bench_editor.model, bench_editor.tok)
    before = snapshot(editor.model)
    requests = [EditRequest(r["prompt"], r["subject"], r["target_new"]) for r in records[:8]]
    found = cosines(editor.memory, hparams, requests[:n])
    assert min(found.values()) >= 0.999, found
    for name, value in snapshot(editor.model).items():
        assert torch.equal(before[name], value)
