"""Specifications of observations and actions.

Axis letters: ``N`` agents of one group, ``A`` action, ``K`` choices at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from marl.tensors import constant


@dataclass(frozen=True)
class TensorSpec:
    """Specification of one agent's observation: a tensor of a fixed shape.

    Images are ``[H, W, C]``, of bytes or floats. ``low`` and ``high`` are the bounds of their
    channels, between which they are scaled to 0..1 before a network reads them; for bytes they are
    0 and 255 by default. An observation without bounds is not an image.
    """

    #: Shape of one agent's observation.
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    #: Lower bound of each channel of an image; empty for other observations.
    low: tuple[float, ...] = ()
    #: Upper bound of each channel of an image; empty for other observations.
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype == torch.uint8 and len(self.shape) == 3 and not self.low:
            object.__setattr__(self, "low", (0.0,) * self.shape[-1])
            object.__setattr__(self, "high", (255.0,) * self.shape[-1])

    @property
    def is_image(self) -> bool:
        """True if the observation is an image, which has bounds."""
        return bool(self.low)

    @property
    def size(self) -> int:
        """Number of elements of one agent's observation."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Discrete:
    """One choice among ``n``: an int64 index per agent, ``[..., N]``."""

    #: Number of choices.
    n: int

    shape = ()
    dtype = torch.int64

    @property
    def encoded_size(self) -> int:
        """Length of ``encode``'s last axis."""
        return self.n

    @property
    def mask_size(self) -> int:
        """Length of an action mask's last axis."""
        return self.n

    def encode(self, action: Tensor) -> Tensor:
        """Returns ``action [..., N]`` as one-hot vectors ``[..., N, n]``, float32."""
        return F.one_hot(action, self.n).float()


@dataclass(frozen=True)
class MultiDiscrete:
    """K choices at once: int64 indices ``[..., N, K]``, the k-th among ``nvec[k]`` choices."""

    #: Number of choices of each index.
    nvec: tuple[int, ...]

    dtype = torch.int64

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one agent's action."""
        return (len(self.nvec),)

    @property
    def encoded_size(self) -> int:
        """Length of ``encode``'s last axis."""
        return sum(self.nvec)

    @property
    def mask_size(self) -> int:
        """Length of an action mask's last axis: the masks of all indices side by side."""
        return sum(self.nvec)

    def encode(self, action: Tensor) -> Tensor:
        """Returns ``action [..., N, K]`` as adjacent one-hot vectors, ``[..., N, sum(nvec)]``."""
        parts = [F.one_hot(action[..., k], n) for k, n in enumerate(self.nvec)]
        return torch.cat(parts, dim=-1).float()


@dataclass(frozen=True)
class Continuous:
    """A vector within bounds: float32 ``[..., N, A]``."""

    #: Lower bound of each dimension, in the environment's unit.
    low: tuple[float, ...]
    #: Upper bound of each dimension, in the environment's unit.
    high: tuple[float, ...]

    dtype = torch.float32

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one agent's action."""
        return (len(self.low),)

    @property
    def encoded_size(self) -> int:
        """Length of ``encode``'s last axis."""
        return len(self.low)

    @property
    def mask_size(self) -> int:
        """Length of an action mask's last axis: 0, because vectors have no masks."""
        return 0

    @property
    def free(self) -> tuple[float, ...]:
        """1.0 for each dimension whose bounds differ, 0.0 for each whose bounds are equal."""
        return tuple(float(low < high) for low, high in self._bounds)

    def encode(self, action: Tensor) -> Tensor:
        """Returns ``action [..., N, A]`` scaled from its bounds to [-1, 1], 0 if they are equal."""
        centre = constant(self._centre, action)
        scale = tuple(2 / (high - low) if low < high else 0.0 for low, high in self._bounds)
        return ((action - centre) * constant(scale, action)).clamp(-1, 1)

    def decode(self, encoded: Tensor) -> Tensor:
        """Returns the action that ``encode`` maps to ``encoded``, both ``[..., N, A]``."""
        half = tuple((high - low) / 2 for low, high in self._bounds)
        return constant(self._centre, encoded) + constant(half, encoded) * encoded

    def zero_fixed(self, encoded: Tensor) -> Tensor:
        """Returns ``encoded [..., A]`` with zeros in the dimensions whose bounds are equal."""
        return encoded if all(self.free) else encoded * constant(self.free, encoded)

    @property
    def _bounds(self) -> list[tuple[float, float]]:
        return list(zip(self.low, self.high, strict=True))

    @property
    def _centre(self) -> tuple[float, ...]:
        return tuple((low + high) / 2 for low, high in self._bounds)


#: The specification of an action.
ActionSpec: TypeAlias = Discrete | MultiDiscrete | Continuous


@dataclass(frozen=True)
class EntitySpec:
    """Specification of the entities in ``Observation.graph``."""

    #: D, the dimensions of positions, velocities and goals.
    space: int
    #: Number of kinds of entities.
    kinds: int
