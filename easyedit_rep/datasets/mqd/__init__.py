"""The Multi-Question Dataset: built from ATOMIC, since the paper's was never released."""

from .build import TYPES, Mqd, build
from .files import path_of, write_mqd

__all__ = ["TYPES", "Mqd", "build", "path_of", "write_mqd"]
