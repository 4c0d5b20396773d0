"""How signals end a run before its time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from marl.utils import distributed


class Stop:
    """Whether a signal asked the run to end; ``signal`` is its number, None before ``agree``.

    SIGTERM and Ctrl-C let the iteration finish, so that it can be saved; a second one ends at once,
    and the run continues from its last checkpoint.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.asked: int | None = None

    def agree(self) -> None:
        """Takes note of a signal that came to any rank since the last time: here all see it."""
        self.signal = distributed.maximum(self.asked or 0) or None

    def _ask(self, number: int, _: object) -> None:
        if self.asked is not None:
            raise KeyboardInterrupt
        self.asked = number

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Listens to SIGTERM and SIGINT; in other threads than the main one they are its
        owner's."""
        try:
            before = {n: signal.signal(n, self._ask) for n in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
