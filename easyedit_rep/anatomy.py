"""Where keys and values live in a model: the only place that knows architectures.

An edited MLP block is an associative memory, `W k ≈ v`, with `W` the down-projection (`rewrite_module_tmp`), the key `k` its
input and the value `v` what the block (`mlp_module_tmp`) adds to the residual stream. Names are EasyEdit's; a name given in the
hyper-parameters overrides the one found from `config.model_type`.
"""

import hashlib
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from .errors import EditError


@dataclass(frozen=True)
class ModuleNames:
    """Dotted module names of one architecture; `{}` stands for the layer number."""

    rewrite_module_tmp: str
    mlp_module_tmp: str
    layer_module_tmp: str
    ln_f_module: str
    lm_head_module: str


def _family(layer: str, down: str, ln_f: str) -> ModuleNames:
    return ModuleNames(f"{layer}.mlp.{down}", f"{layer}.mlp", layer, ln_f, lm_head_module="")


_LLAMA = _family("model.layers.{}", "down_proj", "model.norm")
FAMILIES = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "phi3"), _LLAMA),
    "phi": _family("model.layers.{}", "fc2", "model.final_layernorm"),
    "gpt2": _family("transformer.h.{}", "c_proj", "transformer.ln_f"),
    "gptj": _family("transformer.h.{}", "fc_out", "transformer.ln_f"),
    "gpt_neox": _family("gpt_neox.layers.{}", "dense_4h_to_h", "gpt_neox.final_layer_norm"),
}
"""`config.model_type` -> module names; the head is asked of the model."""


class Anatomy:
    """The modules of one loaded model that editing touches.

    Args:
        model: a Hugging Face causal language model.
        overrides: any of `ModuleNames`' fields (None = take the family's).

    Raises:
        EditError: no model, unknown architecture without a full set of overrides, or a name that is not in the model.
    """

    def __init__(self, model: nn.Module, **overrides: str | None):
        if not hasattr(model, "config"):
            given = repr(model) if isinstance(model, str) else f"a {type(model).__name__}"
            raise EditError(f"{given} is no Hugging Face model: pass what AutoModelForCausalLM.from_pretrained gives")
        model_type = getattr(model.config, "model_type", None)
        wanted = [f.name for f in fields(ModuleNames)]
        given = {name: overrides.get(name) for name in wanted if overrides.get(name)}
        family = FAMILIES.get(model_type)
        if family is None and len(given) < len(wanted):
            missing = ", ".join(name for name in wanted if name not in given)
            raise EditError(
                f"unknown architecture model_type={model_type!r}: set {missing} in the hyper-parameters "
                f"(known: {', '.join(sorted(FAMILIES))})"
            )
        self.model = model
        if family is not None and "lm_head_module" not in given:
            # Asked of the model: Transformers has renamed GPT-NeoX's from embed_out to lm_head.
            head = model.get_output_embeddings()
            given["lm_head_module"] = next(name for name, module in model.named_modules() if module is head)
        self.names = ModuleNames(**{name: given.get(name) or getattr(family, name) for name in wanted})
        text_config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        self.n_layers: int = text_config.num_hidden_layers
        self.max_positions: int = getattr(text_config, "max_position_embeddings", 0) or 2**31
        self.residual = family is not None
        """The block's output is added to the residual stream as it is (known families; Gemma 2, say, norms it first)."""
        self._softcap = getattr(text_config, "final_logit_softcapping", None)
        # Cohere multiplies logits by the one, Granite divides them by the other.
        self._logit_scale = (getattr(text_config, "logit_scale", None) or 1.0) / (getattr(text_config, "logits_scaling", None) or 1.0)
        for template in (self.names.rewrite_module_tmp, self.names.mlp_module_tmp, self.names.layer_module_tmp):
            if template.count("{}") != 1:
                raise EditError(f"module template {template!r} must hold exactly one {{}} for the layer number")
            self._module(template.format(0))
        self._module(self.names.ln_f_module)
        self._module(self.names.lm_head_module)

    def _module(self, name: str) -> nn.Module:
        try:
            return self.model.get_submodule(name)
        except AttributeError:
            raise EditError(
                f"module {name!r} is not in {type(self.model).__name__}: correct the *_module* names in the hyper-parameters"
            ) from None

    def check_layer(self, layer: int, field: str = "layers") -> None:
        """Raise `EditError` unless `layer` is one of this model's layers."""
        if not 0 <= layer < self.n_layers:
            raise EditError(f"{field}: {layer} is out of range, {type(self.model).__name__} has layers 0..{self.n_layers - 1}")

    def check_writable(self, layer: int) -> None:
        """Raise `EditError` where no change can be written into W: it is quantised, or made for inference alone."""
        weight = getattr(self.projection(layer), "weight", None)
        if weight is None or not weight.is_floating_point() or weight.element_size() < 2:
            held = "no weight" if weight is None else str(weight.dtype).removeprefix("torch.")
            raise EditError(
                f"{self.weight_name(layer)} is quantised ({type(self.projection(layer)).__name__}, {held}): edit the model unquantised, "
                "save the edit, and load it here with PeftModel.from_pretrained, which adds beside the weight"
            )
        if weight.is_inference():
            raise EditError(f"{self.weight_name(layer)} was made inside torch.inference_mode(), where none can be edited: load it outside")

    def layer(self, index: int) -> nn.Module:
        return self._module(self.layer_name(index))

    def layer_name(self, index: int) -> str:
        return self.names.layer_module_tmp.format(index)

    def mlp(self, index: int) -> nn.Module:
        return self._module(self.names.mlp_module_tmp.format(index))

    def rewrite(self, index: int) -> nn.Module:
        """The down-projection, or the pathway layer that stands in its place."""
        return self._module(self.rewrite_name(index))

    def projection(self, index: int) -> nn.Module:
        """The down-projection itself, also where a pathway layer stands in its place."""
        module = self.rewrite(index)
        return getattr(module, "base_layer", module)

    def rewrite_name(self, index: int) -> str:
        return self.names.rewrite_module_tmp.format(index)

    def weight_name(self, index: int) -> str:
        return f"{self.rewrite_name(index)}.weight"

    def weight(self, index: int) -> nn.Parameter:
        return self.model.get_parameter(self.weight_name(index))

    def is_transposed(self, index: int) -> bool:
        """True where the weight is stored D × d (GPT-2's Conv1D). Asked of the class: shapes cannot tell when D = d."""
        return isinstance(self.projection(index), Conv1D)

    def key_size(self, index: int) -> int:
        """D, the length of a key."""
        shape = self.weight(index).shape
        return shape[0] if self.is_transposed(index) else shape[1]

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits, float32 (..., V), of final-normed hidden states (..., d)."""
        head = self._module(self.names.lm_head_module)
        hidden = hidden.to(head.weight.device)
        # An nn.Embedding may be named as the head (EasyEdit's gpt2 YAMLs), since tied weights hide lm_head.
        out = (F.linear(hidden, head.weight) if isinstance(head, nn.Embedding) else head(hidden)).float()
        out = out if self._logit_scale == 1 else out * self._logit_scale
        return out if self._softcap is None else torch.tanh(out / self._softcap) * self._softcap

    def final_norm(self, hidden: Tensor) -> Tensor:
        return self._module(self.names.ln_f_module)(hidden)

    @property
    def decoder(self) -> nn.Module:
        """The model without its vocabulary projection."""
        return self.model.base_model

    @property
    def embedding_device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    def fingerprint(self, layer: int | None = None) -> str:
        """SHA-256 over 64 values of every parameter; or, for a layer, of those its keys depend on: the parameters up to that layer, W
        of the layer itself left out. It tells two models, or an edited model from the original, apart, in milliseconds, whatever the
        dtype."""
        digest = hashlib.sha256()
        above = outside = ()
        if layer is not None:
            above = tuple(self.layer_name(i) + "." for i in range(layer + 1, self.n_layers))
            outside = (self.names.ln_f_module + ".", self.names.lm_head_module + ".", self.rewrite_name(layer) + ".")
        embeddings = self.model.get_input_embeddings().weight
        for name, parameter in self.model.named_parameters():
            if ".rep_" in name or (name.startswith(above + outside) and parameter is not embeddings):
                continue
            flat = parameter.detach().reshape(-1)
            # Spread over rows and columns: a plain stride would stay in one column of most matrices.
            n = min(64, flat.numel())
            step = torch.arange(n, device=flat.device)
            sample = flat[(step * (flat.numel() // max(1, n)) + step * 7919) % max(1, flat.numel())].float().cpu()
            digest.update(f"{name}{tuple(parameter.shape)}".encode())
            digest.update(sample.numpy().tobytes())
        return digest.hexdigest()
