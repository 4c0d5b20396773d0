"""Running normalisation of observations: each feature by its mean and standard deviation so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from marl.types import Observation, TensorSpec
from marl.utils import distributed

#: Largest absolute value of a normalised feature, in standard deviations.
CLIP = 10.0
#: Smallest standard deviation to divide by.
SMALLEST = 1e-4


@dataclass(frozen=True)
class Moments:
    """Number, mean and summed squared deviations of samples, in float64."""

    #: ``[]``.
    count: Tensor
    #: ``[F]``.
    mean: Tensor
    #: ``[F]``, sum over the samples of (x - mean)^2.
    square: Tensor


class ObservationNorm(nn.Module):
    """Running normalisation of observations: ``[..., *shape] -> [..., features]``.

    A feature minus its running mean is divided by its running standard deviation and clipped to 10
    of them; before there are samples it is only clipped. What is appended to a vector's features
    (an action, a message) stays as it is.

    The moments are buffers: they are saved with the weights, and ``observe`` updates them.

    Args:
        spec: one agent's observation, or the state.
        source: name of the group that observes it; None for the environment's state.
    """

    def __init__(self, spec: TensorSpec, source: str | None):
        super().__init__()
        self.axes, self.features, self.source = len(spec.shape), spec.size, source
        zeros = torch.zeros(spec.size, dtype=torch.float64)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", zeros)
        self.register_buffer("square", zeros.clone())
        self.register_buffer("center", torch.zeros(spec.size))  # mean and 1 / deviation in float32
        self.register_buffer("scale", torch.ones(spec.size))
        self.count: Tensor
        self.mean: Tensor
        self.square: Tensor
        self.center: Tensor
        self.scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.axes == 1 else x.flatten(-self.axes)
        features, more = x[..., : self.features], x[..., self.features :]
        features = ((features - self.center) * self.scale).clamp(-CLIP, CLIP)
        return torch.cat([features, more], dim=-1) if more.shape[-1] else features

    @torch.no_grad()
    def add(self, new: Moments) -> None:
        """Merges the moments of more samples into its own (Chan et al. 1983), in place."""
        total = self.count + new.count
        share, gap = new.count / total.clamp_min(1), new.mean - self.mean
        self.square.add_(new.square + gap.square() * self.count * share)
        self.mean.add_(gap * share)
        self.count.copy_(total)
        deviation = (self.square / total.clamp_min(1)).sqrt().clamp_min(SMALLEST)
        self.center.copy_(self.mean)
        self.scale.copy_(torch.where(total > 0, 1 / deviation, 1.0))


def observe(networks: Iterable[nn.Module], obs: Observation) -> None:
    """Adds the observations of all living agents, of all ranks, to the moments of networks.

    Args:
        networks: modules, of which every ``ObservationNorm`` is updated.
        obs: ``[T, B, ...]``, or any leading axes.
    """
    by_source: dict[str | None, Moments] = {}
    for norm in nn.ModuleList(networks).modules():
        if isinstance(norm, ObservationNorm):
            if norm.source not in by_source:
                by_source[norm.source] = _source_moments(obs, norm)
            norm.add(by_source[norm.source])


def _source_moments(obs: Observation, norm: ObservationNorm) -> Moments:
    if norm.source is None:
        assert obs.state is not None, "the environment gives a state"
        return moments(obs.state, None)
    group = obs.groups[norm.source]
    return moments(group.obs.flatten(-norm.axes), group.alive)


@torch.no_grad()
def moments(x: Tensor, mask: Tensor | None) -> Moments:
    """Computes moments over all ranks, in two passes, so that the size of the mean does not matter.

    Args:
        x: ``[..., F]``.
        mask: ``[...]`` bool, True for samples; None if all are.
    """
    rows = x.flatten(0, -2).double()
    weight = torch.ones_like(rows[:, :1]) if mask is None else mask.reshape(-1, 1).double()
    count, total = distributed.totals([weight.sum(), (rows * weight).sum(0)])
    mean = total / count.clamp_min(1)
    return Moments(count, mean, distributed.total(((rows - mean).square() * weight).sum(0)))
