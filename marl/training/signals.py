"""Signals that stop a run early."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from marl.utils import distributed


class Stop:
    """A request to stop the run, by SIGTERM or Ctrl-C.

    The first signal lets the iteration finish, so that it can be saved; a second one ends the run
    at once, and it can be resumed from its last checkpoint.
    """

    def __init__(self) -> None:
        self.signal: int | None = None  # number of the signal that all ranks know of
        self.why = ""  # why the run finished before its last frame; empty if it did not
        self.local_signal: int | None = None  # number of the signal that came to this rank

    def agree(self) -> None:
        """Shares a signal that came to any rank, so that all ranks see it at the same moment."""
        self.signal = distributed.maximum(self.local_signal or 0) or None

    def _handle(self, number: int, _: object) -> None:
        if self.local_signal is not None:
            raise KeyboardInterrupt
        self.local_signal = number

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handles SIGTERM and SIGINT within a ``with`` block.

        In other threads than the main one, which cannot handle signals, it has no effect.
        """
        numbers = (signal.SIGTERM, signal.SIGINT)
        try:
            old_handlers = {number: signal.signal(number, self._handle) for number in numbers}
        except ValueError:
            old_handlers = {}
        try:
            yield
        finally:
            for number, handler in old_handlers.items():
                signal.signal(number, handler)
