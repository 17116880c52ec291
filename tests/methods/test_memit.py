"""MEMIT and EMMET against the naive formulas in float64, layer after layer."""

import copy

import pytest
import torch

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.memory.covariance import Covariance
from easyedit_rep.memory.delta import Delta
from easyedit_rep.memory.tokens import locate
from easyedit_rep.memory.values import ValueConfig, ValueTask, optimise_values
from easyedit_rep.methods import BaseEdit, Memory, get_method
from easyedit_rep.methods.memit import average, solve_right
from easyedit_rep.rep_options import RepOptions
from easyedit_rep.request import EditRequest

REQUESTS = [
    EditRequest("The mother tongue of {} is", "Danielle Darrieux", "Spanish"),
    EditRequest("{} plays the", "Ann Lee", "piano and drums"),
    EditRequest("The capital of Japan is near {} in the", "Paris", "winter"),
]
OPTIONS = {
    "MEMIT": {"mom2_update_weight": 20.0},
    "EMMET": {"mom2_update_weight": 20.0, "update_norm_lambda": 3.0, "emmet_lambda": 0.05},
}


@pytest.fixture
def make(make_hparams):
    def hparams(base, **options):
        return make_hparams(layers=[0, 1, 2], **{"method": OPTIONS[base], **options}, rep=RepOptions(base=base, statistics_tokens=600))

    return hparams


def hidden_states(memory: Memory, prompt, layer: int):
    """What decoder layer `layer` gives out at the subject's last token, the model run as a whole."""
    located = locate(memory.tok, prompt)
    out = []
    handle = memory.anatomy.layer(layer).register_forward_hook(lambda _m, _a, o: out.append(o[0] if isinstance(o, tuple) else o))
    with torch.no_grad():
        memory.anatomy.model(input_ids=torch.tensor([located.ids]))
    handle.remove()
    return out[0][0, located.last].double()


def naive(base: str, memory: Memory, hparams, requests) -> dict[int, torch.Tensor]:
    """{layer: ΔW (d, D)} by the papers' formulas, every inverse taken as written, on a copy of the model."""
    twin = Memory(Anatomy(copy.deepcopy(memory.anatomy.model)), memory.tok, memory.contexts, memory.covariances)
    anatomy, options, prompts = twin.anatomy, hparams.method, [r.located for r in requests]
    wanted = []
    for request in requests:
        task = ValueTask(request.located, request.target_new, memory.contexts)
        (value,) = optimise_values(anatomy, memory.tok, 2, [task], ValueConfig.from_hparams(hparams), block="layer")
        torch.testing.assert_close(value.initial.double(), hidden_states(twin, request.located, 2), rtol=1e-4, atol=1e-4)
        wanted.append(value.initial.double() + value.change.double())
    changes = {}
    for j, layer in enumerate([0, 1, 2]):
        rows = twin.context_keys(prompts, [layer])[layer].double()
        keys = ((rows[:, 0] + rows[:, 1:].mean(1)) / 2).T
        residual = torch.stack([w - hidden_states(twin, p, 2) for w, p in zip(wanted, prompts, strict=True)]).T / (3 - j)
        moment = options.mom2_update_weight * memory.covariances[layer].moment
        if base == "MEMIT":
            adjusted = torch.linalg.inv(moment + keys @ keys.T) @ keys
        else:
            inverse = torch.linalg.inv(moment + options.update_norm_lambda * torch.eye(len(moment)).double())
            gram = keys.T @ inverse @ keys + options.emmet_lambda * torch.eye(len(requests)).double()
            adjusted = (torch.linalg.inv(gram) @ keys.T @ inverse).T
        changes[layer] = residual @ adjusted.T
        Delta(changes[layer], None, anatomy.is_transposed(layer)).add_to(anatomy.weight(layer).data)
    return changes


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gptj"])
@pytest.mark.parametrize("base", ["MEMIT", "EMMET"])
def test_equals_the_formulas(base, family, n, make_model, make_memory, make, tok):
    memory, hparams = make_memory(make_model(family), tok, layers=(0, 1, 2)), make(base)
    before = {name: (p, p.clone(), p._version) for name, p in memory.anatomy.model.named_parameters()}
    edit = get_method(base).solve(memory, hparams, REQUESTS[:n])
    for layer, want in naive(base, memory, hparams, REQUESTS[:n]).items():
        found = edit.deltas[layer].dense().double()
        assert torch.linalg.matrix_rank(found, rtol=1e-5) == n
        torch.testing.assert_close(found, want, rtol=2e-3, atol=2e-4 * want.abs().max().item())
    assert {layer: keys.shape for layer, keys in edit.keys.items()} == dict.fromkeys((0, 1, 2), (n, 48))
    assert len(edit.info[2]) == n
    for name, (parameter, value, version) in before.items():
        assert memory.anatomy.model.get_parameter(name) is parameter
        assert torch.equal(parameter, value)
        assert parameter._version == version


def test_layers_close_the_residual_together(llama, tok, make_memory, make):
    """With little weight on the text, the edited model's last edited layer gives out z* at the bare prompts (one context)."""
    memory = make_memory(llama, tok, layers=(0, 1, 2), contexts=("",))
    hparams = make("MEMIT", method={"mom2_update_weight": 1e-6})
    edit: BaseEdit = get_method("MEMIT").solve(memory, hparams, REQUESTS)
    tasks = [ValueTask(r.located, r.target_new, memory.contexts) for r in REQUESTS]
    values = optimise_values(memory.anatomy, tok, 2, tasks, ValueConfig.from_hparams(hparams), block="layer")
    for layer, delta in edit.deltas.items():
        delta.add_to(memory.anatomy.weight(layer).data)
    for request, value in zip(REQUESTS, values, strict=True):
        missing = value.initial.double() + value.change.double() - hidden_states(memory, request.located, 2)
        assert missing.norm() < 0.02 * value.change.norm()


def test_an_exact_constraint_needs_independent_keys(llama, tok, make_memory, make):
    memory = make_memory(llama, tok, layers=(0, 1, 2))
    hparams = make("EMMET", method={"mom2_update_weight": 1.0, "emmet_lambda": 0.0})
    with pytest.raises(EditError, match="linearly dependent: drop requests about the same subject"):
        get_method("EMMET").solve(memory, hparams, [REQUESTS[0], REQUESTS[0]])


def test_average_weighs_the_bare_prompt_as_much_as_the_rest():
    keys = torch.tensor([[[4.0], [1.0], [3.0]]])
    assert average(keys).item() == 3.0
    assert average(keys[:, :1]).item() == 4.0


def test_solve_right_is_the_inverse():
    torch.manual_seed(0)
    columns, root = torch.randn(7, 3).double(), torch.randn(3, 5).double()
    gram = root @ root.T
    torch.testing.assert_close(solve_right(columns, gram, 0.5), columns @ torch.linalg.inv(gram + 0.5 * torch.eye(3).double()))


def test_extra_ridge_of_a_covariance():
    torch.manual_seed(0)
    root = torch.randn(20, 6).double()
    covariance, key = Covariance(root.T @ root, 20), torch.randn(2, 6).double()
    for extra in (0.0, 2.5, 0.0):
        want = torch.linalg.solve(covariance.moment + extra * torch.eye(6).double(), key.T).T
        torch.testing.assert_close(covariance.solve(key, extra), want)


@pytest.mark.parametrize(
    ("base", "options", "said"),
    [
        ("MEMIT", {}, "base MEMIT: missing mom2_update_weight"),
        ("MEMIT", {"mom2_update_weight": 0.0}, "mom2_update_weight: 0.0 is not positive"),
        ("MEMIT", {"mom2_update_weight": 1.0, "layer_selection": "random"}, "layer_selection: 'random' is not supported"),
        ("EMMET", {"mom2_update_weight": 1.0, "emmet_lambda": -1.0}, "emmet_lambda: -1.0 is negative"),
        ("MEMIT", {"mom2_update_weight": 1.0, "emmet_lambda": 0.1}, "unknown key 'emmet_lambda'"),
    ],
)
def test_bad_options_are_refused(make, base, options, said):
    with pytest.raises(EditError, match=said):
        make(base, method=options)
