"""Bridges to other frameworks; nothing here imports them unless they are in use."""

import sys


def activate_easyedit() -> None:
    """Register with EasyEdit if it has been imported in this process; else do nothing. Idempotent."""
    if "easyeditor" in sys.modules:
        from .easyedit import activate

        activate()


def register_with_peft() -> None:
    """Make PEFT know `peft_type: REP`: now if it has been imported in this process, else when it is. Idempotent."""
    if "peft" in sys.modules:
        from .. import pathway  # noqa: F401 (registers)
    else:
        from .late import when_imported

        when_imported("peft", "easyedit_rep.pathway")
