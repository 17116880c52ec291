"""The same with EMMET."""

from collections.abc import Iterator

from . import memit_batch
from .common import Case, Setting


def cases(setting: Setting) -> Iterator[Case]:
    return memit_batch.cases(setting, "EMMET")
