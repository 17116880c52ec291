"""Locate-and-edit methods: requests + memory -> deltas. To add one, write a solver and a line in `METHODS`."""

from ..errors import EditError
from .base import BaseEdit, Memory, Method
from .d4s import D4S
from .emmet import EMMET
from .memit import MEMIT
from .r_rome import R_ROME
from .rome import ROME

METHODS: dict[str, Method] = {"ROME": ROME, "R-ROME": R_ROME, "MEMIT": MEMIT, "EMMET": EMMET, "D4S": D4S}


def get_method(name: str) -> Method:
    """The native method called `name`."""
    if name not in METHODS:
        raise EditError(f"base {name!r} has no native engine (there are: {', '.join(METHODS)})")
    return METHODS[name]


__all__ = ["METHODS", "BaseEdit", "Memory", "Method", "get_method"]
