"""What every on-policy algorithm makes of a rollout: values, memories at chunk starts, minibatches;
and the means of its steps' statistics.

A *chunk* is ``L`` consecutive steps of one copy, the unit that minibatches are drawn in: one step
without memory, ``chunk_length`` steps with it. Chunks are numbered copy by copy within each stretch
of L steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from marl.critics.value import ValueCritic
from marl.errors import UserError
from marl.learning import losses
from marl.policies.base import Policy
from marl.types import (
    Aux,
    Carry,
    Observation,
    Rollout,
    register,
    take,
    tree_map,
)
from marl.utils import distributed


@register
@dataclass(frozen=True)
class Batch:
    """What the losses read, ``[T, B, ...]`` of a rollout, ``[M, ...]`` or ``[L, M, ...]`` of a
    minibatch; N counts the team's agents, K the critic's heads."""

    obs: Observation
    action: Mapping[str, Tensor]
    aux: Aux
    start: Tensor
    log_prob: Tensor  # [T, B, N] under the policy that acted
    alive: Tensor | None  # [T, B, N] float
    advantage: Tensor  # [T, B, K]
    value: Tensor  # [T, B, K] before the update, normalised
    target: Tensor  # [T, B, K] normalised


@dataclass(frozen=True)
class Memory:
    """Memories at the start of every chunk, ``[chunks, N, H]``; empty without recurrence."""

    actor: Carry
    critic: Carry

    def rows(self, index: Tensor) -> Memory:
        return Memory(_rows(self.actor, index), _rows(self.critic, index))


def chunk_length(length: int, steps: int, recurrent: bool) -> int:
    """L: 1 without memory.

    Raises:
        UserError: a chunk length that does not divide the rollout's.
    """
    if recurrent and steps % length:
        raise UserError(f"chunk_length={length} must divide steps={steps} with a recurrent network")
    return length if recurrent else 1


@torch.no_grad()
def rollout_values(
    critic: ValueCritic, rollout: Rollout, carry: Carry, chunk: int, frames: int
) -> tuple[Tensor, Tensor, Carry, Carry]:
    """Values of ``obs`` and of the true successors, ``[T, B, K]``, with about ``frames`` in work at
    a time.

    With memory it goes step by step, and a successor is seen with the memory that led to it. Also
    returns the memories at the chunks' starts and after the last step.
    """
    recurrent = bool(carry)
    length = 1 if recurrent else max(1, frames // rollout.done.shape[1])
    never = torch.zeros_like(rollout.start)
    starts, values, next_values = [], [], []
    for t in range(0, rollout.steps, length):
        now = slice(t, t + length)
        if t % chunk == 0:
            starts.append(carry)
        value, carry = critic(_window(rollout.obs, now), carry, rollout.start[now])
        values.append(value)
        next_values.append(critic(_window(rollout.next_obs, now), carry, never[now])[0])
    return torch.cat(values), torch.cat(next_values), _join(starts) if recurrent else {}, carry


@torch.no_grad()
def rollout_carries(policy: Policy, rollout: Rollout, chunk: int) -> Carry:
    """The policy's memories at the start of every chunk, recomputed from the rollout's first."""
    carry: Carry = {name: rollout.carry[name] for name in policy.groups if name in rollout.carry}
    if not carry:
        return {}
    starts = []
    for t in range(rollout.steps):
        if t % chunk == 0:
            starts.append(carry)
        obs, start = _window(rollout.obs, slice(t, t + 1)), rollout.start[t : t + 1]
        action = {name: rollout.action[name][t : t + 1] for name in policy.groups}
        aux = {n: {k: v[t : t + 1] for k, v in rollout.aux[n].items()} for n in policy.groups}
        carry = policy.remember(obs, action, carry, start, aux)
    return _join(starts)


def shuffled_chunks(
    batch: Batch, chunk: int, frames: int, generator: torch.Generator
) -> Iterable[Tensor]:
    """All chunks' numbers once, in a fresh random order, about ``frames`` frames at a time."""
    chunks = batch.start.numel() // chunk
    order = torch.randperm(chunks, generator=generator, device=generator.device)
    return order.split(max(1, frames // chunk))


def minibatch(
    batch: Batch, memory: Memory, chunks: Tensor, chunk: int, recurrent: bool
) -> tuple[Batch, Memory]:
    """The chunks of these numbers and the memories they start from: fields become ``[L, M, ...]``
    where memories count, else ``[M, ...]``. Nothing is copied but the minibatch."""
    copies = batch.start.shape[1]
    steps = torch.arange(chunk, device=chunks.device).unsqueeze(-1)
    index = (chunks // copies * chunk + steps) * copies + chunks % copies  # [L, M]
    return take(batch, index if recurrent else index.squeeze(0)), memory.rows(chunks)


def normalize(advantage: Tensor, alive: Tensor | None) -> Tensor:
    """Returns ``advantage [T, B, K]`` with zero mean and unit deviation over all ranks' samples:
    those of the living (``alive [T, B, N]``) where there is one for every agent."""
    mask = alive if alive is not None and alive.shape == advantage.shape else None
    mean = distributed.average(losses.masked_mean(advantage, mask))
    std = distributed.average(losses.masked_mean((advantage - mean).square(), mask)).sqrt()
    return (advantage - mean) / (std + 1e-5)


def _rows(carry: Carry, index: Tensor) -> Carry:
    return {name: memory.index_select(0, index) for name, memory in carry.items()}


def _window(obs: Observation, now: slice) -> Observation:
    return tree_map(lambda x: x[now], obs)


def _join(starts: list[Carry]) -> Carry:
    """``[B, N, H]`` of every stretch to ``[stretches * B, N, H]``."""
    return {name: torch.cat([carry[name] for carry in starts]) for name in starts[0]}
