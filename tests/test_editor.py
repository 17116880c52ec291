"""The editor on a tiny model: which edits stay, what is measured, and that bad input touches nothing."""

import random

import pytest
import torch

from easyedit_rep import EditError, Ledger, RobustEditor
from easyedit_rep.memory.covariance import Covariance
from easyedit_rep.pathway.model import layers_of
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import PathwayShape, QueryOptions, RepOptions
from easyedit_rep.request import EditRequest, make_requests

FACTS = {
    "prompts": ["The mother tongue of {} is", "Ann Lee plays the", "The Eiffel Tower is in"],
    "subject": ["Danielle Darrieux", "Ann Lee", "Eiffel Tower"],
    "target_new": ["Spanish", "violin", "London"],
}
IDS = torch.tensor([[1, 17, 40, 99, 7, 250, 31, 8]])


def facts(n, **more):
    return {key: values[:n] for key, values in FACTS.items()} | more


@pytest.fixture
def options(tmp_path, texts):
    """A `rep:` block whose gate opens easily, so that pathways act."""
    path = tmp_path / "text.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    return RepOptions(
        corpus=str(path),
        statistics_tokens=600,
        text_tokens=100,
        pathway=PathwayShape(rank=4, threshold=0.5),
        training=PathwayTraining(steps=5, lr=0.01, consistency_weight=1.0),
        queries=QueryOptions(shuffle_count=4, long_context_count=2, long_context_tokens=20),
    )


@pytest.fixture
def make_editor(make_hparams, options, tok, make_model):
    def make(model=None, **changes):
        return RobustEditor.from_hparams(make_hparams(rep=options, **changes), make_model("llama") if model is None else model, tok)

    return make


@pytest.fixture
def editor(make_editor):
    return make_editor()


def state(model):
    with torch.no_grad():
        return {n: p.clone() for n, p in model.named_parameters()}, model(input_ids=IDS).logits


def same(a, b):
    return a[0].keys() == b[0].keys() and all(torch.equal(a[0][n], b[0][n]) for n in a[0]) and torch.equal(a[1], b[1])


def test_a_single_edit_stays_until_it_is_undone(editor):
    before = state(editor.model)
    metrics, model, edits = editor.edit(**facts(1), verbose=False)
    assert model is editor.model
    assert len(metrics) == len(edits) == 1
    assert edits[0].active
    assert not same(state(model), before)
    assert list(layers_of(model)) == ["model.layers.1.mlp.down_proj"]
    edits[0].undo()
    assert same(state(model), before)
    assert not layers_of(model)
    assert not edits[0].active


def test_a_string_is_one_prompt(editor):
    metrics, _, edits = editor.edit("Ann Lee plays the", "violin", subject="Ann Lee", verbose=False)
    assert len(metrics) == len(edits) == 1


def test_several_edits_are_each_undone(editor, make_editor):
    before = state(editor.model)
    metrics, model, edits = editor.edit(**facts(3), verbose=False)
    assert edits == []
    assert len(metrics) == 3
    assert same(state(model), before)
    assert not editor.ledger.edits
    alone, _, _ = make_editor().edit(**{key: values[2:] for key, values in FACTS.items()}, verbose=False)
    assert metrics[2]["post"] == alone[0]["post"], "an edit does not see those before it"


def test_sequential_edits_all_stay(editor):
    before = state(editor.model)
    _, model, edits = editor.edit(**facts(3), sequential_edit=True, verbose=False)
    assert len(edits) == 3
    assert editor.ledger.edits == edits
    assert all(edit.active for edit in edits)
    (layer,) = layers_of(model).values()
    assert set(layer.rep_down) == set(layer.active_adapters) == {name for edit in edits for name in edit.pathway_names}
    for i in (1, 0, 2):
        assert not same(state(model), before)
        edits[i].undo()
    assert same(state(model), before)


def test_an_edit_is_made_on_the_bare_model_under_pathways(editor, make_editor):
    requests = make_requests(**facts(2))
    editor.apply(requests[0])
    bare = make_editor()
    bare.memory  # noqa: B018 (contexts and C are the unedited model's, as the other editor's are)
    first = bare.base_edit(requests[0])
    bare.ledger.apply(first)  # the same weights, no pathway
    want, found = bare.base_edit(requests[1]), editor.base_edit(requests[1])
    assert torch.equal(found.deltas[1].dense(), want.deltas[1].dense())
    assert torch.equal(found.info["keys"][1], want.info["keys"][1])


def test_metrics_are_easyedits_with_robustness_beside(editor):
    near = {"near": {"prompt": ["Steve Jobs founded", ["I like", "The bridge was"]], "ground_truth": ["Apple", ["to read", "closed"]]}}
    metrics, _, _ = editor.edit(
        **facts(2, ground_truth=["French", "piano"], rephrase_prompts=["She speaks", ["Ann Lee likes the"]]),
        locality_inputs=near,
        portability_inputs={"far": {"prompt": ["In Paris she speaks", None], "ground_truth": ["Spanish", None]}},
        subject_rephrase=[["D. Darrieux", "Danielle D.", "Ms. Darrieux"], None],
        verbose=False,
    )
    first, second = metrics
    for i, row in enumerate(metrics):
        assert set(row) == {"case_id", "requested_rewrite", "pre", "post", "time"}
        assert row["case_id"] == i
        assert row["time"] > 0
        for part in ("pre", "post"):
            assert set(row[part]) == {"rewrite_acc", "rephrase_acc", "locality", "portability", "robustness"}
            assert set(row[part]["robustness"]) == {"success", "paraphrase", "reversion", "rephrase", "shuffle", "long"}
        assert set(row["pre"]["locality"]) == {"near_output"}
        assert set(row["post"]["locality"]) == {"near_output", "near_acc"}
    assert first["requested_rewrite"]["target_new"] == "Spanish"
    assert len(first["post"]["locality"]["near_acc"]) == 1
    assert len(second["post"]["locality"]["near_acc"]) == 2
    assert set(first["post"]["portability"]) == {"far_acc"}
    assert second["post"]["portability"] == {}
    rephrase = first["post"]["robustness"]["rephrase"]
    assert (len(rephrase["in_domain"]["exact"]), len(rephrase["out_of_domain"]["exact"])) == (2, 1)
    assert len(first["post"]["robustness"]["long"]["in_domain"]["token"]) == 1
    assert len(first["post"]["robustness"]["shuffle"]["out_of_domain"]["token"]) == 2


def test_the_edit_raises_the_targets_probability(editor, tok):
    ids = torch.tensor([tok("Ann Lee plays the piano")["input_ids"]])
    start = len(tok("Ann Lee plays the")["input_ids"])

    def loss():
        labels = ids.clone()
        labels[:, :start] = -100
        with torch.no_grad():
            return editor.model(input_ids=ids, labels=labels).loss.item()

    before = loss()
    (edit,) = editor.edit("Ann Lee plays the", "piano", subject="Ann Lee", verbose=False)[2]
    assert loss() < before - 0.1
    edit.undo()
    assert loss() == before


def test_robustify_leaves_model_and_edit_alone(editor):
    (request,) = make_requests(**facts(1))
    before = state(editor.model)
    base = editor.base_edit(request)
    robust = editor.robustify(base)
    assert same(state(editor.model), before)
    assert base.pathways == ()
    assert len(robust.pathways) == 1
    assert robust.deltas is base.deltas
    assert set(robust.seconds) == {"base", "pathway"}
    assert set(robust.info["pathway"][1][0]) == {"aggregation", "consistency"}


def test_the_same_edit_gives_the_same_bits(make_editor):
    def tensors():
        torch.manual_seed(random.randrange(2**31))
        (request,) = make_requests(**facts(1))
        edit = make_editor().apply(request)
        return [edit.deltas[1].dense(), *edit.pathways[0].tensors[1].values()]

    assert all(torch.equal(a, b) for a, b in zip(tensors(), tensors(), strict=True))


def test_global_randomness_is_left_alone(editor):
    before = torch.get_rng_state(), random.getstate()
    editor.edit(**facts(1), verbose=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


BAD = {
    "subject not in prompt": ({"subject": ["Danielle Darrieux", "Bob Lee", "Eiffel Tower"]}, "subject 'Bob Lee' is not in prompt"),
    "empty target": ({"target_new": ["Spanish", " ", "London"]}, "target_new of prompt 'Ann Lee plays the' is empty"),
    "fewer subjects": ({"subject": ["Ann Lee"]}, "subject has 1 entries for 3 prompts"),
    "too long": ({"prompts": ["The mother tongue of {} is", "Ann Lee " + "plays the " * 200, "{} is in"]}, "model has 512 positions"),
    "too long behind a context": (
        {"prompts": ["{} is", "{} plays " + "the " * 502, "{} is in"]},
        "behind a context of up to 9, the model has",
    ),
    "too long a rephrase": ({"rephrase_prompts": ["a", "b " * 600, "c"]}, "rephrase_prompts 'b b"),
    "too long a name": ({"subject_rephrase": [["Al"], ["Lee " * 500, "Al"], ["Al"]]}, "prompt about 'Lee Lee"),
    "too long a question": ({"locality_inputs": {"near": {"prompt": ["Is " * 600] * 3, "ground_truth": ["it"] * 3}}}, "near 'Is Is"),
    "merging": (
        {"prompts": ["{} is", "{}", "{} is"], "subject": ["Danielle", "Steve ", "Tower"], "target_new": ["x", "of", "y"]},
        "target 'of' merges with subject 'Steve '",
    ),
}


def test_inference_mode_is_refused(editor, make_hparams, make_model, tok):
    request = EditRequest("{} plays the", "Ann Lee", "piano")
    with torch.inference_mode():
        with pytest.raises(EditError, match="edit outside of it"):
            editor.apply(request)
        model = make_model("llama")
    with pytest.raises(EditError, match="where none can be edited: load it outside"):
        RobustEditor(make_hparams(), model, tok)


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_bad_input_leaves_the_model_untouched(editor, change, said):
    before = state(editor.model)
    with pytest.raises(EditError) as error:
        editor.edit(**{**facts(3), **change}, sequential_edit=True, verbose=False)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert same(state(editor.model), before)
    assert not editor.ledger.edits
    assert not layers_of(editor.model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": [4]}, "layers: 4 is out of range"),
        ({"layers": [1, 2, 1]}, r"layers: \[1, 2, 1\] names a layer twice"),
        ({"v_loss_layer": 31}, "v_loss_layer: 31 is out of range"),
        ({"v_lr": -0.5}, "v_lr: -0.5 is not positive"),
        ({"clamp_norm_factor": 0.0}, "clamp_norm_factor: 0.0 is not positive"),
        ({"kl_factor": float("nan")}, "kl_factor: nan is negative or no number"),
        ({"ln_f_module": "transformer.ln_f"}, "'transformer.ln_f' is not in LlamaForCausalLM"),
    ],
)
def test_hyper_parameters_that_do_not_fit_the_model_are_refused(make_editor, changes, said):
    with pytest.raises(EditError, match=said):
        make_editor(**changes)


def test_unknown_base_is_refused_at_once(make_editor, options):
    options.base = "GRACE"
    with pytest.raises(EditError, match="base 'GRACE' has no native engine"):
        make_editor()


def test_no_text_is_refused_before_anything_is_changed(make_editor, options):
    options.corpus = "no/such.txt"
    editor = make_editor()
    before = state(editor.model)
    with pytest.raises(EditError, match=r"no statistics .* and no text to make them from: corpus 'no/such.txt' is neither a file"):
        editor.edit(**facts(1), verbose=False)
    assert same(state(editor.model), before)


def test_broken_weights_are_refused(editor):
    with torch.no_grad():
        editor.model.lm_head.weight[3, 3] = torch.nan
    with pytest.raises(EditError, match=r"lm_head.weight holds NaN"):
        editor.edit(**facts(1), verbose=False)
    assert not editor.ledger.edits


@pytest.mark.parametrize("base", ["ROME", "MEMIT"])
def test_no_request_is_refused(make_editor, options, base):
    options.base = base
    with pytest.raises(EditError, match="there is nothing to edit: give at least one request"):
        make_editor(method={"mom2_update_weight": 5.0} if base == "MEMIT" else None).apply()


def test_a_model_without_its_tokenizer_is_refused(make_hparams, options, llama):
    with pytest.raises(EditError, match="tok is missing: pass the tokenizer of LlamaForCausalLM beside it"):
        RobustEditor.from_hparams(make_hparams(rep=options), llama)


def test_model_may_come_with_the_hyper_parameters(make_hparams, options, llama, tok):
    editor = RobustEditor.from_hparams(make_hparams(model_name=(llama, tok), rep=options))
    assert editor.model is llama
    assert editor.tok is tok


def test_two_editors_share_a_models_ledger_and_two_models_do_not(make_editor, llama):
    one, two, other = make_editor(llama), make_editor(llama), make_editor()
    before = state(llama)
    assert one.ledger is two.ledger is Ledger.of(llama, one.anatomy)
    assert other.ledger is not one.ledger
    (first,) = one.edit(**facts(1), verbose=False)[2]
    (second,) = two.edit("Ann Lee plays the", "violin", subject="Ann Lee", verbose=False)[2]
    assert one.ledger.edits == [first, second]
    assert first.name != second.name
    first.undo()
    second.undo()
    assert same(state(llama), before)
    assert same(state(other.model), before)


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_several_layers_and_half_precision(make_editor, make_model, family, dtype):
    editor = make_editor(make_model(family).to(dtype), layers=[1, 2])
    before = state(editor.model)
    _, model, edits = editor.edit(**facts(2), sequential_edit=True, verbose=False)
    assert len(layers_of(model)) == 2
    assert set(edits[0].deltas) == {1, 2}
    edits[0].undo()
    edits[1].undo()
    assert same(state(model), before)


def test_statistics_are_written_once_and_read_again(make_editor, options, tmp_path):
    first = make_editor(stats_dir=str(tmp_path / "stats"))
    made = first.memory.covariances[1]
    (path,) = (tmp_path / "stats").rglob("*.npz")
    assert path.relative_to(tmp_path / "stats").as_posix() == "llama/wikitext_stats/model.layers.1.mlp.down_proj_float32_mom2_100.npz"
    options.corpus, options.queries.long_context_count = "gone.txt", 0
    second = make_editor(stats_dir=str(tmp_path / "stats"))
    torch.testing.assert_close(second.memory.covariances[1].moment, made.moment, rtol=1e-5, atol=1e-6)


def test_statistics_of_another_version_of_the_text_are_said_to_be(make_editor, options, tmp_path, texts, caplog):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(texts), encoding="utf-8")
    options.corpus = str(text)
    for change in ("", "One more line."):
        with text.open("a", encoding="utf-8") as file:
            file.write(change)
        caplog.clear()
        make_editor(stats_dir=str(tmp_path / "stats")).memory  # noqa: B018
        make_editor(stats_dir=str(tmp_path / "stats")).memory  # noqa: B018
        assert ("were made from another text (text)" in caplog.text) == bool(change)


def test_statistics_of_fewer_tokens_than_asked_for_are_said_to_be(make_editor, options, tmp_path, caplog):
    for tokens, said in ((100, False), (100, False), (300, True)):
        options.statistics_tokens = tokens
        caplog.clear()
        make_editor(stats_dir=str(tmp_path / "stats")).memory  # noqa: B018
        assert ("are of 100 tokens, rep.statistics_tokens asks for 300" in caplog.text) == said


@pytest.mark.parametrize(("mom2", "target", "wanted"), [(True, "raw", True), (False, "whitened", True), (False, "raw", False)])
def test_statistics_are_made_where_they_are_used(make_editor, options, mom2, target, wanted):
    options.training = PathwayTraining(steps=1, target=target)
    covariances = make_editor(mom2_adjustment=mom2).memory.covariances
    assert isinstance(covariances.get(1), Covariance) == wanted


def test_negatives_for_the_gate(make_editor, options):
    options.training = PathwayTraining(steps=5, gate_negatives=1.0)
    editor = make_editor()
    assert editor.unedited.ordinary(0, [1])[1].text.shape == (100, 48)
    (request,) = make_requests(**facts(1))
    assert "gate" in editor.robustify(editor.base_edit(request)).info["pathway"][1][0]


def test_an_editor_made_after_an_edit_reads_the_model_before_it(make_editor, make_model):
    """Contexts, C and text keys belong to the unedited model, also for layers above an edited one."""
    model = make_model("llama")
    clean = make_editor(model, layers=[0, 1])
    expected = clean.memory
    (edit,) = clean.edit(**facts(1))[2]
    late = make_editor(model, layers=[0, 1])
    assert late.memory.contexts == expected.contexts
    for layer, covariance in expected.covariances.items():
        assert torch.equal(late.memory.covariances[layer].moment, covariance.moment)
    assert edit.active
    edit.undo()


def test_a_model_in_training_mode_gives_the_same_edit_and_stays_in_it(make_editor, make_model, make_hparams):
    quiet, noisy = make_editor(make_model("gpt2")), make_editor(make_model("gpt2"))
    noisy.model.train()
    request = make_requests(**facts(1))[0]
    deltas = [editor.base_edit(request).deltas[1].dense() for editor in (quiet, noisy)]
    assert torch.equal(*deltas)
    assert all(module.training for module in noisy.model.modules())


def test_it_says_what_the_returned_model_is(editor, make_editor, capsys, tmp_path):
    """The two questions EasyEdit's users ask most: is the model edited, and how is the edit kept."""
    _, _, (edit,) = editor.edit(**facts(1))
    said = capsys.readouterr().err
    assert "the returned model carries the edit: edits[0].save(folder) keeps it as a file, edits[0].undo() takes it out again" in said
    assert edit.metrics["post"]["rewrite_acc"] and edit.hparams["v_num_grad_steps"] == editor.hparams.v_num_grad_steps
    edit.save(tmp_path)
    editor = make_editor()
    assert editor.edit(**facts(3))[2] == []
    assert "the returned model is the original: each of the 3 edits was measured alone and undone" in capsys.readouterr().err
    assert len(editor.edit(**facts(2), sequential_edit=True)[2]) == 2
    assert "carries all 2 edits: edits[0].ledger.save(folder)" in capsys.readouterr().err
    editor.ledger.undo_all()
    editor.edit(**facts(1), verbose=False)
    assert "the returned model" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [EditError, KeyboardInterrupt])
def test_where_one_of_several_cannot_be_made_none_stays(editor, monkeypatch, error):
    real, made = editor.apply, []

    def apply(*args, **kwargs):
        if len(made) == 2:
            raise error("the third")
        made.append(real(*args, **kwargs))
        return made[-1]

    before = [p.clone() for p in editor.model.parameters()]
    monkeypatch.setattr(editor, "apply", apply)
    with pytest.raises(error, match="the third"):
        editor.edit(**facts(3), sequential_edit=True, verbose=False)
    assert len(made) == 2 and not editor.ledger.handles
    assert all(torch.equal(a, b) for a, b in zip(before, editor.model.parameters(), strict=True))
