"""R-ROME: the edited matrix maps the averaged key exactly onto v*."""

import pytest
import torch

from easyedit_rep.errors import EditError
from easyedit_rep.memory.values import ValueConfig, ValueTask, optimise_values
from easyedit_rep.methods import get_method
from easyedit_rep.rep_options import RepOptions
from easyedit_rep.request import EditRequest

REQUEST = EditRequest("The mother tongue of {} is", "Danielle Darrieux", "Spanish")
PROMPT_KEYS = {"enable_prompt_keys": True, "enable_random_prefix_keys": False}
ORIGINAL = {"original_implementation": True, "enable_random_prefix_keys": False}


@pytest.fixture
def solve(make_hparams, tok, make_memory, make_model):
    """(memory, edit) of tiny gpt2 or llama under these options."""

    def run(family, base, method):
        memory = make_memory(make_model(family), tok)
        hparams = make_hparams(rep=RepOptions(base=base), method=method)
        task = ValueTask(REQUEST.located, "Spanish", memory.contexts)
        (value,) = optimise_values(memory.anatomy, tok, 1, [task], ValueConfig.from_hparams(hparams))
        return memory, get_method(base).solve(memory, hparams, [REQUEST]), value

    return run


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("method", [{}, PROMPT_KEYS])
def test_one_key_throughout(solve, family, method):
    memory, edit, value = solve(family, "R-ROME", method)
    rows = memory.context_keys([REQUEST.located], [1])[1][0]
    key = rows[0] if method else rows.mean(0)
    module = memory.anatomy.rewrite(1)
    with torch.no_grad():
        target = module(rows[0]) + value.change
        edit.deltas[1].add_to(memory.anatomy.weight(1))
        torch.testing.assert_close(module(key), target, rtol=1e-3, atol=1e-4)
    u = torch.linalg.solve(memory.covariances[1].moment, key.double())
    row_space = edit.deltas[1].right[0].double()
    assert torch.cosine_similarity(u, row_space, dim=0).abs() > 0.9999
    torch.testing.assert_close(edit.keys[1], key[None])


def test_the_original_implementation_is_rome(solve):
    _, original, _ = solve("llama", "R-ROME", ORIGINAL)
    _, rome, _ = solve("llama", "ROME", None)
    assert torch.equal(original.deltas[1].dense(), rome.deltas[1].dense())


def test_contradictory_switches_are_refused(make_hparams):
    with pytest.raises(EditError, match="enable_prompt_keys and enable_random_prefix_keys: set one of them"):
        make_hparams(rep=RepOptions(base="R-ROME"), method={"enable_prompt_keys": True})
