"""Learning from sequences with policies and critics that have a memory.

A sequence has b steps of burn-in and L steps to learn from (Kapturowski et al. 2019, R2D2). All
memories are zero before its first step, and where an episode begins. They build up over the burn-in
without gradient, and are exact where it contains the episode's beginning. Then, for each of the L
steps::

    log-probabilities and actions of now    gradients flow through time, up to the burn-in
    values of the stored actions            the same
    values of fresh actions                 one step, from memories of the stored past
    targets                                 one step in the successor, from memories after the step

The losses themselves know nothing of this: they read the L steps of all sequences as transitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from marl.learning.replay import ReplayBatch, Sequences
from marl.learning.returns import n_step
from marl.policies.base import DifferentiablePolicy, Policy
from marl.policies.kinds import recurrent_policy
from marl.types import Carry, Noise, register, take, tree_map, tree_tensors


@register
@dataclass(frozen=True)
class SequenceBatch(ReplayBatch):
    """The steps to learn from of ``S`` sequences as ``M = L S`` transitions, step by step."""

    #: The whole sequences, ``[b + L, S, ...]``, with encoded actions.
    sequences: Sequences
    #: Number ``t * S + s`` of the last step of each transition, ``[M]``; ``next_obs`` follows it.
    last: Tensor
    #: Memories of the critics before each transition, ``[M, ...]``; empty until they are computed.
    critic_carry: Any = ()

    @property
    def count(self) -> int:
        """S, the number of sequences."""
        return self.sequences.start.shape[1]

    @property
    def burn_in(self) -> int:
        """b, the steps before those to learn from."""
        return len(self.sequences.start) - len(self.last) // self.count


def sequence_batch(sequences: Sequences, burn_in: int, steps: int, gamma: float) -> SequenceBatch:
    """Returns the steps after the burn-in as transitions of up to n steps.

    The window of a transition ends as in ``Replay.transitions``, and with its sequence.

    Args:
        sequences: ``[b + L, S, ...]``, with encoded actions.
        burn_in: b.
        steps: n, the longest window.
        gamma: discount.
    """
    end, count = sequences.start.shape
    learned = tree_map(lambda x: x[burn_in:], sequences)
    index = torch.arange(burn_in * count, end * count, device=sequences.start.device)
    obs, action, aux = tree_map(_flat, (learned.obs, learned.action, learned.aux))
    if steps == 1:
        discount = gamma * ~_flat(learned.terminated)
        next_obs, reward = tree_map(_flat, (learned.next_obs, learned.reward))
    else:
        window = index + count * torch.arange(steps, device=index.device).unsqueeze(-1)  # [n, M]
        valid = window < end * count
        window = torch.where(valid, window, index)
        rewards, terminated, done = take(
            (sequences.reward, sequences.terminated, sequences.done), window
        )
        reward, discount, length = n_step(rewards, terminated, done.any(-1), valid, gamma)
        index = index + count * (length - 1)
        next_obs = take(sequences.next_obs, index)
    return SequenceBatch(obs, action, next_obs, reward, discount, aux, sequences, index)


def _flat(x: Tensor) -> Tensor:
    """Returns ``[L, S, ...]`` as ``[M, ...]``."""
    return x.flatten(0, 1)


#: Outputs and memories of consecutive steps ``[T, S]``, from the memories before the first.
Unroll: TypeAlias = Callable[[Sequences, Any], tuple[Any, Any]]


def _policy(policy: Any) -> Unroll:
    """Returns how a ``RecurrentPolicy`` or an ``AgentPolicy`` goes through sequences."""
    return lambda steps, carry: policy.unroll(steps.obs, carry, steps.start)


def _critic(critic: Any) -> Unroll:
    """Returns how critics go through sequences: they read the stored actions too."""
    return lambda steps, carry: critic.unroll(steps.obs, steps.action, carry, steps.start)


# ------------------------------------------------------------------------------- with gradient


def params_of(policy: Any, batch: ReplayBatch, *noise: Noise) -> Any:
    """Computes the parameters of the action distributions in ``batch.obs``, with gradient.

    Args:
        policy: a ``DifferentiablePolicy``, or an ``AgentPolicy``.
        batch: M transitions.
        *noise: what a ``DifferentiablePolicy`` drew.

    Returns:
        ``[M, N, P]`` by group; of an ``AgentPolicy`` ``[M, 1, P]``.
    """
    carry = policy.initial_carry(batch.count) if isinstance(batch, SequenceBatch) else {}
    if not isinstance(batch, SequenceBatch) or not carry:
        return policy.distribution_params(batch.obs, *noise)
    return tree_map(_flat, _outputs(_policy(policy), batch, carry))


def q_of_stored(critic: Any, batch: ReplayBatch) -> Tensor:
    """Computes the critics' values of the stored actions with gradient, ``[K, M, H]``."""
    carry = critic.initial_carry(batch.count) if isinstance(batch, SequenceBatch) else ()
    if not isinstance(batch, SequenceBatch) or not tree_tensors(carry):
        return critic(batch.obs, batch.action)
    return _outputs(_critic(critic), batch, carry).flatten(1, 2)


def _outputs(unroll: Unroll, batch: SequenceBatch, carry: Any) -> Any:
    """Returns the outputs of the steps to learn from, with the axes ``[L, S]``; gradients go back
    to the burn-in, before which memories are ``carry``."""
    sequences, b = batch.sequences, batch.burn_in
    if b:
        with torch.no_grad():
            _, memories = unroll(tree_map(lambda x: x[:b], sequences), carry)
            carry = tree_map(lambda x: x[-1], memories)
    return unroll(tree_map(lambda x: x[b:], sequences), carry)[0]


# ----------------------------------------------------------------------- memories, without gradient


@torch.no_grad()
def _memories(unroll: Unroll, batch: SequenceBatch, carry: Any) -> Any:
    """Returns the memories after every step ``[b + L, S, ...]``, from those before the first;
    ``carry`` itself without memory."""
    return unroll(batch.sequences, carry)[1] if tree_tensors(carry) else carry


def carry_before(critic: Any, batch: SequenceBatch) -> Any:
    """Returns the critics' memories before each transition, ``[M, ...]``; empty without memory."""
    start = batch.sequences.start[batch.burn_in :]

    def shift(x: Tensor) -> Tensor:
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])[batch.burn_in :]
        return _flat(before * ~start.reshape(*start.shape, *[1] * (x.dim() - 2)))

    return tree_map(shift, _memories(_critic(critic), batch, critic.initial_carry(batch.count)))


def next_carry(critic: Any, batch: ReplayBatch) -> Any:
    """Returns the critics' memories before ``batch.next_obs``, ``[M, ...]``; empty without
    memory."""
    if not isinstance(batch, SequenceBatch):
        return ()
    return _after(_critic(critic), batch, critic.initial_carry(batch.count))


def next_policy_carry(policy: Policy, batch: ReplayBatch) -> Carry:
    """Returns the memories of a policy before ``batch.next_obs``, ``[M, N, H]`` by group.

    Empty without memory, for transitions, and for a policy that is no ``RecurrentPolicy``.
    """
    if not isinstance(batch, SequenceBatch) or recurrent_policy(policy) is None:
        return {}
    return _after(_policy(policy), batch, policy.initial_carry(batch.count))


def _after(unroll: Unroll, batch: SequenceBatch, carry: Any) -> Any:
    """Returns the memories after the last step of each transition, ``[M, ...]``."""
    memories = _memories(unroll, batch, carry)
    return tree_map(lambda x: _flat(x).index_select(0, batch.last), memories)


def next_params_of(
    policy: DifferentiablePolicy, batch: ReplayBatch, noise: Noise
) -> Mapping[str, Tensor]:
    """Computes the parameters of the action distributions in ``batch.next_obs``.

    Args:
        policy: the team's, or its target network.
        batch: M transitions.
        noise: what the policy drew.

    Returns:
        ``[M, N, P]`` by group.
    """
    carry, recurrent = next_policy_carry(policy, batch), recurrent_policy(policy)
    if not carry or recurrent is None:
        return policy.distribution_params(batch.next_obs, noise)
    start = torch.zeros(len(batch.reward), dtype=torch.bool, device=batch.reward.device)
    return recurrent.step_params(batch.next_obs, carry, start)[0]
