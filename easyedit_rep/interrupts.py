"""Ctrl-C, and steps of which half would be wrong."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C inside is heard when the block, or the function this decorates, has ended. Other errors are raised as ever.

    A thread that is not the main one gets no Ctrl-C, and a handler that Python did not set is not ours to move.
    """
    before = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if before is None:
        yield
        return
    heard: list[tuple] = []
    signal.signal(signal.SIGINT, lambda *signal_and_frame: heard.append(signal_and_frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard and callable(before):
            before(*heard[0])
        elif heard and before is signal.SIG_DFL:
            signal.raise_signal(signal.SIGINT)  # ends the process, as it would have then


@contextmanager
def undone_if_interrupted(undo: Callable[[], object]) -> Iterator[None]:
    """`uninterrupted`, for what is to be done or not: after Ctrl-C inside, what has been done is taken back by `undo`."""
    try:
        with uninterrupted():
            yield
    except KeyboardInterrupt:
        undo()
        raise
