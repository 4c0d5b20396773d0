"""Returns, advantages and value normalisation: pure tensor functions over ``[T, ...]``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from marl.learning.losses import masked_mean
from marl.utils import distributed


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    done: Tensor,
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16), all arguments ``[T, ...]``.

        delta_t = r_t + gamma (1 - terminated_t) V(s'_t) - V(s_t)
        A_t     = delta_t + gamma lam (1 - done_t) A_{t+1}

    ``next_value`` is the value of the true successor, so that what was truncated (an episode; under
    rewards of one's own an agent alone, which is ``done`` there) bootstraps from where it stood
    while its trace stops. Returns advantages and the value targets ``A + V``.
    """
    delta = reward + gamma * next_value * ~terminated - value
    decay = gamma * lam * (~(done | terminated)).to(delta.dtype)
    advantage = torch.empty_like(delta)
    trace = torch.zeros_like(delta[0])
    for t in range(delta.shape[0] - 1, -1, -1):
        trace = delta[t] + decay[t] * trace
        advantage[t] = trace
    return advantage, advantage + value


def n_step(
    reward: Tensor, terminated: Tensor, done: Tensor, valid: Tensor, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """n-step returns (Sutton and Barto 2018, eq. 7.1) of M windows of n steps; H returns each.

        m        = steps up to the first done_k (inclusive), all n without one
        R        = sum_{k < m} gamma^k r_k, where nothing after the first terminated_k counts
        discount = gamma^m (1 - terminated in any of these), to multiply the value after step m with

    Args:
        reward, terminated: ``[n, M, H]``; an agent may terminate while its episode goes on.
        done: ``[n, M]``, where a window ends: with the episode, or where a return is cut.
        valid: ``[n, M]``, False from where a window has no more steps, which shortens m; values
            where it is False are ignored. True in the first step.

    Returns R and discount ``[M, H]``, and m ``[M]``.
    """
    inside = valid & ~_before(done)
    counted = inside.unsqueeze(-1) & ~_before(terminated)
    exponent = torch.arange(len(reward), device=reward.device, dtype=reward.dtype)
    weight = torch.pow(gamma, exponent)[:, None, None]
    total = torch.where(counted, weight * reward, 0.0).sum(0)
    length = inside.sum(0)
    discount = torch.pow(gamma, length.to(reward.dtype)).unsqueeze(-1)
    return total, discount * ~(terminated & counted).any(0), length


def _before(flag: Tensor) -> Tensor:
    """Whether ``flag [n, ...]`` was set in an earlier step."""
    return flag.cumsum(0) - flag.long() > 0


@dataclass(frozen=True)
class Rescaling:
    """How normalised values are read in new units: ``scale * value + shift``."""

    scale: Tensor
    shift: Tensor

    def __call__(self, value: Tensor) -> Tensor:
        return value * self.scale + self.shift

    @torch.no_grad()
    def of_layers(self, layers: Iterable[nn.Module]) -> None:
        """Makes linear layers give their values in the new units, in place. The scale goes into
        their weights: behind them it would change how far the optimizer's steps move values."""
        for layer in layers:
            layer.weight.mul_(self.scale)  # type: ignore[operator, union-attr]  # a Parameter
            layer.bias.mul_(self.scale).add_(self.shift)  # type: ignore[operator, union-attr]


class ValueNorm(nn.Module):
    """Running mean and standard deviation of the value targets (Yu et al. 2022, section 5.1): an
    exponential average, debiased, with variance at least 0.01.

    When they move, whoever gives normalised values has to follow (PopArt, van Hasselt et al. 2016):
    else values are multiplied, targets with them, and the deviation grows without end. Differences
    between values are preserved. Their mean becomes the targets' instead of staying: it is what the
    optimizer would approach in many small steps, each of which moves the differences too.
    """

    def __init__(self, beta: float = 0.99999):
        super().__init__()
        self.beta = beta
        for name in ("mean", "square", "weight"):  # double: the variance is a difference
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        self.mean: Tensor
        self.square: Tensor
        self.weight: Tensor

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation; 0 and 1 before the first update."""
        mean, std = self._moments()
        return mean.float(), std.float()

    def _moments(self) -> tuple[Tensor, Tensor]:
        known = self.weight > 0
        weight = self.weight.clamp_min(1e-8)
        mean = self.mean / weight
        variance = (self.square / weight - mean.square()).clamp_min(1e-2)
        return torch.where(known, mean, 0.0), torch.where(known, variance.sqrt(), 1.0)

    @torch.no_grad()
    def update(self, target: Tensor, value: Tensor, mask: Tensor | None) -> Rescaling:
        """Takes in the targets of all ranks where ``mask`` (float, same shape) is 1.

        Args:
            value: what the critic gave in the targets' places, normalised.

        Returns what makes those values out of them that have the targets' mean and the differences
        they had. A network's first values mean nothing, and may be huge: they get a deviation of at
        most 1.
        """
        known, (_, old_std) = self.weight > 0, self._moments()
        target_mean, target_square = _mean_and_square(target, mask)
        for average, new in (
            (self.mean, target_mean),
            (self.square, target_square),
            (self.weight, torch.ones_like(self.weight)),
        ):
            average.lerp_(new, 1 - self.beta)
        mean, std = self._moments()
        value_mean, value_square = _mean_and_square(value, mask)
        spread = (value_square - value_mean.square()).clamp_min(1.0).sqrt()
        scale = torch.where(known, old_std / std, 1 / spread)
        return Rescaling(scale.float(), ((target_mean - mean) / std - scale * value_mean).float())

    def normalize(self, value: Tensor) -> Tensor:
        mean, std = self.moments()
        return (value - mean) / std

    def denormalize(self, value: Tensor) -> Tensor:
        """0 before the first update: nothing is known yet of values."""
        mean, std = self.moments()
        return torch.where(self.weight > 0, value * std + mean, 0.0)


def _mean_and_square(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of all ranks, in float64."""
    x = x.double()
    return distributed.average(masked_mean(x, mask)), distributed.average(
        masked_mean(x.square(), mask)
    )


class NoNorm(nn.Module):
    """Values as they are."""

    def update(self, target: Tensor, value: Tensor, mask: Tensor | None) -> Rescaling:
        return Rescaling(target.new_ones(()), target.new_zeros(()))

    def normalize(self, value: Tensor) -> Tensor:
        return value

    def denormalize(self, value: Tensor) -> Tensor:
        return value
