"""Random streams for environments that draw from numpy's global generators.

Such numbers come from numpy's global generator, and from the seeds that numpy finds for generators
made without one, as by an environment that makes its own in every ``reset(seed=None)``. Each copy
has streams of its own for both, so that it plays the same in this process and in a worker. The
process's own streams stay as they are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

GLOBAL: Any = np.random  # more than numpy's stubs know of it


class Streams:
    """Random streams of several copies.

    Args:
        rows: the copies.
        seed: of the streams until a reset seeds each copy, as while the copies are made.
    """

    def __init__(self, rows: Sequence[int], seed: int) -> None:
        self._generators: dict[int, np.random.MT19937] = {}
        self._entropy: dict[int, random.Random] = {}
        for row in rows:
            self.seed(row, seed, row)

    def seed(self, row: int, *words: int) -> None:
        """Seeds the streams of a copy by ``words``."""
        sequence = np.random.SeedSequence(words)
        self._generators[row] = np.random.MT19937(sequence)
        self._entropy[row] = random.Random(int(sequence.generate_state(1)[0]))

    @contextmanager
    def installed(self, row: int | None = None) -> Iterator[None]:
        """Installs streams for the whole process, and restores the process's own at the end.

        Args:
            row: the copy whose streams come first; None until ``switch`` selects one.
        """
        generator, entropy = GLOBAL.get_bit_generator(), GLOBAL.bit_generator.randbits
        state = np.random.get_state(legacy=False)  # noqa: NPY002  # the process's own
        try:
            if row is not None:
                self.switch(row)
            yield
        finally:
            GLOBAL.bit_generator.randbits = entropy
            GLOBAL.set_bit_generator(generator)
            if state["has_gauss"]:  # a buffered normal number, which the exchange dropped
                np.random.set_state(state)  # noqa: NPY002

    def switch(self, row: int) -> None:
        """Installs the streams of copy ``row``."""
        GLOBAL.set_bit_generator(self._generators[row])
        GLOBAL.bit_generator.randbits = self._entropy[row].getrandbits


def peek_seed() -> int:
    """Returns the next number of numpy's global generator, which depends on the run's seed, without
    advancing it."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        return int(np.random.randint(2**31))  # noqa: NPY002
    finally:
        np.random.set_state(state)  # noqa: NPY002
