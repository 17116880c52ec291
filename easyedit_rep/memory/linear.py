"""Multiplying by frozen weights, which is what reading keys and optimising values spend their time on.

On a CPU PyTorch multiplies float32 matrices with MKL, which on processors that are not Intel's runs at half of what oneDNN, also part of
PyTorch, reaches (84 × 384 by 384 × 1024 on one Zen 5 core: 90 against 165 GFLOP/s). Both are float32 throughout; sums are rounded in
another order. In bfloat16 the same product runs at 325 GFLOP/s.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from transformers.pytorch_utils import Conv1D


class _Product(Function):
    """x Wᵀ + b for weights that ask for no gradient, by oneDNN."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return _onednn(grad, ctx.weight.T, None), None, None


class _RoundedProduct(Function):
    """x Wᵀ + b in the dtype of W, x and the result being of another."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return F.linear(x.to(weight.dtype), weight, bias).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return (grad.to(ctx.weight.dtype) @ ctx.weight).to(grad.dtype), None, None


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def square(rows: Tensor) -> Tensor:
    """rowsᵀ · rows (D, D) of (n, D), in their dtype."""
    if rows.device.type == "cpu" and rows.dtype == torch.float32 and _has_onednn():
        columns = rows.T.contiguous()
        return _onednn(columns, columns, None)
    return rows.T @ rows


def gram(rows: Tensor) -> Tensor:
    """rowsᵀ · rows (D, D) of (n, D): on a CPU in float32, unless the rows are float64; on a GPU, where float32 may mean TF32, in float64.

    The relative error of a float32 product over a thousand rows, 3e-7, is that of the keys, which a float32 model computes alike.
    """
    fast = rows.device.type == "cpu" and rows.dtype != torch.float64 and _has_onednn()
    return square(rows.float() if fast else rows.double())


class _Forward:
    """Stands in for the `forward` of one Linear or Conv1D."""

    def __init__(self, product: type[Function], weight: Tensor, bias: Tensor | None):
        self.product, self.weight, self.bias = product, weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        if self.product is _Product and torch.is_autocast_enabled("cpu"):
            return F.linear(x, self.weight, self.bias)  # whose dtype is autocast's business
        return self.product.apply(x, self.weight, self.bias)


def _forward_of(module: nn.Module, dtype: torch.dtype | None) -> _Forward | None:
    """What multiplies faster than `module` itself; None where nothing does."""
    weight, bias = module.weight.detach(), None if module.bias is None else module.bias.detach()
    weight = weight.T if isinstance(module, Conv1D) else weight
    if dtype is not None and weight.dtype != dtype:
        return _Forward(_RoundedProduct, weight.to(dtype), None if bias is None else bias.to(dtype))
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and _has_onednn():
        return _Forward(_Product, weight, bias)
    return None


def _linears(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every linear map in `module`, with its name; no subclasses (quantised ones, say), which know better how to multiply."""
    # A pathway layer stands before the map it is named after. Its own maps are small, and with a thousand edits there are thousands.
    module = module.__dict__.get("base_layer", module)
    if type(module) in (nn.Linear, Conv1D):
        yield name, module
    for child, inner in module.named_children():
        yield from _linears(inner, f"{name}.{child}" if name else child)


@contextmanager
def fast_linears(model: nn.Module, dtype: torch.dtype | None = None, names: str | tuple[str, ...] = "") -> Iterator[None]:
    """Every linear map of `model` multiplies the fastest way there is inside. Its weights must not ask for gradients, or change.

    One inside another: the inner one holds.

    Args:
        dtype: multiply in this one, each weight being converted once; what goes in and comes out keeps its own dtype, and so does all
            between the linear maps. None: the weights' own.
        names: only modules whose names begin so.
    """
    before = {}
    try:
        for name, module in _linears(model):
            outer = module.__dict__.get("forward")
            # Modules that someone has hooked into (Accelerate) know better how to multiply.
            if module not in before and (outer is None or isinstance(outer, _Forward)) and name.startswith(names):
                before[module] = outer
                _set_forward(module, _forward_of(module, dtype))
        yield
    finally:
        for module, outer in before.items():
            _set_forward(module, outer)


def _set_forward(module: nn.Module, forward: _Forward | None) -> None:
    """None: the class's own."""
    module.__dict__.pop("forward", None)
    if forward is not None:
        module.forward = forward
