"""Running normalisation of observations: each feature by its mean and deviation so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from marl.types import Observation, TensorSpec
from marl.utils import distributed

CLIP = 10.0  # deviations
SMALLEST = 1e-4  # deviation that is divided by


@dataclass(frozen=True)
class Moments:
    """Of samples: how many, and per feature their mean and summed squared distances from it, all in
    float64."""

    count: Tensor  # []
    mean: Tensor  # [F]
    square: Tensor  # [F]


class ObservationNorm(nn.Module):
    """Maps observations ``[..., *shape]`` to ``[..., features]``: less the running mean, divided by
    the running deviation, clipped to 10 of them; only clipped before there are samples. What stands
    behind a vector's features (an action, a message) stays as it is.

    The moments are buffers: they travel with the weights, and ``observe`` moves them.

    Args:
        spec: one observation.
        source: the group that observes it; None for the environment's state.
    """

    def __init__(self, spec: TensorSpec, source: str | None):
        super().__init__()
        self.axes, self.features, self.source = len(spec.shape), spec.size, source
        zeros = torch.zeros(spec.size, dtype=torch.float64)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", zeros)
        self.register_buffer("square", zeros.clone())
        self.register_buffer("center", torch.zeros(spec.size))  # what the input is read with
        self.register_buffer("scale", torch.ones(spec.size))
        self.count: Tensor
        self.mean: Tensor
        self.square: Tensor
        self.center: Tensor
        self.scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.axes == 1 else x.flatten(-self.axes)
        own, more = x[..., : self.features], x[..., self.features :]
        own = ((own - self.center) * self.scale).clamp(-CLIP, CLIP)
        return torch.cat([own, more], dim=-1) if more.shape[-1] else own

    @torch.no_grad()
    def add(self, new: Moments) -> None:
        """Merges more samples into the moments (Chan et al. 1983), in place."""
        total = self.count + new.count
        share, gap = new.count / total.clamp_min(1), new.mean - self.mean
        self.square.add_(new.square + gap.square() * self.count * share)
        self.mean.add_(gap * share)
        self.count.copy_(total)
        deviation = (self.square / total.clamp_min(1)).sqrt().clamp_min(SMALLEST)
        self.center.copy_(self.mean)
        self.scale.copy_(torch.where(total > 0, 1 / deviation, 1.0))


def observe(networks: Iterable[nn.Module], obs: Observation) -> None:
    """Takes the observations of all living agents, of all ranks, into the moments of every
    ObservationNorm in ``networks``.

    Args:
        obs: ``[T, B, ...]``, or any leading axes.
    """
    taken: dict[str | None, Moments] = {}
    for norm in nn.ModuleList(networks).modules():
        if isinstance(norm, ObservationNorm):
            if norm.source not in taken:
                taken[norm.source] = _observed(obs, norm)
            norm.add(taken[norm.source])


def _observed(obs: Observation, norm: ObservationNorm) -> Moments:
    if norm.source is None:
        assert obs.state is not None, "the environment gives a state"
        return moments(obs.state, None)
    group = obs.groups[norm.source]
    return moments(group.obs.flatten(-norm.axes), group.alive)


@torch.no_grad()
def moments(x: Tensor, mask: Tensor | None) -> Moments:
    """Of ``x [..., F]`` where ``mask [...]`` is True, over all ranks: in two passes, so that the
    mean's size does not matter."""
    rows = x.flatten(0, -2).double()
    weight = torch.ones_like(rows[:, :1]) if mask is None else mask.reshape(-1, 1).double()
    count, total = distributed.totals([weight.sum(), (rows * weight).sum(0)])
    mean = total / count.clamp_min(1)
    return Moments(count, mean, distributed.total(((rows - mean).square() * weight).sum(0)))
