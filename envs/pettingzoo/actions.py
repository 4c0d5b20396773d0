"""Decoders of actions: from the platform's numbers to what a Gymnasium action space takes.

Plain numpy and plain picklable data, so that worker processes need no torch.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from marl.errors import UserError


@dataclass(frozen=True)
class Choices:
    """Decoder of Discrete, MultiDiscrete and MultiBinary spaces, from indices that start at 0."""

    #: Number of actions of each choice.
    nvec: tuple[int, ...]
    #: First index of each choice in the environment's own counting.
    start: tuple[int, ...]
    #: Whether the environment takes one plain integer rather than an array.
    scalar: bool
    #: Shape of the environment's array; not read with ``scalar``.
    shape: tuple[int, ...] = ()
    #: Numpy type of the environment's array; not read with ``scalar``.
    dtype: str = "int64"

    def decode(self, value: Any) -> Any:
        """Returns the environment's action from one agent's index or list of indices."""
        if self.scalar:
            return value + self.start[0]
        return np.add(value, self.start).astype(self.dtype).reshape(self.shape)

    def sample(self, rng: np.random.Generator, mask: np.ndarray | None) -> Any:
        """Samples uniformly among the allowed actions.

        Args:
            rng: source of random numbers.
            mask: True where allowed, ``[sum(nvec)]``; None allows everything.
        """
        if mask is None:
            indices = [int(rng.integers(n)) for n in self.nvec]
        else:
            parts = np.split(mask, np.cumsum(self.nvec)[:-1])
            indices = [int(rng.choice(np.flatnonzero(part))) for part in parts]
        return self.decode(indices[0] if self.scalar else indices)


@dataclass(frozen=True)
class Bounded:
    """Decoder of boxes of floats, clipped to their bounds in the environment's own precision."""

    #: Lower bounds, flat.
    low: tuple[float, ...]
    #: Upper bounds, flat.
    high: tuple[float, ...]
    #: Shape of the environment's array.
    shape: tuple[int, ...]
    #: Numpy type of the environment's array.
    dtype: str

    def decode(self, value: np.ndarray) -> np.ndarray:
        """Returns the environment's action from ``[A]``, as a new array: environments keep
        references to their actions."""
        if self.dtype == "float32":  # clipped already, all agents in one call
            return value.reshape(self.shape).copy()
        return np.clip(value.astype(self.dtype), self.low, self.high).reshape(self.shape)

    def sample(self, rng: np.random.Generator, mask: np.ndarray | None) -> np.ndarray:
        """Samples uniformly within the bounds.

        Args:
            rng: source of random numbers.
            mask: not read.
        """
        return self.decode(rng.uniform(self.low, self.high).astype(np.float32))


ActionDecoder = Choices | Bounded


def action_decoder(space: Any, agent: Hashable) -> ActionDecoder:
    """Returns the decoder of an agent's action space.

    Args:
        space: the Gymnasium space.
        agent: whose it is, for errors.

    Raises:
        UserError: a space that is neither choices nor a bounded vector of floats.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return Choices((int(space.n),), (int(space.start),), scalar=True)
    if isinstance(space, spaces.MultiDiscrete):
        return Choices(ints(space.nvec), ints(space.start), False, space.shape, str(space.dtype))
    if isinstance(space, spaces.MultiBinary):
        size = math.prod(space.shape)
        return Choices((2,) * size, (0,) * size, False, space.shape, str(space.dtype))
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise UserError(f"agent {agent!r} acts in {space}; expected choices or a box of floats")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UserError(
            f"agent {agent!r} acts in {space}, which has no bounds; expected finite ones"
        )
    low, high = (tuple(np.ravel(bound).tolist()) for bound in (space.low, space.high))
    return Bounded(low, high, space.shape, str(space.dtype))


def ints(values: np.ndarray) -> tuple[int, ...]:
    """Returns the entries of an array as a flat tuple."""
    return tuple(np.ravel(values).tolist())
