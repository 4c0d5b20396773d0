"""How a run ends before its time: signals, and errors that a sentence explains."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marl import ranks
from marl.errors import UserError


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
        self.signal = ranks.highest(self.asked or 0) or None

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


@contextmanager
def full_disk_explained(directory: Path) -> Iterator[None]:
    """Turns a full disk into a sentence.

    Raises:
        UserError: there is no space left.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"no space left for {str(directory)!r}; free some, then 'marl resume {directory}'"
        ) from None
