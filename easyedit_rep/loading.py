"""Loading a model and its tokenizer, and checking that they can be edited."""

from pathlib import Path

import torch
import transformers
from packaging.version import Version
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from .errors import EditError


def torch_device(device: int | str) -> torch.device:
    """EasyEdit's `device`: a CUDA index, or a name such as "cpu"."""
    name = f"cuda:{device}" if isinstance(device, int) or str(device).isdigit() else str(device)
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise EditError(f"device: {device!r} needs CUDA, which this machine does not have; set device: cpu")
    return torch.device(name)


def load_model(model_name: str, device: int | str = "cpu", *, fp16: bool = False, bf16: bool = False, model_parallel: bool = False):
    """(model, tokenizer) by hub name or local path: float32, or float16 or bfloat16 as asked; spread over devices with `model_parallel`."""
    if model_name.startswith((".", "/")) and not Path(model_name).exists():
        raise EditError(f"model_name: {model_name} does not exist; give a local folder or a Hugging Face name")
    options = {"device_map": "auto"} if model_parallel else {}
    dtype = "dtype" if Version(transformers.__version__) >= Version("4.56") else "torch_dtype"  # renamed there
    options[dtype] = torch.float16 if fp16 else torch.bfloat16 if bf16 else torch.float32
    try:
        tok = AutoTokenizer.from_pretrained(model_name)
        model = AutoModelForCausalLM.from_pretrained(model_name, **options)
    except (ImportError, OSError, ValueError) as error:  # a missing tokenizer file ends in an ImportError
        raise EditError(f"model_name: cannot load {model_name!r}: {' '.join(str(error).split())[:300]}") from error
    return (model if model_parallel else model.to(torch_device(device))).eval(), tok


def check_weights(model: nn.Module) -> None:
    """Raise `EditError` if a parameter holds NaN or infinity, or is not in memory."""
    if any(parameter.is_meta for parameter in model.parameters()):
        raise EditError("a part of the model is offloaded, where it cannot be edited: take more or larger GPUs, or bf16: true")
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        # The sum is the cheap test; it can overflow where no value does.
        if parameter.is_floating_point() and not torch.isfinite(values.sum()) and not torch.isfinite(values).all():
            raise EditError(f"{name} holds NaN or infinite values: the checkpoint is broken, load it again")
