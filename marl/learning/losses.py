"""Losses of the policy-gradient family: pure tensor functions, elementwise unless they say
otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from marl.types import Stats
from marl.utils import distributed


def masked_mean(value: Tensor, mask: Tensor | None) -> Tensor:
    """The mean where ``mask`` (float, same shape) is 1, 0 where it is 1 nowhere; the plain mean
    without. Across ranks it is this one's, and the ranks' mean is that of all their values."""
    if mask is None:
        return value.mean()
    return (value * mask).sum() / distributed.average(mask.sum()).clamp_min(1 / distributed.size())


def masked_means(value: Tensor, mask: Tensor | None) -> Tensor:
    """``masked_mean`` of every column: ``[N]`` of ``[M, N]``."""
    if mask is None:
        return value.mean(0)
    return (value * mask).sum(0) / distributed.average(mask.sum(0)).clamp_min(
        1 / distributed.size()
    )


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, clip: float | None) -> Tensor:
    """PPO's negative surrogate (Schulman et al. 2017, eq. 7): ``-min(r A, clip(r, 1-eps, 1+eps)
    A)``; without ``clip`` it is ``-r A``."""
    ratio = log_ratio.exp()
    if clip is None:
        return -ratio * advantage
    return -torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def value_loss(
    value: Tensor, old: Tensor, target: Tensor, clip: float | None, huber: float | None
) -> Tensor:
    """Half the squared error (or its Huber version, which grows linearly beyond ``huber``); with
    ``clip`` the larger of the errors of the value and of the value kept within ``clip`` of the old
    one."""
    loss = _error(value - target, huber)
    if clip is None:
        return loss
    near = old + (value - old).clamp(-clip, clip)
    return torch.max(loss, _error(near - target, huber))


def _error(difference: Tensor, huber: float | None) -> Tensor:
    if huber is None:
        return 0.5 * difference.square()
    return F.huber_loss(difference, torch.zeros_like(difference), reduction="none", delta=huber)


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """An unbiased, non-negative estimate of KL(old || new) from actions of the old policy (Schulman
    2020, "Approximating KL divergence", k3): ``r - 1 - log r``."""
    return log_ratio.expm1() - log_ratio


@torch.no_grad()
def ratio_stats(log_ratio: Tensor, clip: float | None, alive: Tensor | None) -> Stats:
    """Returns how far a policy is from the one that acted, means over live agents: ``kl``, and
    ``clip_fraction``, the share of ratios beyond ``1 +- clip``.

    Args:
        log_ratio: ``log pi - log pi_old`` of the actions taken, ``[..., N]``.
        alive: 1.0 where an agent is there, ``[..., N]``; None where all are.
    """
    beyond = log_ratio.expm1().abs() > (math.inf if clip is None else clip)
    return {
        "kl": masked_mean(approximate_kl(log_ratio), alive),
        "clip_fraction": masked_mean(beyond.float(), alive),
    }


def mean_stats(steps: Sequence[Stats]) -> Stats:
    """Returns the means of several steps' statistics, all of the same names, by one reduction; none
    of no step."""
    if not steps:
        return {}
    means = torch.stack([torch.stack(list(stats.values())) for stats in steps]).mean(0)
    return dict(zip(steps[0], means.unbind(), strict=True))
