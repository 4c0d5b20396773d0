"""A check that ``reset(seed)`` of an environment determines what it observes. Imports no torch."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from marl.envs.pettingzoo.randomness import Streams


def ignores_seed(env: Any, streams: Streams) -> bool:
    """Returns whether two resets with one seed give other observations.

    Numpy's global numbers are seeded before each, as they are in training. The process's other
    random numbers stay as they are.

    Args:
        env: one environment, which is reset twice.
        streams: installed streams, of which the first copy's are used.
    """
    with _process_random():
        first, second = (_observations(env, streams) for _ in range(2))
    return not _equal(first, second)


def _observations(env: Any, streams: Streams) -> Any:
    streams.seed(0, 0)
    streams.switch(0)
    observations, _ = env.reset(seed=0)
    return copy.deepcopy(observations)


@contextmanager
def _process_random() -> Iterator[None]:
    """Restores the random states of Python and of torch's CPU at the end of a block."""
    torch: Any = sys.modules.get("torch")
    own, torchs = random.getstate(), torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(own)
        if torch:
            torch.set_rng_state(torchs)


def _equal(one: Any, other: Any) -> bool:
    """Returns whether two observations are the same, NaN included; unknown types count as such."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    first, second = np.asarray(one), np.asarray(other)
    if first.dtype.kind == "O":
        return True
    return first.shape == second.shape and first.tobytes() == second.tobytes()
