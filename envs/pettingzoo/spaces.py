"""Encoders of observations: from values of Gymnasium's observation spaces to numbers.

Plain numpy and plain picklable data, so that worker processes need no torch. Actions are in
``marl.envs.pettingzoo.actions``, masks in ``marl.envs.pettingzoo.masks``.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from marl.envs.pettingzoo.actions import ints
from marl.envs.pettingzoo.masks import MASK
from marl.errors import EnvironmentFault, UserError

BOUNDLESS = 1e6  # an image's bounds from this size on mean that there are none

Bounds = tuple[tuple[float, ...], tuple[float, ...]]  # low and high of an image's channels
NO_IMAGE: Bounds = ((), ())


class Encoder(Protocol):
    """Writes an agent's observations as arrays of one shape."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one encoded observation."""
        ...

    @property
    def dtype(self) -> str:
        """Numpy type of an encoded observation."""
        ...

    @property
    def bounds(self) -> Bounds:
        """Bounds of an image's channels; ``NO_IMAGE`` for anything else."""
        ...

    def write(self, value: Any, out: np.ndarray) -> None:
        """Writes one observation.

        Args:
            value: what the environment gave.
            out: where it is written, of this shape, or flat inside a larger array.

        Raises:
            EnvironmentFault: ``value`` lies outside the space.
        """
        ...


@dataclass(frozen=True)
class Source:
    """Agent and space of the observations that an encoder writes, for its errors."""

    agent: Hashable
    space: str

    def outside(self, value: Any) -> EnvironmentFault:
        """Returns the error that ``value`` lies outside the space."""
        entries = np.asarray(value).tolist()
        return EnvironmentFault(
            f"agent {self.agent!r} observes {entries}, which is outside of its space {self.space}"
        )

    def misshapen(self, value: Any) -> EnvironmentFault:
        """Returns the error that ``value`` has another shape than the space."""
        return EnvironmentFault(
            f"agent {self.agent!r} observes an array of shape {np.shape(value)}, which is not that "
            f"of its space {self.space}"
        )


@dataclass(frozen=True)
class Numbers:
    """Encoder of a box, as numbers; an image of bytes stays bytes and gets a channel axis."""

    shape: tuple[int, ...]
    source: Source
    dtype: str = "float32"
    bounds: Bounds = NO_IMAGE

    def write(self, value: Any, out: np.ndarray) -> None:
        shape = np.shape(value)
        if shape != out.shape:
            self._check(value, shape, out)
            value = np.reshape(value, out.shape)
        out[...] = value

    def _check(self, value: Any, shape: tuple[int, ...], out: np.ndarray) -> None:
        """Refuses another number of entries, and axes in another order; a flat array will do."""
        swapped = len(shape) > 1 and _long_axes(shape) != _long_axes(self.shape)
        if math.prod(shape) != out.size or swapped:
            raise self.source.misshapen(value)


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    """Returns the sizes of the axes that hold more than one entry."""
    return [size for size in shape if size != 1]


@dataclass(frozen=True)
class OneHots:
    """Encoder of choices, as one-hot vectors side by side."""

    nvec: tuple[int, ...]
    start: tuple[int, ...]
    source: Source

    dtype = "float32"
    bounds = NO_IMAGE

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(self.nvec),)

    def write(self, value: Any, out: np.ndarray) -> None:
        out[...] = 0
        choices, offset = np.ravel(value).tolist(), 0
        if len(choices) != len(self.nvec):
            raise self.source.outside(value)
        for choice, n, start in zip(choices, self.nvec, self.start, strict=True):
            index = choice - start
            if index not in range(n):  # nor a fraction
                raise self.source.outside(value)
            out[offset + int(index)] = 1
            offset += n


@dataclass(frozen=True)
class Bits:
    """Encoder of zeros and ones, as numbers."""

    shape: tuple[int, ...]
    source: Source

    dtype = "float32"
    bounds = NO_IMAGE

    def write(self, value: Any, out: np.ndarray) -> None:
        bits = np.ravel(value)
        if bits.size != out.size or not ((bits == 0) | (bits == 1)).all():
            raise self.source.outside(value)
        out[...] = bits


@dataclass(frozen=True)
class Concatenation:
    """Encoder of a dict or tuple, as its flattened parts one after the other."""

    keys: tuple[Hashable, ...]
    parts: tuple[Encoder, ...]

    dtype = "float32"
    bounds = NO_IMAGE

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(math.prod(part.shape) for part in self.parts),)

    def write(self, value: Any, out: np.ndarray) -> None:
        offset = 0
        for key, part in zip(self.keys, self.parts, strict=True):
            size = math.prod(part.shape)
            part.write(value[key], out[offset : offset + size])
            offset += size


@dataclass(frozen=True)
class MaskedDict:
    """Encoder of a dict that holds an observation and an action mask, which it leaves out."""

    inner: Encoder
    #: Key of the observation; None where the rest of the dict is the observation.
    key: Hashable | None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    @property
    def dtype(self) -> str:
        return self.inner.dtype

    @property
    def bounds(self) -> Bounds:
        return self.inner.bounds

    def write(self, value: Any, out: np.ndarray) -> None:
        self.inner.write(value if self.key is None else value[self.key], out)


def observation_encoder(space: Any, agent: Hashable) -> Encoder:
    """Returns the encoder of an agent's observation space.

    Args:
        space: the Gymnasium space.
        agent: whose it is, for errors.

    Raises:
        UserError: a space without a fixed number of entries, or an image beside other parts.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        return _box(space, agent)
    if isinstance(space, spaces.Discrete):
        return OneHots((int(space.n),), (int(space.start),), Source(agent, str(space)))
    if isinstance(space, spaces.MultiDiscrete):
        return OneHots(ints(space.nvec), ints(space.start), Source(agent, str(space)))
    if isinstance(space, spaces.MultiBinary):
        return Bits((math.prod(space.shape),), Source(agent, str(space)))
    if isinstance(space, spaces.Dict):
        return _dict(space, agent)
    if isinstance(space, spaces.Tuple):
        return _concatenation(dict(enumerate(space.spaces)), agent)
    raise UserError(
        f"agent {agent!r} observes {space}, which cannot be laid out as numbers; expected Box, "
        "Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these"
    )


def _box(space: Any, agent: Hashable) -> Numbers:
    """Returns the encoder of a box. Bytes with two axes or numbers with three are an image."""
    source, shape, dtype = Source(agent, str(space)), tuple(space.shape), np.dtype(space.dtype)
    is_bytes = dtype == np.uint8
    if not (len(shape) == 3 and dtype.kind in "uif") and not (len(shape) == 2 and is_bytes):
        return Numbers(shape or (1,), source)
    shape = (*shape, 1)[:3]
    kind = "uint8" if is_bytes else "float32"
    return Numbers(shape, source, kind, _channel_bounds(space, shape))


def _channel_bounds(space: Any, shape: tuple[int, ...]) -> Bounds:
    """Returns the least and the largest value of each channel; infinite where the box has no
    bounds."""
    low = np.reshape(space.low, shape).min((0, 1)).astype(np.float64)
    high = np.reshape(space.high, shape).max((0, 1)).astype(np.float64)
    if max(np.abs(low).max(), np.abs(high).max()) >= BOUNDLESS:
        return (-math.inf,) * shape[-1], (math.inf,) * shape[-1]
    return tuple(low.tolist()), tuple(high.tolist())


def _dict(space: Any, agent: Hashable) -> Encoder:
    rest = {key: part for key, part in space.spaces.items() if key != MASK}
    if len(rest) == 1 and (MASK in space.spaces or _is_image(*rest.values())):
        ((key, part),) = rest.items()
        return MaskedDict(observation_encoder(part, agent), key)
    whole = _concatenation(rest, agent)
    return MaskedDict(whole, None) if MASK in space.spaces else whole


def _is_image(space: Any) -> bool:
    from gymnasium import spaces

    return isinstance(space, spaces.Box) and _box(space, "").bounds != NO_IMAGE


def _concatenation(parts: Mapping[Hashable, Any], agent: Hashable) -> Concatenation:
    """Returns the encoder of several parts; raises UserError where one of them is an image."""
    for key, part in parts.items():
        if _is_image(part):
            raise UserError(
                f"agent {agent!r} observes an image of shape {part.shape} under key {key!r} beside "
                "other parts, which no network reads together; let a wrapper give the image alone, "
                "or flatten it to one axis of numbers from 0 to 1"
            )
    encoders = tuple(observation_encoder(part, agent) for part in parts.values())
    return Concatenation(tuple(parts), encoders)
