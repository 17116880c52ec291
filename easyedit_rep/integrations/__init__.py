"""Bridges to other frameworks; nothing here imports them unless they are in use."""

import sys


def activate_easyedit() -> None:
    """Register with EasyEdit if it has been imported in this process; else do nothing. Idempotent."""
    if "easyeditor" in sys.modules:
        from .easyedit import activate

        activate()
