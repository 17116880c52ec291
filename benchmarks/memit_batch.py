"""A batch of edits at once with MEMIT: ours and EasyEdit's, on the same contexts, C and hyper-parameters, in the same number of steps."""

from collections.abc import Iterator

from . import theirs
from .common import Case, Setting, name_of
from .models import editor_of, facts_of, twin

BATCH = 64


def cases(setting: Setting, base: str = "MEMIT") -> Iterator[Case]:
    editor = editor_of(setting, base)
    requests = facts_of(setting, setting.n or BATCH)
    ways = {"native": lambda _turn: theirs.native(editor, requests)}
    if setting.easyedit:
        other = twin(editor, setting)
        ways["EasyEdit"] = lambda _turn: theirs.edit(other, requests)
    yield Case(
        f"{len(requests)} {base} edits at once, {setting.model}, {name_of(setting.dtype)}, layers {editor.hparams.layers}",
        ways,
        "EasyEdit" if setting.easyedit else "native",
        theirs.agreement(ways) if setting.easyedit and other is editor else None,
        {"native": 12.0} if setting.easyedit and base == "MEMIT" else {},
        memory=True,
    )
