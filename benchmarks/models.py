"""Models to time: two trained ones, and random ones of real shapes, whose weights are drawn on the device itself (nothing is loaded)."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from easyedit_rep import EditError, EditRequest, RobustEditor
from easyedit_rep.datasets.records import load_records
from easyedit_rep.demo import CORPUS, FACTS, HPARAMS, MODEL_DIR
from easyedit_rep.hparams import load_hparams
from easyedit_rep.loading import load_model
from easyedit_rep.memory.contexts import generate_contexts
from easyedit_rep.memory.covariance import Covariance
from easyedit_rep.methods import Memory

from .common import ROOT, SHARED, Setting

_LLAMA = {"model_type": "llama", "bos_token_id": 1, "eos_token_id": 2}
SHAPES = {
    "gpt2-small": ("gpt2-xl", {"model_type": "gpt2"}),
    "llama3.2-1b": (
        "llama3.2-3b",
        {
            **_LLAMA,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "vocab_size": 128256,
            "tie_word_embeddings": True,
            "max_position_embeddings": 4096,
        },
    ),
    "llama2-7b": ("llama2-7b", {**_LLAMA, "max_position_embeddings": 4096}),  # Llama's defaults are Llama-2-7B's sizes
    "qwen2.5-7b": (
        "qwen2.5-7b",
        {
            "model_type": "qwen2",
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "max_position_embeddings": 4096,
        },
    ),
}
"""name -> (the YAML under hparams/REP/<base>/ whose settings it is edited with, its configuration)."""
D4S_YAMLS = {"llama3.2-3b": "llama3-8b"}
"""Under hparams/D4S/, where that has none of the name."""
NAMES = ("demo", "bench", *SHAPES)


def random_model(name: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A random model of that shape, made on `device` in `dtype`."""
    options = dict(SHAPES[name][1])
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(before)
    model.config._name_or_path = f"random/{name}"
    return model.to(dtype).eval()


def _trained(setting: Setting, base: str, alone: bool) -> RobustEditor:
    if setting.model == "demo":
        path = HPARAMS.with_name(f"{base.lower().replace('-', '_')}.yaml")
    elif not SHARED.is_dir():
        raise EditError(f"the bench model is not here ({SHARED}): take --model demo, or a random one ({', '.join(SHAPES)})")
    else:
        # For an edit with a pathway other layers are edited than those in which the method alone answers most.
        folder = ROOT / "hparams" / ("D4S" if base == "D4S" else f"REP/{base}")
        path = folder / "bench-llama-layer1.yaml"
        path = path if alone and path.is_file() else folder / "bench-llama.yaml"
    hparams = load_hparams(str(path))
    if setting.model == "bench":
        hparams.model_name, hparams.rep.corpus = str(SHARED / "bench-llama"), str(SHARED / "data/wikitext2/valid.txt")
        hparams.stats_dir = None
    model, tok = load_model(hparams.model_name, "cpu")
    return RobustEditor.from_hparams(hparams, model=model.to(setting.device, setting.dtype), tok=tok)


def fitting(layers: list[int], n_layers: int) -> list[int]:
    """`layers` of a larger model, or as many from a third of the way up where this one has too few."""
    return layers if max(layers) < n_layers else list(range(n_layers // 3, n_layers // 3 + len(layers)))


def _random(setting: Setting, base: str) -> RobustEditor:
    name = SHAPES[setting.model][0]
    folder, name = ("D4S", D4S_YAMLS.get(name, name)) if base == "D4S" else (f"REP/{base}", name)
    hparams = load_hparams(str(ROOT / "hparams" / folder / f"{name}.yaml"))
    model = random_model(setting.model, setting.device, setting.dtype)
    n_layers = model.config.num_hidden_layers
    hparams.layers = fitting(hparams.layers, n_layers)
    hparams.v_loss_layer, hparams.stats_dir = n_layers - 1, None
    hparams.rep.corpus = str(CORPUS)
    hparams.rep.queries = replace(hparams.rep.queries, rephrase_file=None)
    return RobustEditor.from_hparams(hparams, model=model, tok=AutoTokenizer.from_pretrained(MODEL_DIR))


def diagonal_covariance(size: int, device: torch.device, seed: int) -> Covariance:
    """A C of the right size: its entries do not matter to the clock, collecting it from text would take longer than all that is timed."""
    moment = torch.diag(0.5 + torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    return Covariance(moment.to(device), 10 * size)


def editor_of(setting: Setting, base: str = "ROME", alone: bool = True) -> RobustEditor:
    """An editor that has read all it wants of the unedited model: contexts, C, ordinary text; of the bench model in the layers in which the
    method `alone` answers most, or else in those of the YAML that is recommended for pathways."""
    if setting.model not in SHAPES:
        editor = _trained(setting, base, alone)
        editor.memory  # noqa: B018
        return editor
    editor = _random(setting, base)
    anatomy, hparams = editor.anatomy, editor.hparams
    covariances = {i: diagonal_covariance(anatomy.key_size(i), setting.device, i) for i in hparams.layers}
    contexts = generate_contexts(anatomy, editor.tok, hparams.context_template_length_params or [[10, 5]], hparams.rep.seed)
    vars(editor.unedited)["memory"] = Memory(anatomy, editor.tok, contexts, covariances)
    return editor


def twin(editor: RobustEditor, setting: Setting) -> RobustEditor:
    """`editor` on a float32 copy of its model, for EasyEdit; itself where it is float32 already."""
    if setting.dtype == torch.float32:
        return editor
    if setting.model not in SHAPES:
        model, _ = load_model(editor.hparams.model_name, setting.device)
    else:
        model = random_model(setting.model, setting.device, torch.float32)
    other = RobustEditor.from_hparams(editor.hparams, model=model, tok=editor.tok)
    vars(other.unedited)["memory"] = replace(editor.memory, anatomy=other.anatomy)
    return other


def facts_of(setting: Setting, n: int | None) -> list[EditRequest]:
    """The first `n` facts, or all, that suit the model's tokenizer."""
    path = SHARED / "data/rep/valid.counterfact.json" if setting.model == "bench" else FACTS
    facts = load_records(Path(path))
    if n is not None and len(facts) < n:
        raise EditError(f"{path} has {len(facts)} facts, {n} are asked for")
    return facts[:n]


def sequence_of(setting: Setting, n: int) -> list[EditRequest]:
    """The first `n` facts of the longest file there is, or all where it has fewer; for the bench model 10,000 of CounterFact."""
    return load_records(SHARED / "data/counterfact/counterfact-edit.json")[:n] if setting.model == "bench" else facts_of(setting, None)[:n]
