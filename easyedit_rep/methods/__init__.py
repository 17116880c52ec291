"""Locate-and-edit methods: request + memory -> deltas. To add one, write a solver and a line in `METHODS`."""

from collections.abc import Callable

from ..errors import EditError
from .base import BaseEdit, Memory
from .rome import rome

METHODS: dict[str, Callable[..., BaseEdit]] = {"ROME": rome}
"""Name -> solver(memory, hparams, requests)."""


def get_method(name: str) -> Callable[..., BaseEdit]:
    """The solver called `name`."""
    if name not in METHODS:
        raise EditError(f"base {name!r} has no native engine (there are: {', '.join(METHODS)})")
    return METHODS[name]


__all__ = ["METHODS", "BaseEdit", "Memory", "get_method"]
