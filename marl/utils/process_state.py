"""The global random states and threads of a run, kept apart from those of its caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from marl.utils.device import use_threads
from marl.utils.seeding import fork_random_state, random_state, set_random_state


class ProcessState:
    """The state of the process that a run is built and trained with.

    Networks and third-party environments draw from the global generators of torch, numpy and
    Python. A run's states of them follow from its seed alone: they are set within ``use`` and saved
    from one block to the next, so that the run and its caller, or two runs in one process, do not
    influence each other. The threads of a process share these states, so only one of them may run.

    Args:
        device: the run's device, which has a generator of its own.
        threads: threads of torch on the CPU; 0 leaves their number as it is.
    """

    def __init__(self, device: torch.device, threads: int):
        self.device, self.threads = device, threads
        self._depth = 0  # blocks of ``use`` that have begun and not ended
        self._random: Mapping[str, Any] | None = None  # between them; None before the first

    @contextmanager
    def use(self) -> Iterator[None]:
        """Sets the run's state within a block, and the caller's again after it. May be nested."""
        if self._depth:
            yield
            return
        with use_threads(self.threads), fork_random_state(self.device):
            if self._random is not None:
                set_random_state(self._random, self.device)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                self._random = random_state(self.device)

    @property
    def random(self) -> Mapping[str, Any]:
        """Global random states of the run, in the form of ``random_state``."""
        if self._depth or self._random is None:
            return random_state(self.device)
        return self._random
