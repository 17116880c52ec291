"""A second device, played by the CPU, for machines without a GPU.

A tensor that is said to be there (`second:0`) wraps one on the CPU. What a GPU refuses is refused: an operation on tensors of two
devices (but for those PyTorch allows), oneDNN's products, `numpy()`. The numbers are the CPU's own, so
that what ends differently on it has read or written the wrong tensor.

It says nothing of CUDA's kernels, random generators, streams and graphs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "second"
aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
READ = (aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default)
JOINED = (aten.cat.default, aten.stack.default)


class SecondTensor(Tensor):
    """A tensor of the second device; `inner` is the one on the CPU that it stands for."""

    @staticmethod
    def __new__(cls, inner: Tensor):
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = Tensor._make_wrapper_subclass(cls, inner.shape, device=f"{NAME}:0", requires_grad=False, **layout)
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def __repr__(self, **_):
        return f"SecondTensor({self.inner})"

    def tolist(self):
        return self.inner.tolist()

    def numpy(self, *_, **__):
        raise TypeError(f"can't convert a tensor of {self.device} to numpy")


def _run(func, args: tuple, kwargs: dict):
    """`func` on the CPU, with what it gives out where a GPU would leave it."""
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    here = [t for t in tensors if isinstance(t, SecondTensor)]
    # A scalar of the CPU may stand beside any tensor, except among those that are joined.
    strange = [t for t in tensors if not isinstance(t, SecondTensor) and (t.dim() or func in JOINED)]
    first_here = isinstance(args[0], SecondTensor) if args else False
    if here and strange and func not in COPIES and not (func in INDEXING and first_here):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {[(tuple(t.shape), t.device) for t in tensors]}")
    if here and func.namespace in ("mkldnn", "onednn"):
        raise RuntimeError(f"{func} knows the CPU only")
    if func is aten._fused_sdp_choice.default:
        return 0  # the way that is made of plain products: fused kernels are chosen by the device's name
    inner_args, inner = tree_map(_inner, args), tree_map(_inner, kwargs)
    there = first_here if func in (*COPIES[1:], *INDEXING) else bool(here)
    if inner.get("device") is not None:
        there = torch.device(inner["device"]).type == NAME
        inner["device"] = torch.device("cpu") if there else inner["device"]
        inner.pop("pin_memory", None)
    out = func(*inner_args, **inner)
    if func in READ:
        return out
    if func._schema.is_mutable and isinstance(out, Tensor) and out is inner_args[0]:
        if torch.Tag.inplace_view in func.tags:  # `squeeze_`: the shape that is said changes with that of what is wrapped
            with no_dispatch():
                func(*args, **kwargs)
        return args[0]
    return tree_map(lambda t: SecondTensor(t) if there and isinstance(t, Tensor) else t, out)


def _inner(value):
    return value.inner if isinstance(value, SecondTensor) else value


def _generator(device: torch.device | str = "cpu") -> torch.Generator:
    return _REAL("cpu" if torch.device(device).type == NAME else device)


_REAL = torch.Generator


class _Factories(TorchDispatchMode):
    """Makes tensors on the second device where they are asked for there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def can_be_played() -> bool:
    """Whether this PyTorch lets Python play a device."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


@contextmanager
def played() -> Iterator[str]:
    """The second device's name; tensors can be made on it inside."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=…) first makes one on the CPU, and moves it in sight of the mode
    try:
        with _Factories(), mock.patch.object(torch, "Generator", _generator):
            yield NAME
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def moved(model: nn.Module) -> nn.Module:
    """`model` on the second device, where `Module.to` cannot put it: a parameter's data may not change its class."""
    made: dict[nn.Parameter, nn.Parameter] = {}  # tied weights stay one
    for module in model.modules():
        for name, old in module._parameters.items():
            if old is not None:
                module._parameters[name] = made.setdefault(old, nn.Parameter(SecondTensor(old.detach()), old.requires_grad))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = SecondTensor(buffer.detach())
    return model


def _register() -> None:
    """Make `second` the name of a device. It is never `available`, so that no library takes it by itself."""

    class Hooks(torch._C._acc.PrivateUse1Hooks):
        def is_available(self):
            return False

        def has_primary_context(self, _device):
            return True

        def is_built(self):
            return False

    class Module:
        is_available = is_initialized = _is_in_bad_fork = staticmethod(lambda: False)
        current_device = device_count = staticmethod(lambda: 0)
        manual_seed_all = staticmethod(lambda seed: None)
        get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])

    backend_registration._setup_privateuseone_for_python_backend(NAME, hook=Hooks(), backend_module=Module())


if can_be_played():
    _register()  # at import, when tests are collected: autograd counts devices at its first backward pass, and never again
