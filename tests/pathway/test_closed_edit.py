"""Closed-form pathways around edits, from the editor to the ledger and back."""

from dataclasses import replace

import pytest
import torch

from easyedit_rep import EditError, RobustEditor
from easyedit_rep.evaluation.predict import Prediction
from easyedit_rep.pathway import build
from easyedit_rep.pathway.closed import ClosedForm
from easyedit_rep.pathway.model import layers_of
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import PathwayShape, QueryOptions, RepOptions
from easyedit_rep.request import EditRequest

REQUESTS = [
    EditRequest("The mother tongue of {} is", "Otto Brandt", "Spanish", subject_rephrase=("Mr. Brandt", "O. Brandt")),
    EditRequest("{} plays the", "Ann Lee", "violin"),
]


@pytest.fixture
def make_editor(make_hparams, make_model, tok, texts, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    rep = RepOptions(
        base="MEMIT",
        corpus=str(path),
        statistics_tokens=600,
        text_tokens=600,
        pathway=PathwayShape(kind="closed", detectors=2),
        training=PathwayTraining(
            other_subjects=8,
            shuffled_subjects=4,
            after_fact=8,
            same_words=4,
            first_tokens=50,
            stray_words=4,
            neighbours=4,
            subject_forms=True,
        ),
        closed=ClosedForm(false_fire=0.01, strength=2.0),
        queries=QueryOptions(shuffle_count=2, long_context_count=2, long_context_tokens=20),
    )

    def make(family="llama", **changes):
        hparams = make_hparams(layers=[1, 2], rep=replace(rep, **changes), method={"mom2_update_weight": 20.0})
        return RobustEditor.from_hparams(hparams, make_model(family), tok)

    return make


def inputs(editor, text):
    """{layer: what the down-projection itself gets (T, D)}, behind any pathway."""
    seen = {}
    with torch.no_grad():
        for layer in editor.hparams.layers:
            projection = editor.anatomy.projection(layer)
            handle = projection.register_forward_pre_hook(lambda _m, args, layer=layer: seen.setdefault(layer, args[0][0].clone()))
            try:
                editor.model(torch.tensor([editor.tok(text)["input_ids"]]))
            finally:
                handle.remove()
    return seen


def test_without_text_there_is_nothing_to_tell_the_subject_from(make_editor):
    editor = make_editor(text_tokens=0)
    edit = editor.base_edit(*REQUESTS)
    with pytest.raises(EditError, match="text_tokens: 0 tokens are too few"):
        editor.robustify(edit)


def test_text_that_is_missing_is_missed_before_the_first_edit(make_editor, tmp_path, monkeypatch):
    editor = make_editor(queries=QueryOptions(shuffle_count=2, long_context_count=0))
    editor.memory  # noqa: B018 (C is there)
    (tmp_path / "text.txt").unlink()
    del editor.unedited.corpus
    monkeypatch.setattr(editor, "base_edit", lambda *_requests: pytest.fail("it was edited"))
    with pytest.raises(EditError, match=r"text\.txt"):
        editor.edit_requests(REQUESTS[:1], verbose=False)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_it_acts_is_undone_bit_for_bit_and_is_small(make_editor, family):
    editor = make_editor(family)
    names = [n for n, _ in editor.model.named_parameters()]
    before = [p.clone() for p in editor.model.parameters()]
    edit = editor.apply(*REQUESTS)
    layers = layers_of(editor.model)
    assert [len(layer.rep_count) for layer in layers.values()] == [2, 2]
    for pathway in edit.pathways:
        for tensors in pathway.tensors.values():
            assert {name: tuple(t.shape) for name, t in tensors.items()} == {
                "rep_gate.weight": (2, 48),
                "rep_gate.bias": (2,),
                "rep_key.weight": (48, 1),
            }
    assert set(edit.info["pathway"][1][0]) == {"open", "false_fire", "threshold"}
    edit.undo()
    assert [n for n, _ in editor.model.named_parameters()] == names
    assert all(torch.equal(a, b) for a, b in zip(before, editor.model.parameters(), strict=True))


def test_at_the_subjects_last_token_the_key_is_the_prompts(make_editor):
    editor = make_editor(closed=ClosedForm(false_fire=0.2, strength=1.0))
    bare = editor.install(editor.base_edit(REQUESTS[0]))
    raw = inputs(editor, REQUESTS[0].text)
    bare.undo()
    edit = editor.apply(REQUESTS[0])
    layer = layers_of(editor.model)[editor.anatomy.rewrite_name(1)]
    key = edit.pathways[0].tensors[1]["rep_key.weight"][:, 0]
    opened = layer.is_open(raw[1], edit.pathway_names[0]).squeeze(-1)
    assert opened.any()
    assert not opened.all()
    assert torch.equal(inputs(editor, REQUESTS[0].text)[1][opened], key.expand(int(opened.sum()), 48))
    assert (raw[1] - key).abs().amax(-1).min() < 1e-4, "which is the key of one of its tokens"
    edit.undo()


def test_the_same_seed_gives_the_same_bits(make_editor):
    one, two = (make_editor().robustify(e.base_edit(REQUESTS[1])) for e in (make_editor(), make_editor()))
    for a, b in zip(one.pathways, two.pathways, strict=True):
        assert all(torch.equal(a.tensors[i][n], b.tensors[i][n]) for i in a.tensors for n in a.tensors[i])


def test_without_statistics_the_text_itself_stands_for_c(make_editor):
    editor = make_editor()
    edit = editor.base_edit(REQUESTS[1])
    with_c = editor.robustify(edit)
    editor.unedited.memory.covariances.clear()
    editor.hparams.rep = replace(editor.hparams.rep, training=replace(editor.hparams.rep.training, target="raw"))
    without = editor.robustify(edit)
    assert not torch.equal(*(e.pathways[0].tensors[1]["rep_gate.weight"] for e in (with_c, without)))


def test_no_strength_costs_a_prompt_its_answer(make_editor, monkeypatch):
    """Prompts are asked with all of the edit in place; the pathway of the one that is not answered then is of strength 1."""
    plain, editor = (make_editor(closed=ClosedForm(false_fire=0.2, strength=strength)) for strength in (1.0, 2.0))
    key, other = (pathway.tensors[1]["rep_key.weight"] for pathway in plain.robustify(plain.base_edit(*REQUESTS)).pathways)
    base = editor.base_edit(*REQUESTS)
    weights = {layer: editor.anatomy.weight(layer).detach().clone() for layer in (1, 2)}
    met = []

    def answers(anatomy, _tok, texts, targets):
        assert texts == [r.text for r in REQUESTS] and targets == [r.target_new for r in REQUESTS]
        for layer, delta in base.deltas.items():
            torch.testing.assert_close(anatomy.weight(layer).detach(), weights[layer] + delta.dense(), rtol=1e-4, atol=1e-5)
        met.append((inputs(editor, texts[0])[1] - 2 * key[:, 0]).abs().amax(-1).min().item())
        return [Prediction((1,), (1,)), Prediction((1,), (2,))]

    monkeypatch.setattr(build, "predict", answers)
    kept, taken_back = editor.robustify(base).pathways
    assert met == [pytest.approx(0, abs=1e-6)], "the first prompt's subject was met by its pathway"
    torch.testing.assert_close(kept.tensors[1]["rep_key.weight"], 2 * key)
    torch.testing.assert_close(taken_back.tensors[1]["rep_key.weight"], other)
    assert all(torch.equal(editor.anatomy.weight(layer), weight) for layer, weight in weights.items())


def test_at_the_edited_prompt_itself_a_key_is_left_as_it_is(make_editor):
    """Bit for bit what the base method alone does there, however strong the pathway is elsewhere."""
    editor = make_editor(pathway=PathwayShape(kind="closed", detectors=2, leave=0.99), closed=ClosedForm(false_fire=0.2, strength=2.0))
    bare = editor.install(editor.base_edit(REQUESTS[0]))
    raw = inputs(editor, REQUESTS[0].text)
    bare.undo()
    edit = editor.apply(REQUESTS[0])
    key = edit.pathways[0].tensors[1]["rep_key.weight"][:, 0]
    at = torch.cosine_similarity(raw[1], key, dim=-1).argmax()
    torch.testing.assert_close(2 * raw[1][at], key, rtol=1e-4, atol=1e-5)
    layer = layers_of(editor.model)[editor.anatomy.rewrite_name(1)]
    assert layer.gate_logit(raw[1][at], edit.pathway_names[0]) > 0, "its detector opens"
    assert torch.equal(inputs(editor, REQUESTS[0].text)[1][at], raw[1][at])
    edit.undo()


def test_what_leaves_the_prompt_alone_need_not_be_asked_about_it(make_editor, monkeypatch):
    monkeypatch.setattr(build, "predict", lambda *_args: pytest.fail("the prompt was asked"))
    editor = make_editor(pathway=PathwayShape(kind="closed", detectors=2, leave=0.8))
    keys = [editor.robustify(editor.base_edit(REQUESTS[0])).pathways[0].tensors[1]["rep_key.weight"]]
    plain = make_editor(closed=ClosedForm(false_fire=0.01, strength=1.0))
    keys.append(plain.robustify(plain.base_edit(REQUESTS[0])).pathways[0].tensors[1]["rep_key.weight"])
    torch.testing.assert_close(keys[0], 2 * keys[1])


@pytest.mark.parametrize(
    "fewer",
    [
        *({name: 0} for name in ("after_fact", "same_words", "first_tokens", "stray_words", "other_subjects", "shuffled_subjects")),
        {"first_tokens": 5},
    ],
    ids=str,
)
def test_every_kind_of_negative_reaches_the_gates(make_editor, fewer):
    editor = make_editor()
    edit = editor.base_edit(REQUESTS[0])
    training = editor.hparams.rep.training
    gates = []
    for changes in ({}, {}, fewer):
        pathway = editor.robustify(edit, training=replace(training, **changes)).pathways[0]
        gates.append(torch.cat([tensors["rep_gate.weight"] for tensors in pathway.tensors.values()]))
    assert torch.equal(gates[0], gates[1]) and not torch.equal(gates[0], gates[2])


def test_a_gate_is_told_of_the_edits_beside_it(make_editor):
    editor = make_editor(closed=ClosedForm(false_fire=0.01, hard_share=0.5))  # far-off names are among the nearest too
    training = editor.hparams.rep.training

    def gate(editor, base, i, n=4):
        pathway = editor.robustify(base, training=replace(training, neighbours=n)).pathways[i]
        return torch.cat([tensors["rep_gate.weight"] for tensors in pathway.tensors.values()])

    both = editor.base_edit(*REQUESTS)
    assert all(not torch.equal(gate(editor, both, i), gate(editor, both, i, 0)) for i in (0, 1)), "of edits made together both"
    base = editor.base_edit(REQUESTS[0])
    plain = gate(editor, base, 0)
    assert torch.equal(plain, gate(editor, base, 0, 0)), "there is none"
    unrobust = editor.install(editor.base_edit(REQUESTS[1]))
    assert torch.equal(gate(editor, base, 0), gate(editor, base, 0, 0)), "without a pathway an edit has no gate to be lost to"
    unrobust.undo()
    other = editor.apply(REQUESTS[1])
    assert not torch.equal(gate(editor, base, 0), gate(editor, base, 0, 0))
    other.undo()
    assert torch.equal(gate(editor, base, 0), plain)


def test_a_trained_one_reads_nothing_that_is_for_gates_in_closed_form(make_editor, monkeypatch):
    seen, configs, real = [], [], build.read_training_keys

    def read(*args):
        seen.extend(args[2])
        configs.append(args[4])
        return real(*args)

    monkeypatch.setattr(build, "read_training_keys", read)
    closed_only = {"after_fact": 8, "same_words": 4, "first_tokens": 8, "stray_words": 4, "neighbours": 4}
    editor = make_editor(pathway=PathwayShape(rank=2), training=PathwayTraining(gate_negatives=1.0, steps=1, **closed_only))
    editor.robustify(editor.base_edit(*REQUESTS))
    assert len(seen) == 4 and not any(e.after or any(e.same) or e.stray or e.neighbours for e in seen) and not configs[0].first_tokens


def test_the_layers_of_an_edit_share_its_rate(make_editor, monkeypatch):
    editor, rates, real = make_editor(), [], build.solve_layer
    monkeypatch.setattr(build, "solve_layer", lambda *args: rates.append(args[3].false_fire) or real(*args))
    editor.robustify(editor.base_edit(REQUESTS[0]))
    assert rates == [0.005, 0.005]
