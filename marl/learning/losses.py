"""Losses of the policy-gradient family: tensor functions, elementwise unless stated otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from marl.types import Stats
from marl.utils import distributed


def masked_mean(value: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the mean of ``value`` over the entries that a mask selects, a scalar.

    Across ranks each rank divides by the mean number of selected entries, so that the average of
    the ranks' results is the mean over the entries of all ranks.

    Args:
        value: any shape.
        mask: 1.0 where an entry counts, else 0.0, of the same shape; None where all count. The
            result is 0 where no entry counts.
    """
    if mask is None:
        return value.mean()
    return (value * mask).sum() / distributed.average(mask.sum()).clamp_min(1 / distributed.size())


def masked_means(value: Tensor, mask: Tensor | None) -> Tensor:
    """Returns ``masked_mean`` of each column, ``[N]``.

    Args:
        value: ``[M, N]``.
        mask: 1.0 where an entry counts, else 0.0, ``[M, N]``; None where all count.
    """
    if mask is None:
        return value.mean(0)
    return (value * mask).sum(0) / distributed.average(mask.sum(0)).clamp_min(
        1 / distributed.size()
    )


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, clip: float | None) -> Tensor:
    """Computes PPO's negative surrogate objective (Schulman et al. 2017, eq. 7).

    With ``r = exp(log_ratio)`` it is ``-min(r A, clip(r, 1 - eps, 1 + eps) A)``; without clipping
    it is ``-r A``.

    Args:
        log_ratio: ``log pi - log pi_old`` of the actions taken, ``[..., N]``.
        advantage: A, of the same shape, or one that broadcasts to it.
        clip: eps; None for no clipping.

    Returns:
        The negative objective of each entry, ``[..., N]``.
    """
    ratio = log_ratio.exp()
    if clip is None:
        return -ratio * advantage
    return -torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def value_loss(
    value: Tensor, old_value: Tensor, target: Tensor, clip: float | None, huber: float | None
) -> Tensor:
    """Computes half the squared error of values, with the clipping of PPO and a Huber variant.

    With ``clip`` it is the larger of two errors: that of the value, and that of the value after it
    was clipped to within ``clip`` of the old value.

    Args:
        value: the critic's values, any shape.
        old_value: its values before the update, of the same shape.
        target: what the values should be, of the same shape.
        clip: how far a value may move from the old one; None for no clipping.
        huber: error beyond which the loss grows linearly; None for the squared error everywhere.

    Returns:
        The loss of each entry.
    """
    loss = _error(value - target, huber)
    if clip is None:
        return loss
    clipped = old_value + (value - old_value).clamp(-clip, clip)
    return torch.max(loss, _error(clipped - target, huber))


def _error(difference: Tensor, huber: float | None) -> Tensor:
    if huber is None:
        return 0.5 * difference.square()
    return F.huber_loss(difference, torch.zeros_like(difference), reduction="none", delta=huber)


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """Returns an unbiased, non-negative estimate of KL(old || new), elementwise.

    From actions of the old policy with ``r = exp(log_ratio)`` it is ``r - 1 - log r`` (Schulman
    2020, "Approximating KL divergence", estimator k3).
    """
    return log_ratio.expm1() - log_ratio


@torch.no_grad()
def ratio_stats(log_ratio: Tensor, clip: float | None, alive: Tensor | None) -> Stats:
    """Computes how far a policy is from the one that acted, as means over live agents.

    Args:
        log_ratio: ``log pi - log pi_old`` of the actions taken, ``[..., N]``.
        clip: distance of a ratio from 1 beyond which it counts as clipped; None for never.
        alive: 1.0 where an agent is alive, else 0.0, ``[..., N]``; None where all are.

    Returns:
        ``kl``, and ``clip_fraction``, the share of ratios beyond ``1 +- clip``.
    """
    beyond = log_ratio.expm1().abs() > (math.inf if clip is None else clip)
    return {
        "kl": masked_mean(approximate_kl(log_ratio), alive),
        "clip_fraction": masked_mean(beyond.float(), alive),
    }


def mean_stats(steps: Sequence[Stats]) -> Stats:
    """Returns the means of several steps' statistics, by one reduction; empty for no step.

    All steps must have the same names.
    """
    if not steps:
        return {}
    means = torch.stack([torch.stack(list(stats.values())) for stats in steps]).mean(0)
    return dict(zip(steps[0], means.unbind(), strict=True))
