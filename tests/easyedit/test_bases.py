"""Every method `engine: easyedit` can run: the fact is learnt, what is undone is gone bit for bit, and nothing is left behind."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from easyedit_rep import EditError, EditRequest, REPHyperParams, RobustEditor
from easyedit_rep.integrations.bases import BASES, get_base
from easyedit_rep.integrations.engine import batchable, prepared, solve
from easyedit_rep.integrations.refused import REFUSED
from easyedit_rep.memory.tokens import continuation
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import PathwayShape, QueryOptions

pytestmark = pytest.mark.easyedit

ROOT = Path(__file__).resolve().parents[2]
MEMIT = {"mom2_update_weight": 1.0}
NULL_SPACE = {**MEMIT, "nullspace_threshold": "5e-1", "L2": 1}  # YAML 1.1 reads 5e-1 as a string
EAMET = {
    **{"ks_bs": 1, "clamp_ks_factor": 1, "cs_factor": 1, "mse_factor": 1, "tau": 0.07, "norm_factor": "1e-3"},
    **{"delta_init": "target_init", "weight_decay_method": "norm"},
}
OWN = {
    "ROME": {},
    "R-ROME": {},
    "MEMIT": MEMIT,
    "EMMET": MEMIT,
    "MEMIT-FE": MEMIT,
    "PMET": {**MEMIT, "nll_loss_factor": 1},
    "EAMET": {**MEMIT, **EAMET},
    "CORE": {**MEMIT, "context": "all", "ctx_num": 6, "reg_lambda": 0.01, "layer_range": 1},
    "AlphaEdit": NULL_SPACE,
    "SPHERE": {**NULL_SPACE, "cumulative_ratio": 0.5, "suppression_strength": 0.5},
}
ATTENTION = {"gpt2": "transformer.h.{}.attn", "gptj": "transformer.h.{}.attn", "gpt_neox": "gpt_neox.layers.{}.attention"}
UNFIT = [("SPHERE", "gpt2"), ("EAMET", "gpt2")]
RUNS = [(base, family) for base in BASES for family in ("llama", "gpt2") if (base, family) not in UNFIT]
# They end in the subject: in a model of random weights nothing but the last position can be moved far.
REQUEST = EditRequest("The mother tongue of Danielle Darrieux", "Danielle Darrieux", "music", "French")
OTHER = EditRequest("Because of her friend Ann Lee", "Ann Lee", "computers", "piano")


def log_probability(model, tok, request: EditRequest) -> float:
    """Of the target, mean over its tokens."""
    before, target = continuation(tok, request.text, request.target_new)
    with torch.no_grad():
        rows = model(input_ids=torch.tensor([before + target])).logits[0].log_softmax(-1)
    return rows[len(before) - 1 : -1].gather(1, torch.tensor(target)[:, None]).mean().item()


def held_by_easyedit() -> dict:
    """Every attribute of every module of EasyEdit's: its identity, and what it holds."""
    return {
        (module.__name__, name): (id(value), list(value) if isinstance(value, (dict, list, set)) else None)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("easyeditor.models")
        for name, value in vars(module).items()
        if not name.startswith("__")
    }


def hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.fixture
def corpus_file(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    return str(path)


@pytest.fixture
def tiny(make_hparams, corpus_file):
    """Hyper-parameters of REP around `base` on a tiny model of `family`."""

    def make(base: str, family: str = "llama", engine: str = "easyedit", own: dict | None = None, **options):
        rep = replace(
            make_hparams().rep,
            base=base,
            engine=engine,
            corpus=corpus_file,
            text_tokens=100,
            pathway=PathwayShape(rank=4, threshold=0.5),
            training=PathwayTraining(steps=5, lr=0.01),
            queries=QueryOptions(shuffle_count=4, long_context_count=2, long_context_tokens=20),
        )
        options = {
            "layers": [1] if base.endswith("ROME") else [1, 2],
            "attn_module_tmp": ATTENTION.get(family, "model.layers.{}.self_attn"),
            **options,
        }
        return make_hparams(rep=rep, method=OWN[base] if own is None else own, context_template_length_params=[[10, 5]], **options)

    return make


def test_all_of_easyedits_methods_are_run_or_refused(easyeditor):
    names = set(easyeditor.ALG_DICT) - {"REP", "D4S"}
    assert names <= set(BASES) | set(REFUSED)
    assert set(BASES) <= names
    assert not set(BASES) & set(REFUSED)


@pytest.mark.parametrize(("base", "family"), RUNS)
def test_edit_and_undo_leave_nothing_behind(base, family, tiny, make_model, make_tokenizer, snapshot, capsys):
    model, tok = make_model(family), make_tokenizer("bos")
    tok.padding_side = "left"
    before, text, called = snapshot(model), tok("Ann Lee plays")["input_ids"], model.name_or_path
    other = RobustEditor(tiny("MEMIT", family, engine="native", layers=[0, 1]), model, tok)
    other.apply(OTHER).undo()
    editor = RobustEditor(tiny(base, family), model, tok)
    editor.memory, editor.queries  # noqa: B018 (read before what is held is looked at)
    held, attributes, random = held_by_easyedit(), {**vars(tok)}, torch.get_rng_state()
    capsys.readouterr()
    found = []
    for _ in range(2):
        was = log_probability(model, tok, REQUEST)
        plain = editor.base_edit(REQUEST)
        editor.ledger.apply(plain)
        assert log_probability(model, tok, REQUEST) > was + 0.1
        plain.undo()
        edit = editor.apply(REQUEST)
        found.append(snapshot(model))
        edit.undo()
        after = snapshot(model)
        assert after.keys() == before.keys()
        assert all(torch.equal(before[name], value) for name, value in after.items())
    pairs = zip(found[0].values(), found[1].values(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs), "the second edit is the first again, pathway and all"
    assert capsys.readouterr().out == ""
    assert held_by_easyedit() == held
    assert vars(tok) == attributes
    assert tok("Ann Lee plays")["input_ids"] == text
    assert torch.equal(torch.get_rng_state(), random)
    assert hooks(model) == 0
    assert (model.config._name_or_path, model.name_or_path, model.training) == (f"tiny/{family}", called, False)
    assert all(p.requires_grad for p in model.parameters())
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(("base", "family"), [(b, f) for b, f in RUNS if BASES[b].batch])
def test_batches(base, family, tiny, make_model, tok):
    model = make_model(family)
    editor = RobustEditor(tiny(base, family), model, tok)
    assert editor.batchable
    edit = editor.base_edit(REQUEST, OTHER)
    assert {layer: tuple(keys.shape) for layer, keys in edit.info["keys"].items()} == {1: (2, 48), 2: (2, 48)}
    was = [log_probability(model, tok, r) for r in (REQUEST, OTHER)]
    editor.ledger.apply(edit)
    assert all(log_probability(model, tok, r) > p for r, p in zip((REQUEST, OTHER), was, strict=True))
    edit.undo()


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "gemma", "phi3", "phi", "gptj", "gpt_neox"])
def test_other_architectures(family, tiny, make_model, make_memory, tok, snapshot):
    """EasyEdit's own branches on names know few of them."""
    model = make_model(family)
    memory, before = make_memory(model, tok, [1, 2]), snapshot(model)
    was = log_probability(model, tok, REQUEST)
    for base in BASES:
        for layer, delta in solve(memory, tiny(base, family), [REQUEST]).deltas.items():
            delta.add_to(memory.anatomy.weight(layer))
        assert log_probability(model, tok, REQUEST) > was + 0.1, base
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(before[name])


@pytest.mark.parametrize("base", BASES)
def test_half_precision(base, tiny, make_model, make_memory, tok, snapshot):
    model = make_model("llama")
    covariances = make_memory(model, tok, [1, 2]).covariances
    memory = replace(make_memory(model.bfloat16(), tok, [1]), covariances=covariances)
    if base == "SPHERE":
        refuse(memory, tiny(base), REQUEST, "cannot for torch.bfloat16: load the model in float32", snapshot)
        return
    was = log_probability(model, tok, REQUEST)
    for layer, delta in solve(memory, tiny(base), [REQUEST]).deltas.items():
        delta.add_to(memory.anatomy.weight(layer))
    assert log_probability(model, tok, REQUEST) > was + 0.1


@pytest.fixture
def alone(easyeditor, make_memory, tmp_path, monkeypatch):
    """EasyEdit's own edits of `requests`, one after another, run as its users run it: by itself, with its caches empty and statistics
    in files. {layer: change of the weight} of each."""
    from easyedit_rep.integrations.prepared import their_hparams
    from easyedit_rep.memory.statistics import save_statistics, statistics_path

    def edit(memory, hparams, requests, reset=lambda: None):
        anatomy, base = memory.anatomy, hparams.rep.base
        theirs = their_hparams(memory, hparams)
        theirs.model_name, theirs.stats_dir, theirs.P_loc = (
            anatomy.model.config._name_or_path,
            str(tmp_path / "stats"),
            "null_space_project.pt",
        )
        for layer in hparams.layers:
            path = statistics_path(theirs.stats_dir, anatomy, layer, hparams.mom2_dataset, hparams.mom2_dtype, hparams.mom2_n_samples)
            save_statistics(path, memory.covariances[layer], hparams.mom2_dtype, hparams.mom2_n_samples)
        for path, make in BASES[base].state.items():
            module, _, name = f"easyeditor.models.{path}".rpartition(".")
            if path not in BASES[base].late:
                fresh = make(memory, hparams) if name == "CONTEXT_TEMPLATES_CACHE" else False if make(memory, hparams) is True else {}
                monkeypatch.setattr(importlib.import_module(module), name, fresh)
        monkeypatch.setattr(memory.tok, "padding_side", "right")
        changes = []
        for request in requests:
            before = {layer: anatomy.weight(layer).detach().clone() for layer in hparams.layers}
            target = f" {request.target_new}" if base == "PMET" else request.target_new
            record = {"prompt": request.prompt, "subject": request.subject, "target_new": target}
            easyeditor.ALG_DICT[base](anatomy.model, memory.tok, [record], theirs)
            changes.append({layer: anatomy.weight(layer).detach() - before[layer] for layer in hparams.layers})
        return changes

    return edit


def same(delta, change, within: float = 1e-4) -> bool:
    """A delta is the `change` of the parameter, but for rounding."""
    ours = delta.dense().T if delta.transposed else delta.dense()
    return bool((ours - change).norm() <= within * change.norm())


@pytest.mark.parametrize(("base", "family"), [run for run in RUNS if run != ("AlphaEdit", "gpt2")])
def test_it_is_what_easyedit_writes_by_itself(base, family, tiny, make_model, make_memory, make_tokenizer, alone):
    """With a tokenizer that adds no BOS, which EasyEdit's EAMET needs, under a name that its AlphaEdit knows."""
    own = {**OWN[base], "context": None} if base == "CORE" else OWN[base]  # contexts it makes up anew each time are not compared
    hparams = tiny(base, family, own=own)
    memory = make_memory(make_model(family), make_tokenizer("no_bos"), hparams.layers)
    ours = solve(memory, hparams, [REQUEST])
    (theirs,) = alone(memory, hparams, [REQUEST])
    for layer in hparams.layers:
        assert same(ours.deltas[layer], theirs[layer])


@pytest.mark.parametrize("base", ["AlphaEdit", "SPHERE"])
def test_sequences_protect_what_stands_in_the_ledger(base, tiny, make_model, tok, alone, make_memory):
    model = make_model("llama")
    hparams = tiny(base)
    editor = RobustEditor(hparams, model, tok)
    first = editor.ledger.apply(editor.base_edit(REQUEST))
    second = editor.base_edit(OTHER)
    first.undo()
    unprotected = editor.base_edit(OTHER)
    theirs = alone(editor.memory, hparams, [REQUEST, OTHER])
    # SPHERE projects after it has summed up its keys; ours are those of the model as it then is.
    within = {"AlphaEdit": 1e-4, "SPHERE": 0.02}[base]
    for edit, change in zip((first, second), theirs, strict=True):
        for layer in hparams.layers:
            assert same(edit.deltas[layer], change[layer], within)
    assert not torch.allclose(second.deltas[1].dense(), unprotected.deltas[1].dense(), atol=1e-4)
    fresh = RobustEditor(hparams, make_model("llama"), tok).base_edit(OTHER)
    assert all(torch.equal(fresh.deltas[layer].dense(), unprotected.deltas[layer].dense()) for layer in hparams.layers)


def test_null_space_is_that_of_this_models_keys(tiny, make_model, make_memory, tok):
    main = importlib.import_module("easyeditor.models.alphaedit.AlphaEdit_main")
    first, second = (make_memory(make_model("llama", seed=seed), tok, [1, 2]) for seed in (0, 1))
    seen = []
    for memory in (first, second, first):
        with prepared(memory, tiny("AlphaEdit")) as theirs:
            seen.append(main.P)
            for i, layer in enumerate([1, 2]):
                monkey = {
                    (memory.anatomy.model.config._name_or_path, memory.anatomy.rewrite_name(layer)): memory.covariances[
                        layer
                    ].moment.float()
                }
                main.COV_CACHE = monkey
                assert torch.allclose(main.get_project(memory.anatomy.model, tok, layer, theirs), main.P[i], atol=1e-3)
    assert torch.equal(seen[0], seen[2])
    assert not torch.allclose(seen[0], seen[1], atol=1e-2)
    assert 0 < torch.linalg.matrix_rank(seen[0][0]) < 48


@pytest.mark.parametrize("kind", ["bos", "no_bos", "sentencepiece"])
@pytest.mark.parametrize("base", ["PMET", "EAMET"])
def test_targets_are_learnt_whatever_the_tokenizer(base, kind, tiny, make_model, make_tokenizer):
    """EasyEdit's PMET puts no space before a target unless the model is called gpt; its EAMET trains <s> where the tokenizer adds one."""
    model, tok = make_model("llama"), make_tokenizer(kind)
    editor = RobustEditor(tiny(base), model, tok)
    was = log_probability(model, editor.tok, REQUEST)
    editor.ledger.apply(editor.base_edit(REQUEST))
    assert log_probability(model, editor.tok, REQUEST) > was + 0.1


# -- on a trained model --------------------------------------------------------------------------------------------------------------

SHIPPED = sorted(path.parent.name for path in (ROOT / "hparams/REP").glob("*/bench-llama.yaml") if "engine: easyedit" in path.read_text())


@pytest.fixture
def shipped(bench_hparams):
    """The YAML of a base for bench-llama, with this machine's paths, fewer steps and a short training of the pathway."""

    def load(base: str) -> REPHyperParams:
        short = bench_hparams()
        hparams = REPHyperParams.from_hparams(str(ROOT / f"hparams/REP/{base}/bench-llama.yaml"))
        hparams.rep = replace(short.rep, base=base, engine="easyedit")
        hparams.model_name, hparams.stats_dir, hparams.v_num_grad_steps = short.model_name, short.stats_dir, 15
        return hparams

    return load


@pytest.mark.parametrize("base", SHIPPED)
def test_every_file_loads(base, tmp_path):
    text = (ROOT / f"hparams/REP/{base}/bench-llama.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    hparams = REPHyperParams.from_hparams(str(path))
    assert (hparams.alg_name, hparams.rep.base, hparams.rep.engine) == ("REP", base, "easyedit")
    assert hparams.mom2_adjustment, "REP needs C"
    for change, said in (
        (
            text.replace("mom2_update_weight", "mom2_update_wait"),
            "mine.yaml: unknown key 'mom2_update_wait', did you mean mom2_update_weight",
        ),
        (text.replace("mom2_update_weight", "# "), f"mine.yaml: EasyEdit's {base} needs mom2_update_weight"),
        (text.replace(f"base: {base}", "base: GRACE"), "no pathway can be put around GRACE: it keeps its edits in a codebook"),
    ):
        path.write_text(change)
        with pytest.raises(EditError, match=said):
            REPHyperParams.from_hparams(str(path))


def test_the_named_bases_have_a_file():
    assert sorted(["AlphaEdit", "CORE", "EAMET", "MEMIT-FE", "PMET"]) == SHIPPED


@pytest.mark.parametrize("base", SHIPPED)
def test_trained_llama(base, shipped, bench_editor, records, snapshot):
    model, tok = bench_editor.model, bench_editor.tok
    editor = RobustEditor(shipped(base), model, tok)
    before, held = snapshot(model), held_by_easyedit()
    facts = [EditRequest(r["prompt"], r["subject"], r["target_new"], r["target_true"]) for r in records[:2]]
    other = bench_editor.apply(EditRequest(records[2]["prompt"], records[2]["subject"], records[2]["target_new"]))
    first = editor.apply(facts[0])
    second = editor.apply(facts[1])
    assert all(log_probability(model, tok, fact) > -0.7 for fact in facts), "before the edit they were under -9"
    other.undo()
    first.undo()
    second.undo()
    after = snapshot(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert held_by_easyedit() == held


def test_base_editor_takes_it(shipped, columns, easyeditor, snapshot):
    editor = easyeditor.BaseEditor.from_hparams(shipped("AlphaEdit"))
    before = snapshot(editor.model)
    (row,), model, _ = editor.edit(**columns(1), verbose=False)
    assert (row["pre"]["rewrite_acc"], row["post"]["rewrite_acc"]) == ([0.0], [1.0])
    assert row["post"]["robustness"]["success"] == [1.0]
    assert all(torch.equal(before[name], value) for name, value in snapshot(model).items())
    assert not Path("null_space_project.pt").exists()


# -- refusals ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [*REFUSED, "UltraEdit", "wise"])
def test_others_are_refused_with_their_reason(base, tiny, make_model, tok):
    with pytest.raises(EditError, match="no pathway can be put around") as caught:
        RobustEditor(_with_base(tiny("PMET"), base), make_model("llama"), tok)
    known = next(name for name in REFUSED if name.casefold() == base.casefold())
    assert REFUSED[known] in str(caught.value)
    assert "\n" not in str(caught.value)


def _with_base(hparams, base):
    hparams.rep = replace(hparams.rep, base=base)
    return hparams


@pytest.mark.parametrize(
    ("base", "said"), [("MEMIT_FE", "did you mean MEMIT-FE"), ("alphaedit", "did you mean AlphaEdit"), ("X", "there are: ROME, R-ROME")]
)
def test_unknown_bases(base, said):
    for ask in (batchable, get_base):
        with pytest.raises(EditError, match=said):
            ask(base)


def refuse(memory, hparams, request, said, snapshot):
    """`solve` says `said` in one line, and nothing has changed."""
    before, held = snapshot(memory.anatomy.model), held_by_easyedit()
    with pytest.raises(EditError) as caught:
        solve(memory, hparams, [request])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in snapshot(memory.anatomy.model).items())
    assert held_by_easyedit() == held
    assert hooks(memory.anatomy.model) == 0


DOWN, OUT = "model.layers.{}.mlp.down_proj", "model.layers.{}.self_attn.o_proj"
UNTRUE = EditRequest(REQUEST.prompt, REQUEST.subject, REQUEST.target_new)
WRONG = {
    "attention too": ("PMET", {"rewrite_module_tmps": [OUT, DOWN]}, {}, REQUEST, "a pathway sits on model.layers.{}.mlp.down_proj alone"),
    "no attention": ("PMET", {}, {"attn_module_tmp": None}, REQUEST, "attn_module_tmp is missing"),
    "layers": ("EAMET", {"mom2_update_weight": [1, 2, 3]}, {}, REQUEST, "one number for each of the 2 layers"),
    "null space": ("AlphaEdit", {"nullspace_threshold": 1e-9}, {}, REQUEST, "nullspace_threshold: 1e-09 leaves no direction"),
    "number": ("AlphaEdit", {"L2": "much"}, {}, REQUEST, "L2 must be a number, not 'much'"),
    "unknown": ("AlphaEdit", {"L3": 1}, {}, REQUEST, "unknown key 'L3'"),
    "missing": ("AlphaEdit", {"L2": None}, {}, REQUEST, "EasyEdit's AlphaEdit needs L2"),
    "twice": ("AlphaEdit", {}, {}, EditRequest("Ann Lee met Ann Lee in", "Ann Lee", "London"), "'Ann Lee' stands twice"),
    "untrue": ("CORE", {}, {}, UNTRUE, "EasyEdit's CORE failed on"),
    "unregularised": ("CORE", {"layer_range": 0}, {}, REQUEST, "EasyEdit's CORE failed on"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_changes_nothing(case, tiny, make_model, make_memory, tok, snapshot):
    base, own, options, request, said = WRONG[case]
    own = {key: value for key, value in {**OWN[base], **own}.items() if value is not None}
    refuse(make_memory(make_model("llama"), tok, [1, 2]), tiny(base, own=own, **options), request, said, snapshot)


@pytest.mark.parametrize("base", [base for base, _ in UNFIT])
def test_transposed_weights(base, tiny, make_model, make_memory, tok, snapshot):
    memory = make_memory(make_model("gpt2"), tok, [1, 2])
    refuse(memory, tiny(base, "gpt2"), REQUEST, f"EasyEdit's {base} cannot edit a GPT2LMHeadModel", snapshot)


def test_square_weights(tiny, make_model, make_memory, tok, snapshot):
    memory = make_memory(make_model("llama", intermediate_size=32), tok, [1])
    refuse(memory, tiny("ROME"), REQUEST, "is square (32 × 32)", snapshot)


def test_a_method_that_also_writes_elsewhere(tiny, make_model, make_memory, tok, snapshot, easyeditor, monkeypatch):
    name = "model.layers.2.self_attn.o_proj.weight"

    def write(model, *_args, **_options):
        weight = model.get_parameter(name)
        copy = weight.detach().clone()
        with torch.no_grad():
            weight.add_(1.0)
        return model, {name: copy}

    monkeypatch.setitem(easyeditor.ALG_DICT, "ROME", write)
    refuse(make_memory(make_model("llama"), tok), tiny("ROME"), REQUEST, f"also changed {name}", snapshot)


def test_an_older_easyedit(tiny, make_model, make_memory, tok, snapshot, easyeditor, monkeypatch):
    monkeypatch.delitem(easyeditor.ALG_DICT, "CORE")
    refuse(make_memory(make_model("llama"), tok, [1, 2]), tiny("CORE"), REQUEST, "this EasyEdit has no CORE", snapshot)
