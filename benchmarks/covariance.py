"""C of five layers over the same tokens: in one pass, layer by layer in our own code, and EasyEdit's `layer_stats`, layer by layer."""

import contextlib
import importlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor

from easyedit_rep import RobustEditor
from easyedit_rep.memory.covariance import Sample, accumulate
from easyedit_rep.memory.tokens import token_budget

from .common import Case, Setting, name_of
from .models import editor_of, twin

TOKENS = 20_000


def _theirs(editor: RobustEditor, layers: Sequence[int], texts: Sequence[str]) -> dict[int, Tensor]:
    module = importlib.import_module("easyeditor.models.rome.layer_stats")
    anatomy, out = editor.anatomy, {}
    data = {"train": [{"text": text} for text in texts]}
    with tempfile.TemporaryDirectory() as folder, patch.object(module, "load_dataset", lambda *_: data):
        for layer in layers:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                found = module.layer_stats(
                    editor.model,
                    editor.tok,
                    anatomy.rewrite_name(layer),
                    folder,
                    "wikitext",
                    ["mom2"],
                    model_name="benchmark",
                    precision="float32",
                    hparams=SimpleNamespace(device=anatomy.embedding_device),
                )
            out[layer] = found.mom2.moment()
    return out


def cases(setting: Setting) -> Iterator[Case]:
    editor = editor_of(setting, "ROME")
    anatomy = editor.anatomy
    layers = list(range(1, min(6, anatomy.n_layers)))
    wanted = setting.n or TOKENS
    # Texts whole, as EasyEdit takes them.
    texts, total = [], 0
    for text in editor.unedited.corpus.shuffled(0):
        ids = editor.tok(text)["input_ids"]
        if len(ids) <= min(1024, anatomy.max_positions):
            texts.append(text)
            total += len(ids)
        if total >= wanted:
            break
    sample = Sample([editor.tok(text)["input_ids"] for text in texts], {})

    def one_pass(_turn: int):
        return {layer: c.moment for layer, c in accumulate(anatomy, sample, layers, progress=False).items()}

    def one_by_one(_turn: int):
        return {layer: accumulate(anatomy, sample, [layer], progress=False)[layer].moment for layer in layers}

    ways = {"one pass": one_pass, "layer by layer": one_by_one}
    if setting.easyedit:
        other = twin(editor, setting)
        ways["EasyEdit"] = lambda _turn: _theirs(other, layers, texts)

    def compare(results: dict) -> dict[str, float]:
        mine = results["one pass"]
        return {
            f"relative difference of {name}": max(((c[i].to(mine[i]) - mine[i]).norm() / mine[i].norm()).item() for i in mine)
            for name, c in results.items()
            if name != "one pass" and (name != "EasyEdit" or setting.dtype == torch.float32)
        }

    yield Case(
        f"C of layers {layers[0]} to {layers[-1]}, {total:,} tokens, {setting.model}, {name_of(setting.dtype)}",
        ways,
        "EasyEdit" if setting.easyedit else "layer by layer",
        compare,
        {"one pass": 6.0} if setting.easyedit else {},
        f"batches of {token_budget(anatomy.embedding_device):,} tokens, products in float32, sums in float64; EasyEdit's are float32",
        work=float(total),
        unit="tokens",
    )
