"""v*: the optimiser that replays a suffix from cached prefixes equals one that runs the whole model on whole sentences."""

import warnings

import pytest
import torch
from torch.nn.functional import cosine_similarity, kl_div, nll_loss
from transformers import BloomConfig, BloomForCausalLM

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.memory.tokens import Prompt, continuation, locate
from easyedit_rep.memory.values import ValueConfig, ValueTask, optimise_values

CONTEXTS = ("", "Therefore the council met again in winter. ", "I like. ")
TASKS = [
    ValueTask(Prompt("The mother tongue of ", "Danielle Darrieux", " is"), "Spanish", CONTEXTS),
    ValueTask(Prompt("", "I", " like"), "a", ("",)),  # one-token target; subject at the very start, one context
    ValueTask(Prompt("Nobody knows much about the city called ", "Łódź", ""), "New Zürich, Japan", CONTEXTS[:2]),  # subject at the end
    ValueTask(Prompt("", "Ann Lee", " plays the"), "piano", CONTEXTS),
]
AT_END = [ValueTask(t.prompt._replace(suffix=""), t.target, t.contexts) for t in TASKS]
CONFIG = {"v_num_grad_steps": 6, "v_lr": 0.1, "v_weight_decay": 0.5, "clamp_norm_factor": 0.5, "kl_factor": 0.3}


def config(**options):
    return ValueConfig(**{**CONFIG, **options})


def naive(anatomy, tok, layer, task, config, block="mlp"):
    """Losses of all steps and the last δ: every sentence alone, in full, through the model itself with δ added by a hook."""
    seen = []

    def logits(ids, at):
        def add(_module, _args, out):
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            seen.append(hidden[0, at].detach().float())
            hidden[0, at] += delta.to(hidden)
            return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

        handle = (anatomy.layer(layer) if block == "layer" else anatomy.mlp(layer)).register_forward_hook(add)
        out = anatomy.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
        handle.remove()
        return out.log_softmax(-1)

    delta = torch.zeros(anatomy.model.config.hidden_size, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=config.v_lr)
    losses, before = [], None
    for step in range(config.v_num_grad_steps):
        nll = []
        for context in task.contexts:
            prompt = task.prompt.after(context)
            known, target = continuation(tok, prompt.text, task.target)
            out = logits(known + target, locate(tok, prompt).last)
            nll.append(nll_loss(out[len(known) - 1 : -1], torch.tensor(target)))
        kl = locate(tok, Prompt("", task.prompt.subject, " is a"))
        now = logits(kl.ids, kl.last)[kl.last]
        before = now.detach() if before is None else before
        divergence = kl_div(before, now, log_target=True, reduction="sum")
        loss = torch.stack(nll).mean() + config.kl_factor * divergence + config.v_weight_decay * delta.norm() / seen[0].norm() ** 2
        losses.append(loss.item())
        if losses[-1] < 0.05 or step == config.v_num_grad_steps - 1:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        limit = config.clamp_norm_factor * seen[0].norm()
        if delta.norm() > limit:
            delta.data *= limit / delta.norm()
    return losses, delta.detach(), seen[0]


def check(anatomy, tok, layer, tasks, options, block="mlp"):
    """All tasks in one batch, at every number of steps, against the naive optimiser task by task."""
    expected = [naive(anatomy, tok, layer, task, options, block) for task in tasks]
    for steps in (1, 2, options.v_num_grad_steps):
        values = optimise_values(anatomy, tok, layer, tasks, ValueConfig(**{**vars(options), "v_num_grad_steps": steps}), block)
        for value, (losses, _, initial) in zip(values, expected, strict=True):
            assert value.steps == min(steps, len(losses))
            assert value.loss == pytest.approx(losses[value.steps - 1], rel=1e-4)
            torch.testing.assert_close(value.initial, initial, rtol=1e-4, atol=1e-5)
    for value, (_, delta, _) in zip(values, expected, strict=True):
        torch.testing.assert_close(value.change, delta, rtol=1e-3, atol=1e-4 * delta.abs().max().item())
    return values


# A change in the last layer reaches later tokens only through the logits at its own: the prompt must end with the subject there.
@pytest.mark.parametrize(
    ("kind", "layer", "tasks"),
    [("bos", 0, TASKS), ("no_bos", 2, TASKS), ("bos", 3, AT_END), ("no_bos", 3, AT_END)],
    ids=["first", "middle", "last", "last, no BOS"],
)
def test_equals_the_whole_model_on_whole_sentences(model, make_tokenizer, kind, layer, tasks):
    check(Anatomy(model), make_tokenizer(kind), layer, tasks, config())


@pytest.mark.parametrize(("layer", "tasks"), [(0, TASKS), (2, TASKS), (3, AT_END)], ids=["first", "middle", "last"])
def test_of_a_whole_layer(model, tok, layer, tasks):
    check(Anatomy(model), tok, layer, tasks, config(), "layer")


def test_many_requests_go_in_several_batches(llama, tok, monkeypatch):
    monkeypatch.setattr("easyedit_rep.memory.values.REPLAYED_TOKENS", 30)
    check(Anatomy(llama), tok, 1, TASKS, config())


def test_with_sentencepiece(llama, make_tokenizer):
    check(Anatomy(llama), make_tokenizer("sentencepiece"), 1, TASKS, config())


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "gptj"])
def test_with_eager_attention(family, make_model, tok):
    model = make_model(family)
    model.config._attn_implementation = "eager"  # `set_attn_implementation` came with Transformers 4.53
    check(Anatomy(model), tok, 1, TASKS, config())


@pytest.mark.parametrize(("layer", "tasks"), [(0, TASKS), (3, AT_END)], ids=["first", "last"])
def test_a_subject_without_any_prefix(model, make_tokenizer, layer, tasks):
    tok = make_tokenizer("no_bos")
    (task,) = [t for t in tasks if t.prompt.subject == "I"]
    assert locate(tok, task.prompt).last == 0, "no token comes before the subject's, so there is no prefix to cache"
    check(Anatomy(model), tok, layer, [task], config())


@pytest.mark.parametrize(("layer", "tasks"), [(0, TASKS), (3, AT_END)], ids=["first", "last"])
def test_unknown_architecture_takes_the_change_at_its_block(llama, tok, layer, tasks):
    known = Anatomy(llama)
    llama.config.model_type = "martian"
    anatomy = Anatomy(llama, **vars(known.names))
    assert not anatomy.residual
    check(anatomy, tok, layer, tasks, config())


def test_requests_do_not_see_each_other(llama, tok):
    anatomy = Anatomy(llama)
    together = optimise_values(anatomy, tok, 1, TASKS, config())
    for task, value in zip(TASKS, together, strict=True):
        (alone,) = optimise_values(anatomy, tok, 1, [task], config())
        torch.testing.assert_close(alone.change, value.change, rtol=1e-3, atol=1e-5)
        assert (alone.steps, alone.loss) == (value.steps, pytest.approx(value.loss, rel=1e-4))


def test_each_request_stops_at_its_own_convergence(llama, tok):
    with torch.no_grad():
        llama.lm_head.weight *= 8  # else no change makes a random model sure of anything
    tasks = [ValueTask(t.prompt, target, ("",)) for t, target in zip(AT_END[::-1], ["in", "he", "a", "on"], strict=True)]
    options = config(v_num_grad_steps=30, v_lr=0.3, v_weight_decay=0.0, clamp_norm_factor=100.0, kl_factor=3e-4)
    values = check(Anatomy(llama), tok, 1, tasks, options)
    assert len({value.steps for value in values}) == 3, "two of them converge, at steps of their own"
    for value in values:
        assert (value.loss < 0.05) == (value.steps < 30) == (value.probability > 0.95)


def test_the_change_is_clamped(llama, tok):
    options = config(v_lr=5.0, clamp_norm_factor=0.25)
    for value in check(Anatomy(llama), tok, 1, TASKS, options):
        assert value.change.norm() == pytest.approx(0.25 * value.initial.norm().item(), rel=1e-5)


def test_probability_is_the_mean_over_contexts(llama, tok):
    anatomy, task = Anatomy(llama), TASKS[0]
    (value,) = optimise_values(anatomy, tok, 1, [task], config(v_num_grad_steps=1))
    each = [naive(anatomy, tok, 1, ValueTask(task.prompt, task.target, [c]), config(v_num_grad_steps=1))[0][0] for c in task.contexts]
    assert value.probability == pytest.approx(torch.tensor(each).neg().exp().mean().item(), rel=1e-4)


def test_transformers_has_nothing_to_warn_of(model, tok):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimise_values(Anatomy(model), tok, 1, TASKS, config(v_num_grad_steps=1))


def test_model_is_left_as_it_was(model, tok):
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimise_values(Anatomy(model), tok, 1, TASKS, config())
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])
        assert p.grad is None
        assert p.requires_grad == (p is not frozen)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_half_precision_follows_full_precision(model, tok):
    options = config(v_num_grad_steps=2, v_weight_decay=0.0, kl_factor=0.0)
    full = optimise_values(Anatomy(model), tok, 1, TASKS, options)
    half = optimise_values(Anatomy(model.bfloat16()), tok, 1, TASKS, options)
    for a, b in zip(full, half, strict=True):
        assert b.change.dtype == b.initial.dtype == torch.float32
        # As a direction: the random Gemma multiplies its embeddings, and bfloat16's rounding, by √d.
        assert cosine_similarity(a.initial, b.initial, dim=0) > 0.98
        # Adam's first step is the gradient's signs; those of small entries are lost in bfloat16.
        assert cosine_similarity(a.change, b.change, dim=0) > 0.7


@pytest.mark.parametrize("task", TASKS, ids=["BOS", "one token", "at the end", "short"])
def test_steps_in_bfloat16_follow_those_in_float32(model, tok, task):
    """Only the frozen weights are rounded: where the optimisation begins stays exact."""
    options = {"v_num_grad_steps": 2, "v_weight_decay": 0.0, "kl_factor": 0.0}
    (full,) = optimise_values(Anatomy(model), tok, 1, [task], config(**options))
    (half,) = optimise_values(Anatomy(model), tok, 1, [task], config(**options, v_dtype="bfloat16"))
    assert torch.equal(half.initial, full.initial)
    assert half.change.dtype == torch.float32
    assert not torch.equal(half.change, full.change)
    assert half.loss == pytest.approx(full.loss, rel=0.1)
    assert cosine_similarity(half.change, full.change, dim=0) > 0.7
    assert not any("forward" in m.__dict__ for m in model.modules())


@pytest.mark.gpu
@pytest.mark.parametrize("task", TASKS, ids=["BOS", "one token", "at the end", "short"])
@pytest.mark.parametrize("steps", [2, 3, 12])
def test_replayed_graphs_do_what_steps_do(model, tok, task, steps):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    anatomy = Anatomy(model.cuda())
    for _ in range(2):  # a second edit in the same process
        (plain,) = optimise_values(anatomy, tok, 1, [task], config(v_num_grad_steps=steps))
        (graphed,) = optimise_values(anatomy, tok, 1, [task], config(v_num_grad_steps=steps, cuda_graphs=True))
        assert (graphed.steps, graphed.loss) == (plain.steps, pytest.approx(plain.loss, rel=1e-3))
        torch.testing.assert_close(graphed.change, plain.change, rtol=1e-2, atol=1e-3 * plain.change.abs().max().item())


def test_broken_weights_are_refused(llama, tok):
    with torch.no_grad():
        llama.model.layers[3].mlp.up_proj.weight[0, 0] = torch.inf
    llama.requires_grad_(True)
    with pytest.raises(EditError, match=r"the loss of 'The mother tongue .* is' -> 'Spanish' is NaN or infinite: check"):
        optimise_values(Anatomy(llama), tok, 1, TASKS, config())
    assert all(p.requires_grad for p in llama.parameters())


def test_a_target_that_merges_with_its_subject_is_refused(llama, tok):
    task = ValueTask(Prompt("Much is known about ", "Steve ", ""), "of Apple", ("",))
    with pytest.raises(EditError, match="target 'of Apple' merges with subject 'Steve '"):
        optimise_values(Anatomy(llama), tok, 1, [task], config())


def test_an_unknown_familys_mlp_may_take_more_than_hidden_states(tok):
    """Bloom's takes the residual too."""
    sizes = {"hidden_size": 32, "n_layer": 4, "n_head": 2, "vocab_size": 600, "pad_token_id": 0}
    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(**sizes)).eval()
    names = {"rewrite_module_tmp": "transformer.h.{}.mlp.dense_4h_to_h", "mlp_module_tmp": "transformer.h.{}.mlp"}
    anatomy = Anatomy(model, layer_module_tmp="transformer.h.{}", ln_f_module="transformer.ln_f", lm_head_module="lm_head", **names)
    (found,) = optimise_values(anatomy, tok, 1, TASKS[:1], config(), block="layer")
    losses, delta, _ = naive(anatomy, tok, 1, TASKS[0], config(), block="layer")
    assert found.loss == pytest.approx(losses[-1], rel=1e-3)
    assert cosine_similarity(found.change, delta, dim=0) > 0.999
