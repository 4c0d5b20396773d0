"""What a run needs its process to be: global random states and threads of its own, which the
caller's make way for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from marl.utils.device import use_threads
from marl.utils.seeding import fork_random_state, random_state, set_random_state


class ProcessState:
    """The state of the process as a run has it while it is built and while it runs.

    Networks, and environments of others, draw from torch's, numpy's and Python's global generators.
    A run's states of them follow from its seed alone: they are set for the time of ``use`` and
    remembered from one to the next, so that neither the caller nor another run in the same process
    is noticed, nor notices. Threads of one process share these states: one run at a time.

    Args:
        device: the run's, whose generator is one of them.
        threads: of torch, on the CPU; 0 for as many as there are.
    """

    def __init__(self, device: torch.device, threads: int):
        self.device, self.threads = device, threads
        self._depth = 0  # blocks of ``use`` that have begun and not ended
        self._random: Mapping[str, Any] | None = None  # between them; None before the first

    @contextmanager
    def use(self) -> Iterator[None]:
        """Makes the process the run's within a block, and the caller's again after it. May be
        nested."""
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
        """The run's global random states, as ``random_state`` returns them."""
        if self._depth or self._random is None:
            return random_state(self.device)
        return self._random
