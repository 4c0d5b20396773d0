"""Gymnasium's spaces as numbers: how one agent's observations are written, its actions read.

Plain numpy and plain picklable data, so that worker processes need no torch.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from marl.errors import EnvironmentFault, UserError

MASK = "action_mask"
BOUNDLESS = 1e6  # bounds of an image that are as far as this only say that there are none

Bounds = tuple[tuple[float, ...], tuple[float, ...]]  # low and high of an image's channels
NO_IMAGE: Bounds = ((), ())


class Encoder(Protocol):
    """Writes one observation into ``out``, of this shape (or flat, inside a larger one)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...

    @property
    def bounds(self) -> Bounds: ...

    def write(self, value: Any, out: np.ndarray) -> None: ...


@dataclass(frozen=True)
class Whose:
    """Whose observations an encoder writes, for its errors."""

    agent: Hashable
    space: str

    def refuses(self, value: Any) -> EnvironmentFault:
        """The error that ``value`` lies outside of the space."""
        found = np.asarray(value).tolist()
        return EnvironmentFault(
            f"agent {self.agent!r} observes {found}, which is outside of its space {self.space}"
        )

    def refuses_shape(self, value: Any) -> EnvironmentFault:
        """The error that ``value`` is of another shape than the space."""
        return EnvironmentFault(
            f"agent {self.agent!r} observes an array of shape {np.shape(value)}, which is not that "
            f"of its space {self.space}"
        )


@dataclass(frozen=True)
class Numbers:
    """A box or binary vector, as numbers; an image of bytes keeps them and gets a channel axis."""

    shape: tuple[int, ...]
    whose: Whose
    dtype: str = "float32"
    bounds: Bounds = NO_IMAGE

    def write(self, value: Any, out: np.ndarray) -> None:
        given = np.shape(value)
        if given != out.shape:
            self._check(value, given, out)
            value = np.reshape(value, out.shape)
        out[...] = value

    def _check(self, value: Any, given: tuple[int, ...], out: np.ndarray) -> None:
        """Refuses another number of entries, and axes in another order; a flat array will do."""
        swapped = len(given) > 1 and _long(given) != _long(self.shape)
        if math.prod(given) != out.size or swapped:
            raise self.whose.refuses_shape(value)


def _long(shape: tuple[int, ...]) -> list[int]:
    """The axes that hold more than one entry."""
    return [size for size in shape if size != 1]


@dataclass(frozen=True)
class OneHots:
    """Choices side by side, each one-hot."""

    nvec: tuple[int, ...]
    start: tuple[int, ...]
    whose: Whose

    dtype = "float32"
    bounds = NO_IMAGE

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(self.nvec),)

    def write(self, value: Any, out: np.ndarray) -> None:
        out[...] = 0
        choices, offset = np.ravel(value).tolist(), 0
        if len(choices) != len(self.nvec):
            raise self.whose.refuses(value)
        for choice, n, start in zip(choices, self.nvec, self.start, strict=True):
            place = choice - start
            if place not in range(n):  # nor a fraction
                raise self.whose.refuses(value)
            out[offset + int(place)] = 1
            offset += n


@dataclass(frozen=True)
class Bits:
    """Zeros and ones, as numbers."""

    shape: tuple[int, ...]
    whose: Whose

    dtype = "float32"
    bounds = NO_IMAGE

    def write(self, value: Any, out: np.ndarray) -> None:
        bits = np.ravel(value)
        if bits.size != out.size or not ((bits == 0) | (bits == 1)).all():
            raise self.whose.refuses(value)
        out[...] = bits


@dataclass(frozen=True)
class Concatenation:
    """The flattened parts of a dict or tuple, one after the other."""

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
    """A dict of observation and ``action_mask``: the mask is read apart, see ``find_mask``."""

    inner: Encoder
    key: Hashable | None  # of the observation; None where the rest of the dict is the observation

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
    """The encoder of an agent's observation space.

    Raises:
        UserError: a space that has no fixed number of numbers.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        return _box(space, agent)
    if isinstance(space, spaces.Discrete):
        return OneHots((int(space.n),), (int(space.start),), Whose(agent, str(space)))
    if isinstance(space, spaces.MultiDiscrete):
        return OneHots(_ints(space.nvec), _ints(space.start), Whose(agent, str(space)))
    if isinstance(space, spaces.MultiBinary):
        return Bits((math.prod(space.shape),), Whose(agent, str(space)))
    if isinstance(space, spaces.Dict):
        return _dict(space, agent)
    if isinstance(space, spaces.Tuple):
        return _concatenation(dict(enumerate(space.spaces)), agent)
    raise UserError(f"agent {agent!r} observes {space}, which cannot be laid out as numbers")


def _box(space: Any, agent: Hashable) -> Numbers:
    """An image is a box of bytes with two axes, or of numbers with three."""
    whose, shape, dtype = Whose(agent, str(space)), tuple(space.shape), np.dtype(space.dtype)
    is_bytes = dtype == np.uint8
    if not (len(shape) == 3 and dtype.kind in "uif") and not (len(shape) == 2 and is_bytes):
        return Numbers(shape or (1,), whose)
    shape = (*shape, 1)[:3]
    kind = "uint8" if is_bytes else "float32"
    return Numbers(shape, whose, kind, _channel_bounds(space, shape))


def _channel_bounds(space: Any, shape: tuple[int, ...]) -> Bounds:
    """The least and the most that any pixel may be, by channel; infinite where a box does not
    tell."""
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
    """Raises UserError where one of several parts is an image."""
    for key, part in parts.items():
        if _is_image(part):
            raise UserError(
                f"agent {agent!r} observes an image of shape {part.shape} under key {key!r} beside "
                "other parts, which no network reads together; let a wrapper give the image alone, "
                "or flatten it to one axis of numbers from 0 to 1"
            )
    encoders = tuple(observation_encoder(part, agent) for part in parts.values())
    return Concatenation(tuple(parts), encoders)


def _ints(values: np.ndarray) -> tuple[int, ...]:
    return tuple(np.ravel(values).tolist())


# ------------------------------------------------------------------------------------------ actions


@dataclass(frozen=True)
class Choices:
    """Indices from 0, turned into what the space wants."""

    nvec: tuple[int, ...]
    start: tuple[int, ...]
    scalar: bool  # one plain integer rather than an array
    shape: tuple[int, ...] = ()  # of the environment's array
    dtype: str = "int64"

    def decode(self, value: Any) -> Any:
        """One agent's index, or list of indices, as the environment takes it."""
        if self.scalar:
            return value + self.start[0]
        return np.add(value, self.start).astype(self.dtype).reshape(self.shape)

    def sample(self, rng: np.random.Generator, mask: np.ndarray | None) -> Any:
        """Uniformly among the allowed."""
        if mask is None:
            picks = [int(rng.integers(n)) for n in self.nvec]
        else:
            parts = np.split(mask, np.cumsum(self.nvec)[:-1])
            picks = [int(rng.choice(np.flatnonzero(part))) for part in parts]
        return self.decode(picks[0] if self.scalar else picks)


@dataclass(frozen=True)
class Bounded:
    """A vector within bounds, clipped to them in the environment's own precision."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: str

    def decode(self, value: np.ndarray) -> np.ndarray:
        """A fresh array: environments keep references to the actions they are given."""
        if self.dtype == "float32":  # clipped already, all agents in one call
            return value.reshape(self.shape).copy()
        return np.clip(value.astype(self.dtype), self.low, self.high).reshape(self.shape)

    def sample(self, rng: np.random.Generator, mask: np.ndarray | None) -> np.ndarray:
        return self.decode(rng.uniform(self.low, self.high).astype(np.float32))


ActionDecoder = Choices | Bounded


def action_decoder(space: Any, agent: Hashable) -> ActionDecoder:
    """The decoder of an agent's action space.

    Raises:
        UserError: a space that is neither choices nor a bounded vector of floats.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return Choices((int(space.n),), (int(space.start),), scalar=True)
    if isinstance(space, spaces.MultiDiscrete):
        return Choices(_ints(space.nvec), _ints(space.start), False, space.shape, str(space.dtype))
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


# -------------------------------------------------------------------------------------------- masks


def find_mask(observation: Any, info: Any) -> Any:
    """What an agent may do: beside its observation, or in its info; None where neither tells."""
    if isinstance(observation, dict) and MASK in observation:
        return observation[MASK]
    return info.get(MASK) if info else None


def write_mask(value: Any, nvec: tuple[int, ...], out: np.ndarray) -> bool:
    """Flat, True where allowed. Where nothing is, all is, for a softmax needs something; then the
    answer is False."""
    if value is None:
        out[...] = True
        return True
    if isinstance(value, list | tuple):  # one mask per choice, of different lengths
        value = np.concatenate([np.ravel(part) for part in value])
    if np.size(value) != out.size:
        raise ValueError(f"an action mask has {np.size(value)} entries; expected {out.size}")
    out[...] = np.ravel(value) != 0
    offset, possible = 0, True
    for n in nvec:
        part = out[offset : offset + n]
        if not part.any():
            part[...], possible = True, False
        offset += n
    return possible
