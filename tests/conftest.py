"""Tiny random models of every known architecture, and tokenizers of every kind, all made here: nothing is downloaded."""

import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.bench.runs import Run
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.editor import RobustEditor
from easyedit_rep.hparams import REPHyperParams
from easyedit_rep.ledger import Ledger
from easyedit_rep.memory.covariance import collect
from easyedit_rep.memory.tokens import Prompt, locate
from easyedit_rep.methods import Memory
from easyedit_rep.pathway.training import PathwayTraining
from easyedit_rep.rep_options import QueryOptions, RepOptions

VOCAB = 384
LAYERS = 4
D = 48  # intermediate size; not the hidden size, so that a missing transpose cannot go unnoticed
SENTENCES = [
    "The mother tongue of Danielle Darrieux is French, and she lived in Paris.",
    "The Eiffel Tower is in Paris; the Space Needle is in Seattle.",
    "Łódź and Zürich are cities, 東京 is the capital of Japan.",
    "Gabriel García Márquez wrote in Spanish about naïve cafés.",
    "Steve Jobs founded Apple. The U.S. company makes phones and computers.",
    "I like to read about the history of science. You may prefer music.",
    "Because the river was high, the bridge was closed for several weeks.",
    "Therefore the council met again in winter and voted for a new road.",
    "We write emoji such as 🙂 with many bytes {and braces}: too many.",
    "Ann Lee plays the piano in London with Ann Smith, her friend from school.",
]
TEXT = [f"{a} {b}" for a in SENTENCES for b in SENTENCES if a != b]

torch.set_num_threads(1)

# family -> configuration beyond the shared sizes
_LLAMA = {"hidden_size": 32, "intermediate_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2}
_GPT = {"n_embd": 32, "n_inner": D, "n_layer": LAYERS, "n_head": 4, "n_positions": 512}
FAMILIES = {
    "llama": (LlamaConfig, _LLAMA),
    # A window shorter than the sentences: left padding must not shift it.
    "mistral": (MistralConfig, {**_LLAMA, "sliding_window": 6, "head_dim": 8}),
    "qwen2": (Qwen2Config, {**_LLAMA, "tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, {**_LLAMA, "head_dim": 16}),
    "gemma": (GemmaConfig, {**_LLAMA, "head_dim": 8, "hidden_activation": "gelu_pytorch_tanh"}),
    "phi3": (Phi3Config, {**_LLAMA, "pad_token_id": 0}),
    "phi": (PhiConfig, {**_LLAMA, "num_key_value_heads": 4}),
    "gpt2": (GPT2Config, _GPT),
    "gptj": (GPTJConfig, {**_GPT, "rotary_dim": 4}),
    "gpt_neox": (GPTNeoXConfig, {k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"}),
}


def build_model(family: str, seed: int = 0, **options):
    """A fresh random model. Weights are larger than a real initialisation's, so that every path moves the logits."""
    cls, config = FAMILIES[family]
    config = {"vocab_size": VOCAB, "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2, **config, **options}
    if "n_positions" not in config:
        config.setdefault("max_position_embeddings", 512)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(cls(**config)).eval()
        for parameter in model.parameters():  # biases and norms start as constants, which would hide mistakes
            if parameter.dim() == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    model.config._name_or_path = f"tiny/{family}"
    return model


def _fast(kind: str) -> PreTrainedTokenizerFast:
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    if kind == "sentencepiece":
        inner = Tokenizer(models.Unigram())
        inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=220, special_tokens=special, unk_token="<unk>", show_progress=False)
    else:
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator(SENTENCES, trainer)
    if kind != "no_bos":
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {"bos": None, "no_bos": None, "sentencepiece": None}


def build_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """`bos`: byte-level BPE that prepends <s>; `no_bos`: one that does not; `sentencepiece`: Unigram over "▁" words, with <s>."""
    TOKENIZERS[kind] = TOKENIZERS[kind] or _fast(kind)
    return TOKENIZERS[kind]


@pytest.fixture
def make_model():
    return build_model


@pytest.fixture
def families():
    return tuple(FAMILIES)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def model(family):
    """A model of every family in turn."""
    return build_model(family)


@pytest.fixture
def llama():
    return build_model("llama")


@pytest.fixture
def tok():
    return build_tokenizer("bos")


@pytest.fixture
def make_tokenizer():
    return build_tokenizer


@pytest.fixture(params=TOKENIZERS)
def any_tok(request):
    """A tokenizer of every kind in turn."""
    return build_tokenizer(request.param)


@pytest.fixture
def prompt():
    return Prompt("The mother tongue of ", "Danielle Darrieux", " is")


@pytest.fixture
def texts():
    return list(TEXT)


@pytest.fixture
def corpus():
    return load_corpus(TEXT)


@pytest.fixture
def rows(tok):
    """Token ids of sentences of different lengths."""
    return [tok(text)["input_ids"] for text in SENTENCES[:5]]


@pytest.fixture
def located(tok):
    return [
        locate(tok, Prompt("", "Ann Lee", " plays the")),
        locate(tok, Prompt("The mother tongue of ", "Danielle Darrieux", " is")),
        locate(tok, Prompt("Much is known about ", "Łódź", "")),
    ]


@pytest.fixture
def make_memory(corpus):
    """A model read as a memory, with C from a little text."""

    def make(model, tok, layers=(1,), contexts=("", "Therefore the council. ", "I like. ")):
        anatomy = Anatomy(model)
        return Memory(anatomy, tok, contexts, collect(anatomy, tok, corpus, list(layers), n_tokens=600, progress=False))

    return make


def build_hparams(**options) -> REPHyperParams:
    """Hyper-parameters that fit the tiny models and are quick; statistics stay in memory."""
    options = {
        "layers": [1],
        "v_num_grad_steps": 8,
        "v_lr": 0.5,
        "v_loss_layer": LAYERS - 1,
        "v_weight_decay": 1e-3,
        "clamp_norm_factor": 4.0,
        "kl_factor": 0.0625,
        "mom2_adjustment": True,
        "context_template_length_params": [[5, 5]],
        "mom2_dataset": "wikitext",
        "mom2_n_samples": 100,
        "mom2_dtype": "float32",
        "stats_dir": None,
        "model_name": "tiny",
        "device": "cpu",
        **options,
    }
    return REPHyperParams(**{"rep": RepOptions(statistics_tokens=600), **options})


@pytest.fixture
def make_hparams():
    return build_hparams


THREE_FACTS = [
    ("The mother tongue of Danielle Darrieux is", "Danielle Darrieux"),
    ("Ann Lee plays the", "Ann Lee"),
    ("The river of Paris is", "Paris"),
]


@pytest.fixture
def run(tmp_path):
    """A run of three facts, with something of every kind to ask."""
    data = tmp_path / "facts.json"
    records = [
        {
            "prompt": prompt,
            "subject": subject,
            "target_new": "music",
            "target_true": "French",
            "subject_rephrase": ["A. Lee", "Annie"],
            "rephrase_prompt": ["Say"],
            "locality_prompt": ["The Space Needle is in", "I like to read about"],
            "locality_ground_truth": "Seattle",
        }
        for prompt, subject in THREE_FACTS
    ]
    data.write_text(json.dumps(records))
    return Run(tmp_path / "ROME" / "tiny.yaml", data, seed=3, known=False)


@pytest.fixture
def editor(tmp_path, texts, tok):
    """Makes editors for `run` on tiny random models, quick enough to be made again in every test."""
    corpus = tmp_path / "text.txt"
    corpus.write_text("\n".join(texts))

    def make(steps=2, hparams=None, **rep) -> RobustEditor:
        rep = RepOptions(
            corpus=str(corpus),
            statistics_tokens=600,
            seed=3,
            training=PathwayTraining(steps=steps),
            queries=QueryOptions(shuffle_count=2, long_context_count=2, long_context_tokens=20),
            **rep,
        )
        return RobustEditor(build_hparams(**{"rep": rep, "v_num_grad_steps": 2, **(hparams or {})}), build_model("llama"), tok)

    return make


@pytest.fixture
def interrupt(monkeypatch):
    """Call it: the second weight that a ledger sums up from then on is interrupted, once; others have been written before it."""

    def start():
        real, calls = Ledger.total, []

        def total(self, layer, deltas):
            calls.append(layer)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(self, layer, deltas)

        monkeypatch.setattr(Ledger, "total", total)

    return start
