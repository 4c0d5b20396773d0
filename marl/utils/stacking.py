"""Stacks of an agent's last observations, along the last axis, the oldest first."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from marl.types import GroupObservation, TensorSpec


def stacked(spec: TensorSpec, count: int) -> TensorSpec:
    """Returns the specification of a stack of ``count`` observations."""
    shape = (*spec.shape[:-1], count * spec.shape[-1])
    return TensorSpec(shape, spec.dtype, spec.low * count, spec.high * count)


def unstacked(spec: TensorSpec, count: int) -> TensorSpec:
    """Returns the specification of one observation of a stack of ``count``."""
    size = spec.shape[-1] // count
    return TensorSpec((*spec.shape[:-1], size), spec.dtype, spec.low[:size], spec.high[:size])


def repeated(new: GroupObservation, count: int) -> GroupObservation:
    """Returns the stack of an episode's first observation, which stands in for those before it."""
    return replace(new, obs=torch.cat([new.obs] * count, dim=-1))


def push(last: GroupObservation, new: GroupObservation, start: Tensor) -> GroupObservation:
    """Returns stacks with one more observation, and without the oldest.

    Args:
        last: the stacks so far, ``[B, N, *, K * O]``.
        new: the next observations, ``[B, N, *, O]``.
        start: where an episode begins with ``new``, ``[B]`` bool. There, and for agents that were
            absent, the stack is of ``new`` alone.

    Returns:
        The stacks; zeros for absent agents.
    """
    size, axes = new.obs.shape[-1], [1] * (new.obs.dim() - 2)
    fresh = start.unsqueeze(-1) if last.alive is None else start.unsqueeze(-1) | ~last.alive
    stack = torch.cat([last.obs[..., size:], new.obs], dim=-1)
    alone = repeated(new, last.obs.shape[-1] // size).obs
    stack = torch.where(fresh.reshape(*fresh.shape, *axes), alone, stack)
    if new.alive is not None:
        stack = stack.masked_fill(~new.alive.reshape(*new.alive.shape, *axes), 0)
    return replace(new, obs=stack)
