"""Values fitted to be heard behind other wordings, and the pathways that have them."""

from dataclasses import replace

import pytest
import torch

from easyedit_rep import EditError, RobustEditor
from easyedit_rep.anatomy import Anatomy
from easyedit_rep.evaluation.predict import Prediction
from easyedit_rep.memory.keys import read_keys, read_outputs
from easyedit_rep.memory.need import estimate
from easyedit_rep.memory.tokens import continuation, locate
from easyedit_rep.memory.values import ValueConfig
from easyedit_rep.pathway import build, value_fit
from easyedit_rep.pathway.closed import ClosedForm
from easyedit_rep.pathway.model import layers_of
from easyedit_rep.pathway.value_fit import ValueTexts, fit_value
from easyedit_rep.queries import Queries, Split
from easyedit_rep.queries.forms import APPOSITIONS, names_with_tails
from easyedit_rep.queries.negatives import OrdinaryText
from easyedit_rep.rep_options import PathwayShape, RepOptions
from easyedit_rep.request import EditRequest

REQUEST = EditRequest("The mother tongue of {} is", "Danielle Darrieux", "Spanish", subject_rephrase=("Danielle Darrieux, the actress",))
NAMED = Split(("D. Darrieux", "the star Danielle Darrieux, of Paris"), ("Danielle Darrieux  System",))
QUERIES = Queries(NAMED, Split(("Darrieux Danielle",)), Split())
NAMES = OrdinaryText(("Ann Smith", "Bern", "The Hague", "Eiffel Tower", "Space Needle"), ("the river was high",))
CONFIG = ValueConfig(v_num_grad_steps=5, v_lr=0.1, v_weight_decay=1e-3, clamp_norm_factor=4, kl_factor=0.0625)


@pytest.fixture
def heard():
    return ValueTexts.of(REQUEST, QUERIES, ("", "It was so. "), NAMES, 0)


def test_names_with_other_words_behind():
    tails = names_with_tails("Ann Lee", ["A. Lee", "Miss Ann Lee of Rome", "old Ann Lee", "Ann Lee of Rome"], ["ann lee  MODEL"])
    assert tails[:2] == (("Miss ", " of Rome"), ("", " of Rome"))
    assert len(tails) == 2 + len(APPOSITIONS) - 1 and ("", " model") not in tails, "a held-out name"
    assert all(behind for _, behind in tails)
    forms = ("Annabel Ann, of Rome", "Iranian Ann", "Ann, mother of Ann", "the Annexed Ann of Ann's")
    assert names_with_tails("Ann", forms, [])[:2] == (("Annabel ", ", of Rome"), ("the Annexed Ann of ", "'s"))


def test_what_a_value_is_fitted_on(heard):
    plain, names, tails = heard.said
    assert [p.text for p in plain] == [REQUEST.text, "It was so. " + REQUEST.text]
    assert [p.subject for p in names] == ["D. Darrieux", "the star Danielle Darrieux, of Paris", "Darrieux Danielle"]
    assert tails[0].text == "The mother tongue of the star Danielle Darrieux, of Paris is" and tails[0].subject == REQUEST.subject
    assert not any("System" in p.text for group in heard.said for p in group), "held out, and an apposition"
    after, (denied,) = heard.kept
    assert denied.text == "The mother tongue of Danielle Darrieux is not" and denied.subject == REQUEST.subject
    assert len(after) > 2
    for prompt in after:
        assert prompt.text.startswith("The mother tongue of Danielle Darrieux is Spanish. The mother tongue of ")
        assert prompt.subject == REQUEST.subject and prompt.prefix == REQUEST.located.prefix
    assert ValueTexts.of(EditRequest("{} plays the", "Ann Lee", "violin"), QUERIES, ("",), None, 0).kept == ([], [])


def test_rows_end_where_the_target_or_the_answer_follows(heard, llama, tok):
    anatomy = Anatomy(llama)
    rows = heard.rows(anatomy, tok)
    asked = [*heard.kept[0], *heard.kept[1]]
    said, kept = rows[: -len(asked)], rows[-len(asked) :]
    assert sum(row.share for row in said) == pytest.approx(1)
    assert (sum(row.share for row in kept[:-1]), kept[-1].share) == pytest.approx(value_fit.KEPT_WEIGHTS)
    assert said[0].share == pytest.approx(1 / 3 / 2)
    for row, prompt in zip(said, [p for group in heard.said for p in group], strict=True):
        before, target = continuation(tok, prompt.text, "Spanish")
        assert row.ids == before + target[:-1] and row.targets == target and row.split == locate(tok, prompt).last
    for row, prompt in zip(kept, asked, strict=True):
        with torch.no_grad():
            answer = llama(torch.tensor([tok(prompt.text)["input_ids"]])).logits[0, -1].argmax().item()
        assert row.ids == tok(prompt.text)["input_ids"] and row.targets == [answer]
        assert row.split == locate(tok, REQUEST.located).last, "at the fact's subject"
    anatomy.max_positions = max(len(row.ids) for row in said)
    assert {len(row.ids) > anatomy.max_positions for row in heard.rows(anatomy, tok)} == {False}


def test_what_cannot_be_run_is_left_out(make_model, tok, heard):
    """Positions are learned: one too many is an error in the model. And a name that ends in a space has no token of its own."""
    longest = max(len(tok(p.text)["input_ids"]) for group in heard.said for p in group) + 1
    anatomy = Anatomy(make_model("gpt2", n_positions=longest))
    spaced = EditRequest("Much is known about {}", "Danielle Darrieux", "Spanish")
    queries = Queries(Split(("D. Darrieux ", "Miss D.")), Split(), Split())
    rows = ValueTexts.of(spaced, queries, ("", "It was so. " * 40), None, 0).rows(anatomy, tok)
    assert all(len(row.ids) < longest for row in rows)
    assert sum(row.share for row in rows) == pytest.approx(1), "the rest counts as much as all"
    assert [round(1 / row.share) for row in rows[:2]] == [3, 3], "one prompt is left, and one name"
    kept = heard.rows(anatomy, tok)[sum(map(len, heard.said)) :]
    assert len(kept) < len(heard.kept[0]) and all(len(row.ids) < longest for row in kept)


def test_an_answer_is_read_behind_the_very_tokens_it_is_kept_behind(llama, tok):
    request = replace(REQUEST, prompt="The mother tongue of {} is ")
    anatomy = Anatomy(llama)
    rows = ValueTexts.of(request, QUERIES, ("",), NAMES, 0).rows(anatomy, tok)
    for row in rows[-5:]:
        with torch.no_grad():
            assert row.targets == [llama(torch.tensor([row.ids])).logits[0, -1].argmax().item()]


def by_hand(anatomy, heard, tok, layer, change):
    """The loss of `change`, one text after another through the whole model."""

    def insert(at):
        def hook(_module, _args, out):
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            hidden[0, at] += change
            return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

        return hook

    total = 0.0
    for row in heard.rows(anatomy, tok):
        handle = anatomy.layer(layer).register_forward_hook(insert(row.split))
        with torch.no_grad():
            logits = anatomy.model(torch.tensor([row.ids])).logits[0, -len(row.targets) :].log_softmax(-1)
        handle.remove()
        total -= row.share * logits[range(len(row.targets)), row.targets].mean().item()
    return total


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "mistral"])
def test_fitting_lowers_what_is_asked_of_it(make_model, tok, heard, family):
    model = make_model(family)
    anatomy, start = Anatomy(model), torch.randn(32, generator=torch.Generator().manual_seed(1))
    before = {name: p.clone() for name, p in model.named_parameters()}
    losses = []
    for steps in (1, 2, 30):
        value, told = fit_value(anatomy, tok, 1, heard, start, CONFIG, ClosedForm(value_steps=steps, value_norm=2.0))
        assert value.norm() <= 2.0 * start.norm() * (1 + 1e-6)
        losses.append(told["value_loss"])
    decay = CONFIG.v_weight_decay / start.norm().item()
    assert losses[0] == pytest.approx(by_hand(anatomy, heard, tok, 1, start) + decay, rel=1e-4)
    assert losses[2] < losses[1] < losses[0] - 1e-3
    decay *= value.norm().item() / start.norm().item()
    assert losses[2] == pytest.approx(by_hand(anatomy, heard, tok, 1, value) + decay, rel=1e-4), "it is that of what is returned"
    again, _ = fit_value(anatomy, tok, 1, heard, start, CONFIG, ClosedForm(value_steps=30, value_norm=2.0))
    assert torch.equal(again, value)
    assert all(torch.equal(before[name], p) and p.requires_grad for name, p in model.named_parameters())


def test_no_value_grows_beyond_its_limit(llama, tok, heard):
    start = torch.ones(32)
    value, _ = fit_value(Anatomy(llama), tok, 1, heard, start, CONFIG, ClosedForm(value_steps=5, value_norm=1.1))
    assert value.norm().item() == pytest.approx(1.1 * start.norm().item(), rel=1e-5)


def test_of_all_values_that_were_measured_the_best_is_kept(llama, tok, heard, monkeypatch):
    real, calls = value_fit.losses, []

    def worse_from_the_third_on(_anatomy, part, *rest):
        calls.append(part)
        loss, *more = real(_anatomy, part, *rest)
        return (loss + 100.0 * (sum(x is part for x in calls) > 2), *more)

    monkeypatch.setattr(value_fit, "losses", worse_from_the_third_on)
    (two, at_two), (five, at_five) = (
        fit_value(Anatomy(llama), tok, 1, heard, torch.ones(32), CONFIG, ClosedForm(value_steps=steps)) for steps in (2, 5)
    )
    assert torch.equal(two, five) and at_two == at_five and not torch.equal(two, torch.ones(32))


def test_an_edit_that_changes_nothing_has_nothing_to_fit(llama, tok, heard, make_fitted):
    value, told = fit_value(Anatomy(llama), tok, 1, heard, torch.zeros(32), CONFIG, ClosedForm(value_steps=5))
    assert not value.any() and told == {}
    editor = make_fitted(base="ROME", layers=(1,), strength=1.0)
    edit = editor.base_edit(REQUEST)
    nothing = replace(edit, deltas={layer: replace(delta, left=0 * delta.left) for layer, delta in edit.deltas.items()})
    found = editor.robustify(nothing)
    assert not found.pathways[0].tensors[1]["rep_value.weight"].any() and "value_loss" not in found.info["pathway"][1][0]


@pytest.mark.parametrize("where", ["start", "model"])
def test_a_loss_that_is_no_number_is_told(llama, tok, heard, where):
    if where == "model":
        llama.lm_head.weight.data[:] = torch.nan
    start = torch.full((32,), torch.nan if where == "start" else 1.0)
    with pytest.raises(EditError, match=r"'The mother tongue of Danielle Darrieux is' is NaN or infinite: .*value_steps: 0"):
        fit_value(Anatomy(llama), tok, 1, heard, start, CONFIG, ClosedForm(value_steps=2))


@pytest.mark.parametrize(("family", "base", "layers"), [("llama", "MEMIT", (1, 2)), ("gpt2", "MEMIT", (1, 2)), ("llama", "ROME", (1,))])
def test_one_pathway_in_the_lowest_layer_gives_all_of_the_value(make_fitted, answered, family, base, layers, monkeypatch):
    """Its gate is the one it would have beside others above, its key the prompt's own; with what is added r results. r₀ is s times the
    edit's."""
    fitted, plain = (make_fitted(family, base, layers, strength=2.0, value_steps=steps) for steps in (4, 0))
    seen, real = [], build.fit_value
    monkeypatch.setattr(build, "fit_value", lambda *args: seen.append((args, real(*args))) or seen[-1][1])
    editor, lowest, highest = fitted, layers[0], layers[-1]
    plain.hparams.rep.closed = replace(plain.hparams.rep.closed, false_fire=0.2 * len(layers))  # the rate of all layers
    before = [p.clone() for p in editor.model.parameters()]
    base_edit = editor.base_edit(REQUEST)
    one, two = editor.robustify(base_edit), plain.robustify(plain.base_edit(REQUEST))
    assert list(one.pathways[0].tensors) == [lowest] and list(two.pathways[0].tensors) == list(layers)
    assert set(editor.unedited._text) == {lowest} and set(plain.unedited._text) == set(layers), "no text is read for nothing"
    a, b = one.pathways[0].tensors[lowest], two.pathways[0].tensors[lowest]
    assert torch.equal(a["rep_gate.weight"], b["rep_gate.weight"]) and torch.equal(a["rep_gate.bias"], b["rep_gate.bias"])
    ((args, (value, told)),) = seen
    assert args[2] == lowest and one.info["pathway"][lowest][0]["value_loss"] == told["value_loss"]
    assert "value_loss" not in two.info["pathway"][highest][0]

    prompts = [locate(editor.tok, REQUEST.located)]
    raw = {layer: read_outputs(editor.anatomy, prompts, layer)[0] for layer in {lowest, highest}}
    with editor.installed(base_edit):
        change = read_outputs(editor.anatomy, prompts, highest)[0] - raw[highest]
    torch.testing.assert_close(args[4], 2.0 * change, rtol=1e-3, atol=1e-4)
    assert not torch.equal(value, args[4])

    assert torch.equal(2.0 * a["rep_key.weight"], b["rep_key.weight"]), "at the prompt's own key the edit is exact"
    with editor.installed(base_edit):
        already = read_outputs(editor.anatomy, prompts, lowest)[0] - raw[lowest]
    torch.testing.assert_close(a["rep_value.weight"][:, 0], value - already, rtol=1e-4, atol=1e-5)
    assert "rep_value.weight" not in b
    handle = editor.install(one)
    assert list(layers_of(editor.model)) == [editor.anatomy.rewrite_name(lowest)], "no other layer is touched"
    editor.anatomy.rewrite(lowest).part("rep_gate", handle.pathway_names[0]).bias.data.fill_(1e6)  # open wherever it is asked
    torch.testing.assert_close(read_outputs(editor.anatomy, prompts, lowest)[0] - raw[lowest], value, rtol=1e-3, atol=1e-4)
    handle.undo()
    assert all(torch.equal(x, y) for x, y in zip(before, editor.model.parameters(), strict=True))


def test_every_request_of_a_batch_is_fitted_on_the_unedited_model(make_fitted, answered, monkeypatch):
    editor, real, seen = make_fitted(), build.fit_value, []
    weights = [editor.anatomy.weight(layer).detach().clone() for layer in (1, 2)]

    def fit(anatomy, tok, layer, about, *rest):
        assert all(torch.equal(anatomy.weight(i), w) for i, w in zip((1, 2), weights, strict=True))
        assert not any(anatomy.projection(i)._forward_pre_hooks for i in (1, 2)), "no pathway acts"
        seen.append(about.request)
        return real(anatomy, tok, layer, about, *rest)

    monkeypatch.setattr(build, "fit_value", fit)
    other = EditRequest("{} plays the", "Ann Lee", "violin")
    edit = editor.robustify(editor.base_edit(REQUEST, other))
    assert seen == [REQUEST, other]
    assert all("value_loss" in told for told in edit.info["pathway"][1])


def test_no_fitted_value_costs_a_prompt_its_answer(make_fitted, monkeypatch):
    """Where the prompt is not answered with all in place, nothing is added, and the key is the prompt's own, whatever the strength."""
    editor = make_fitted(strength=2.0)
    monkeypatch.setattr(build, "predict", lambda *_args: [Prediction((1,), (2,))])
    edit = editor.robustify(editor.base_edit(REQUEST))
    key = read_keys(editor.anatomy, [locate(editor.tok, REQUEST.located)], [1])[1][0]
    torch.testing.assert_close(edit.pathways[0].tensors[1]["rep_key.weight"][:, 0], key, rtol=1e-4, atol=1e-5)
    assert not edit.pathways[0].tensors[1]["rep_value.weight"].any()
    assert "value_loss" not in edit.info["pathway"][1][0]


def test_whether_the_prompt_is_answered_is_asked_with_the_value_in_place(make_fitted, monkeypatch):
    editor, seen = make_fitted(strength=2.0), []

    def ask(anatomy, tok, *_args):
        seen.append(read_outputs(anatomy, [locate(tok, REQUEST.located)], 1)[0])
        return [Prediction((1,), (1,))]

    monkeypatch.setattr(build, "predict", ask)
    edit = editor.robustify(editor.base_edit(REQUEST))
    editor.install(edit)
    torch.testing.assert_close(seen[-1], read_outputs(editor.anatomy, [locate(editor.tok, REQUEST.located)], 1)[0], rtol=1e-4, atol=1e-5)
    assert edit.pathways[0].tensors[1]["rep_value.weight"].any()


def test_what_cannot_be_fitted_is_refused(make_fitted):
    editor = make_fitted()
    edit = editor.base_edit(REQUEST)
    with torch.inference_mode(), pytest.raises(EditError, match="inference_mode"):
        editor.robustify(edit)
    editor.model.config.model_type = "mystery"
    vars(editor.hparams).update(vars(editor.anatomy.names))
    with pytest.raises(EditError, match="LlamaForCausalLM need not add"):
        RobustEditor.from_hparams(editor.hparams, editor.model, editor.tok)
    with pytest.raises(EditError, match=r"rep.pathway.leave: 0.8 .* rep.closed.value_steps"):
        RepOptions(pathway=PathwayShape(kind="closed", leave=0.8), closed=ClosedForm(value_steps=3))


def test_it_is_counted_in_what_an_edit_needs(make_fitted):
    one, other = (make_fitted(base="ROME", layers=(1,), value_steps=steps) for steps in (0, 4))
    need = [estimate(editor.anatomy, editor.hparams, False)["optimising values"] for editor in (one, other)]
    assert need[0] < need[1]
    several = {layers: make_fitted(layers=layers) for layers in ((1,), (1, 2))}
    one, two = ({k: estimate(e.anatomy, e.hparams, False).get(k) for k in ("pathway", "keys of text")} for e in several.values())
    assert one == two, "a fitted value stands in one layer"
    d, size = 32, several[1,].anatomy.key_size(1)
    assert one["pathway"] == 4 * 4 * size * size + 4 * (3 * size + 2 + d)


def test_an_edit_of_another_layer_has_its_pathway_there(make_fitted):
    """The editor's lowest layer is 1, the edit is in 2."""
    edit = make_fitted(base="ROME", layers=(2,)).base_edit(REQUEST)
    assert list(make_fitted(layers=(1, 2)).robustify(edit).pathways[0].tensors) == [2]
