"""REP as a PEFT tuner, and attaching or detaching pathways on a plain Hugging Face model."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch
from peft import PeftType, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import register_peft_method
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..errors import EditError
from ..interrupts import uninterrupted
from ..memory.delta import tensor_digest
from .config import RepConfig
from .layer import RepLayer


class RepModel(BaseTuner):
    """The tuner: puts a `RepLayer` in the place of every target module. Nothing can be merged, since the gate is not linear."""

    prefix: str = "rep_"
    tuner_layer_cls = RepLayer
    target_module_mapping: ClassVar[dict] = {}

    def _create_and_replace(self, peft_config, adapter_name, target, target_name, parent, current_key, **_kwargs):
        if peft_config.bundle is not None:
            _warn_of_other_weights(peft_config.bundle[current_key], getattr(target, "base_layer", target).weight, current_key)
        if isinstance(target, RepLayer):
            target.update_layer(adapter_name, peft_config, current_key)
        elif isinstance(target, (nn.Linear, Conv1D)):
            layer = RepLayer(target, adapter_name, peft_config, current_key)
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)
        else:
            raise EditError(f"{current_key} is a {type(target).__name__}: a pathway needs a Linear or Conv1D down-projection")

    # A RepLayer lists the weight of its down-projection among its own, where PEFT takes all that is there to be the adapter's.

    def _mark_only_adapters_as_trainable(self, model: nn.Module) -> None:
        super()._mark_only_adapters_as_trainable(model)
        for layer in layers_of(model).values():
            for parameter in layer.base_layer.parameters(recurse=False):
                parameter.requires_grad_(False)

    @classmethod
    def _get_adapter_state_dict(cls, **known) -> dict[str, Tensor]:
        return {key: value for key, value in super()._get_adapter_state_dict(**known).items() if f".{cls.prefix}" in key}


def _warn_of_other_weights(made_on: Mapping, weight: Tensor, name: str) -> None:
    """PEFT has no way to force a load, so that other weights are told of and no more; of another dtype nothing can be said."""
    if str(weight.dtype) == f"torch.{made_on['dtype']}" and weight.device.type != "meta" and tensor_digest(weight) != made_on["original"]:
        warnings.warn(f"{name}.weight is not the one these edits were made on: they may do less, nothing, or harm", stacklevel=2)


def register() -> None:
    """Make PEFT know `REP`. PEFT wants a member of its enum for every method and has no call that adds one (peft #2282)."""
    if "REP" not in PeftType.__members__:
        member = str.__new__(PeftType, "REP")
        member._name_, member._value_ = "REP", "REP"
        PeftType._member_names_.append("REP")
        PeftType._member_map_["REP"] = member
        PeftType._value2member_map_["REP"] = member
        type.__setattr__(PeftType, "REP", member)  # Python >= 3.12 looks members up as attributes
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    if PeftType.REP not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name="rep", config_cls=RepConfig, model_cls=RepModel)


def layers_of(model: nn.Module) -> dict[str, RepLayer]:
    """{module name: pathway layer} of everything attached to `model`."""
    return {name: module for name, module in model.named_modules() if isinstance(module, RepLayer)}


@contextmanager
def pathways_disabled(model: nn.Module) -> Iterator[None]:
    """Every pathway, and dropout, is off inside: keys and values are read, and base edits made, on the bare model."""
    layers = list(layers_of(model).values())
    states = [layer._disable_adapters for layer in layers]
    training = [module for module in model.modules() if module.training]
    for layer in layers:
        layer._disable_adapters = True
    model.eval()  # dropout would make keys and values random
    try:
        yield
    finally:
        for layer, state in zip(layers, states, strict=True):
            layer._disable_adapters = state
        for module in training:
            module.training = True


@contextmanager
def global_randomness_kept(model: nn.Module) -> Iterator[None]:
    """Modules made inside take their start weights from PyTorch's global state, which is then put back: those are overwritten anyway."""
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)):
        yield


@uninterrupted()
@torch.inference_mode(False)
def attach(model: nn.Module, name: str, config: RepConfig, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Add a pathway called `name` beside those already there and switch it on.

    Its parameters are ordinary tensors also where inference mode is on: they may be used after it, and be stacked with others'.

    Args:
        tensors: {module name: {"rep_down.weight": …}} as `detached_state` gives them.
    """
    flags = {id(p): p.requires_grad for p in model.parameters()}
    try:
        with warnings.catch_warnings(), global_randomness_kept(model):
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            inject_adapter_in_model(config, model, adapter_name=name)
        present = layers_of(model)
        for module_name, state in tensors.items():
            load_state(present[module_name], name, state)
    except (KeyError, AttributeError, RuntimeError) as error:
        detach(model, name)
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise EditError(f"pathway {name} does not fit {type(model).__name__}: {' '.join(str(error).split())}") from error
    except BaseException:
        detach(model, name)
        raise
    finally:
        for layer in layers_of(model).values():
            layer.set_adapter(sorted(layer.rep_count), inference_mode=True)
        for p in model.parameters():  # PEFT freezes the model it adapts; ours is only visited
            p.requires_grad_(flags.get(id(p), False))


@uninterrupted()
def detach(model: nn.Module, *names: str) -> None:
    """Take the pathways called so off, as many of them as there are. With the last one gone the module tree is the original one again."""
    for module_name, layer in layers_of(model).items():
        leaving = layer.rep_count.keys() & set(names)
        if not leaving:
            continue
        layer.set_adapter([n for n in layer.active_adapters if n not in leaving], inference_mode=True)
        for name in leaving:
            layer.delete_adapter(name)
        if not layer.rep_count:
            parent, _, child = module_name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.base_layer)
    configs = getattr(model, "peft_config", {})
    for name in names:
        configs.pop(name, None)
    if not configs and "peft_config" in model.__dict__:
        del model.peft_config


def detached_state(layer: RepLayer, name: str) -> dict[str, Tensor]:
    """{"rep_down.weight": …}: a copy of one pathway's tensors, on the CPU: while it is attached the model has its own."""
    return {
        f"{group}.{key}": value.detach().to("cpu", copy=True)
        for group in layer.adapter_layer_names
        if name in getattr(layer, group)
        for key, value in getattr(layer, group)[name].named_parameters()
    }


def load_state(layer: RepLayer, name: str, state: Mapping[str, Tensor]) -> None:
    """Copy `state` into one pathway of `layer`."""
    with torch.no_grad():
        for key, value in state.items():
            group, _, rest = key.partition(".")
            parameter = getattr(layer, group)[name].get_parameter(rest)
            if parameter.shape != value.shape:  # copy_ would broadcast
                raise RuntimeError(f"{key} is {tuple(value.shape)}, not {tuple(parameter.shape)}")
            parameter.copy_(value)
