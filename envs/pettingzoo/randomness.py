"""Random numbers that environments draw from outside of themselves, made the run's own: numpy's
global generator, and the seeds that numpy finds for generators made without one, as by an
environment that makes its own in every ``reset(seed=None)``.

Each copy has streams of its own, so that it plays the same in this process and in a worker. What
others in the process draw stays as it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

GLOBAL: Any = np.random  # more than numpy's stubs know of it


class Streams:
    """The streams of the copies ``rows``.

    Args:
        seed: of what they draw before a reset gives each a seed, as while they are made.
    """

    def __init__(self, rows: Sequence[int], seed: int) -> None:
        self._generators: dict[int, np.random.MT19937] = {}
        self._entropy: dict[int, random.Random] = {}
        for row in rows:
            self.seed(row, seed, row)

    def seed(self, row: int, *words: int) -> None:
        """Begins the streams of a copy anew."""
        sequence = np.random.SeedSequence(words)
        self._generators[row] = np.random.MT19937(sequence)
        self._entropy[row] = random.Random(int(sequence.generate_state(1)[0]))

    @contextmanager
    def lent(self, row: int | None = None) -> Iterator[None]:
        """Lends the process streams, first those of ``row`` and then those that ``switch`` says;
        at the end it has its own again, as they were."""
        generator, entropy = GLOBAL.get_bit_generator(), GLOBAL.bit_generator.randbits
        state = np.random.get_state(legacy=False)  # noqa: NPY002  # it is others' that is kept
        try:
            if row is not None:
                self.switch(row)
            yield
        finally:
            GLOBAL.bit_generator.randbits = entropy
            GLOBAL.set_bit_generator(generator)
            if state["has_gauss"]:  # a normal number in store, which the exchange has dropped
                np.random.set_state(state)  # noqa: NPY002

    def switch(self, row: int) -> None:
        """Makes those of copy ``row`` the process's."""
        GLOBAL.set_bit_generator(self._generators[row])
        GLOBAL.bit_generator.randbits = self._entropy[row].getrandbits


def peeked() -> int:
    """Returns the next number of numpy's global generator, which hangs on the run's seed, and
    leaves it there."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        return int(np.random.randint(2**31))  # noqa: NPY002
    finally:
        np.random.set_state(state)  # noqa: NPY002
