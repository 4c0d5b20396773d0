"""Returns, advantages and value normalisation: pure tensor functions over ``[T, ...]``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from marl import ranks
from marl.losses import masked_mean


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
    reward: Tensor, terminated: Tensor, done: Tensor, there: Tensor, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """n-step returns (Sutton and Barto 2018, eq. 7.1) of M windows of n steps; H returns each.

        m        = steps up to the first done_k (inclusive), all n without one
        R        = sum_{k < m} gamma^k r_k, where nothing after the first terminated_k counts
        discount = gamma^m (1 - terminated in any of these), to multiply the value after step m with

    Args:
        reward, terminated: ``[n, M, H]``; an agent may terminate while its episode goes on.
        done: ``[n, M]``, where a window ends: with the episode, or where a return is cut.
        there: ``[n, M]``, False from where a window has no more steps, which shortens m; what
            stands in the other arguments there is of no importance. True in the first step.

    Returns R and discount ``[M, H]``, and m ``[M]``.
    """
    inside = there & ~_before(done)
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


class ValueNorm(nn.Module):
    """Running mean and standard deviation of the value targets (Yu et al. 2022, section 5.1): an
    exponential average, debiased, with variance at least 0.01."""

    def __init__(self, beta: float = 0.99999):
        super().__init__()
        self.beta = beta
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("square", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))
        self.mean: Tensor
        self.square: Tensor
        self.weight: Tensor

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation; 0 and 1 before the first update."""
        known = self.weight > 0
        weight = self.weight.clamp_min(1e-8)
        mean = self.mean / weight
        variance = (self.square / weight - mean.square()).clamp_min(1e-2)
        return torch.where(known, mean, 0.0), torch.where(known, variance.sqrt(), 1.0)

    @torch.no_grad()
    def update(self, target: Tensor, mask: Tensor) -> None:
        """Takes in the targets of all ranks where ``mask`` (float, same shape) is 1."""
        for average, value in (
            (self.mean, ranks.average(masked_mean(target, mask))),
            (self.square, ranks.average(masked_mean(target.square(), mask))),
            (self.weight, torch.ones_like(self.weight)),
        ):
            average.lerp_(value, 1 - self.beta)

    def normalize(self, value: Tensor) -> Tensor:
        mean, std = self.moments()
        return (value - mean) / std

    def denormalize(self, value: Tensor) -> Tensor:
        mean, std = self.moments()
        return value * std + mean


class NoNorm(nn.Module):
    """Values as they are."""

    def update(self, target: Tensor, mask: Tensor) -> None: ...

    def normalize(self, value: Tensor) -> Tensor:
        return value

    def denormalize(self, value: Tensor) -> Tensor:
        return value
