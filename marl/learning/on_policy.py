"""Preparation of rollouts for on-policy algorithms: values, memories at chunk starts, minibatches.

A *chunk* is ``L`` consecutive steps of one copy of the environment, the unit of which minibatches
are drawn: one step without memory, ``chunk_length`` steps with it. Chunks are numbered copy by copy
within each stretch of L steps.
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
from marl.types import Aux, Carry, Observation, Rollout, register, take, tree_map
from marl.utils import distributed


@register
@dataclass(frozen=True)
class Batch:
    """Inputs of the losses: ``[T, B, ...]`` of a rollout, or of a minibatch.

    A minibatch has ``[M, ...]`` without memory and ``[L, M, ...]`` with it. N counts the agents of
    the team, K the heads of the critic.
    """

    #: Observations of all groups, ``[T, B, ...]``.
    obs: Observation
    #: Actions by group, ``[T, B, N, *action shape]``.
    action: Mapping[str, Tensor]
    #: What the policies recorded when they acted.
    aux: Aux
    #: True where an episode begins, ``[T, B]``.
    start: Tensor
    #: Log-probabilities under the policy that acted, ``[T, B, N]``.
    log_prob: Tensor
    #: 1.0 where an agent is alive, else 0.0, ``[T, B, N]``; None where all always are.
    alive: Tensor | None
    #: Advantages, ``[T, B, K]``.
    advantage: Tensor
    #: Normalised values before the update, ``[T, B, K]``.
    value: Tensor
    #: Normalised value targets, ``[T, B, K]``.
    target: Tensor


@register
@dataclass(frozen=True)
class Memory:
    """Memories at the start of each chunk, ``[chunks, N, H]``; empty without recurrence."""

    #: The policy's memories.
    actor: Carry
    #: The critic's memories.
    critic: Carry

    def rows(self, index: Tensor) -> Memory:
        """Returns the memories of the chunks numbered ``index [M]``."""
        return Memory(_rows(self.actor, index), _rows(self.critic, index))


def chunk_length(length: int, steps: int, recurrent: bool) -> int:
    """Returns L, the number of steps in one chunk; 1 without memory.

    Args:
        length: ``chunk_length`` of the configuration.
        steps: T of the rollout.
        recurrent: whether any network has a memory.

    Raises:
        UserError: ``length`` does not divide ``steps``.
    """
    if recurrent and steps % length:
        raise UserError(
            f"chunk_length={length} must divide steps={steps} with a recurrent network; change "
            "algorithm.chunk_length or steps"
        )
    return length if recurrent else 1


@torch.no_grad()
def rollout_values(
    critic: ValueCritic, rollout: Rollout, carry: Carry, chunk: int, frames: int
) -> tuple[Tensor, Tensor, Carry, Carry]:
    """Computes the values of a rollout's observations and of their true successors.

    With memory it goes step by step, and the critic reads a successor with the memory that led to
    it.

    Args:
        critic: the critic of the team.
        rollout: ``[T, B, ...]``.
        carry: the critic's memories before the first step, ``[B, N, H]`` by group.
        chunk: L, steps in one chunk.
        frames: about how many frames to process at once, without memory.

    Returns:
        Values of ``obs`` and of ``next_obs``, ``[T, B, K]`` each; the memories at the start of each
        chunk, ``[chunks, N, H]`` by group; and those after the last step.
    """
    recurrent = bool(carry)
    length = 1 if recurrent else max(1, frames // rollout.done.shape[1])
    no_start = torch.zeros_like(rollout.start)
    starts, values, next_values = [], [], []
    for t in range(0, rollout.steps, length):
        steps = slice(t, t + length)
        if t % chunk == 0:
            starts.append(carry)
        value, carry = critic(_slice(rollout.obs, steps), carry, rollout.start[steps])
        values.append(value)
        next_values.append(critic(_slice(rollout.next_obs, steps), carry, no_start[steps])[0])
    return torch.cat(values), torch.cat(next_values), _concat(starts) if recurrent else {}, carry


@torch.no_grad()
def shared_values(critic: ValueCritic, rollout: Rollout, frames: int) -> tuple[Tensor, Tensor]:
    """Computes what ``rollout_values`` does for a critic without memory, in half of its time.

    The value of a successor that the next step begins with is that of the next step. The others
    are gathered, for which the host waits for the device.

    Args:
        critic: the critic of the team.
        rollout: ``[T, B, ...]``.
        frames: about how many frames to process at once.

    Returns:
        Values of ``obs`` and of ``next_obs``, ``[T, B, K]`` each.
    """
    length = max(1, frames // rollout.done.shape[1])
    values = []
    for t in range(0, rollout.steps, length):
        steps = slice(t, t + length)
        values.append(critic(_slice(rollout.obs, steps), {}, rollout.start[steps])[0])
    value = torch.cat(values)
    ends = torch.stack([cut.any(-1) for cut in rollout.truncated.values()]).any(0) | rollout.done
    ends[-1] = True
    rows = ends.flatten().nonzero().squeeze(-1)
    next_value = torch.cat([value[1:], value[-1:]])
    last, _ = critic(take(rollout.next_obs, rows), {}, torch.zeros_like(rows, dtype=torch.bool))
    next_value.view(-1, value.shape[-1])[rows] = last
    return value, next_value


@torch.no_grad()
def rollout_carries(policy: Policy, rollout: Rollout, chunk: int) -> Carry:
    """Recomputes a policy's memories at the start of each chunk, from the rollout's first memory.

    Args:
        policy: the policy of the team, as it is now.
        rollout: ``[T, B, ...]``.
        chunk: L, steps in one chunk.

    Returns:
        Memories ``[chunks, N, H]`` by group; empty without memory.
    """
    carry: Carry = {name: rollout.carry[name] for name in policy.groups if name in rollout.carry}
    if not carry:
        return {}
    starts = []
    for t in range(rollout.steps):
        if t % chunk == 0:
            starts.append(carry)
        obs, start = _slice(rollout.obs, slice(t, t + 1)), rollout.start[t : t + 1]
        action = {name: rollout.action[name][t : t + 1] for name in policy.groups}
        aux = {n: {k: v[t : t + 1] for k, v in rollout.aux[n].items()} for n in policy.groups}
        carry = policy.remember(obs, action, carry, start, aux)
    return _concat(starts)


def shuffled_chunks(
    batch: Batch, chunk: int, frames: int, generator: torch.Generator
) -> Iterable[Tensor]:
    """Returns the numbers of all chunks in a new random order, split into minibatches.

    Args:
        batch: the rollout, ``[T, B, ...]``.
        chunk: L, steps in one chunk.
        frames: about how many frames a minibatch holds.
        generator: random numbers of the order.

    Returns:
        Chunk numbers, ``[M]`` for each minibatch; each chunk occurs once.
    """
    chunks = batch.start.numel() // chunk
    order = torch.randperm(chunks, generator=generator, device=generator.device)
    return order.split(max(1, frames // chunk))


def minibatch(
    batch: Batch, memory: Memory, chunks: Tensor, chunk: int, recurrent: bool
) -> tuple[Batch, Memory]:
    """Gathers a minibatch and the memories that its chunks start from; copies nothing else.

    Args:
        batch: the rollout, ``[T, B, ...]``.
        memory: memories at the start of all chunks.
        chunks: numbers of the chunks to gather, ``[M]``.
        chunk: L, steps in one chunk.
        recurrent: whether any network has a memory.

    Returns:
        The minibatch, ``[L, M, ...]`` if ``recurrent`` and else ``[M, ...]``, and the memories
        ``[M, N, H]``.
    """
    copies = batch.start.shape[1]
    steps = torch.arange(chunk, device=chunks.device).unsqueeze(-1)
    index = (chunks // copies * chunk + steps) * copies + chunks % copies  # [L, M]
    return take(batch, index if recurrent else index.squeeze(0)), memory.rows(chunks)


def normalize(advantage: Tensor, alive: Tensor | None) -> Tensor:
    """Returns advantages with zero mean and unit standard deviation over the samples of all ranks.

    Args:
        advantage: ``[T, B, K]``.
        alive: 1.0 where an agent is alive, else 0.0, ``[T, B, N]``; None where all are. Only
            samples of live agents count where there is one advantage for each agent (K = N).
    """
    mask = alive if alive is not None and alive.shape == advantage.shape else None
    mean = distributed.average(losses.masked_mean(advantage, mask))
    std = distributed.average(losses.masked_mean((advantage - mean).square(), mask)).sqrt()
    return (advantage - mean) / (std + 1e-5)


def _rows(carry: Carry, index: Tensor) -> Carry:
    return {name: memory.index_select(0, index) for name, memory in carry.items()}


def _slice(obs: Observation, steps: slice) -> Observation:
    return tree_map(lambda x: x[steps], obs)


def _concat(starts: list[Carry]) -> Carry:
    """Concatenates ``[B, N, H]`` of each stretch to ``[stretches * B, N, H]``."""
    return {name: torch.cat([carry[name] for carry in starts]) for name in starts[0]}
