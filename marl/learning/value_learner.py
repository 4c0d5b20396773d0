"""The critic's half of an on-policy algorithm: advantages, value targets, and the critic's loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from marl.critics.value import ValueCritic
from marl.learning import losses, returns
from marl.learning.on_policy import Batch, normalize, rollout_values, shared_values
from marl.learning.rewards import RewardScheme, team_alive
from marl.types import AgentGroup, Carry, Rollout


class ValueOptions(Protocol):
    """The hyperparameters of an algorithm's configuration that a ``ValueLearner`` reads."""

    #: Discount of future rewards, per step.
    gamma: float
    #: Decay of the trace of advantages (lambda of ``returns.gae``).
    gae_lambda: float
    #: Clipping of values around old ones, in normalised units; None for none.
    value_clip: float | None
    #: Error beyond which the loss grows linearly, in normalised units; None for never.
    huber: float | None
    #: Advantages get zero mean and unit deviation over a rollout.
    normalize_advantage: bool
    #: Values are learned in normalised units (``returns.ValueNorm``).
    normalize_value: bool


@dataclass(frozen=True)
class Estimates:
    """Advantages and values of a team in a rollout; K counts critic heads, N the team's agents."""

    #: 1.0 where an agent is alive, else 0.0, ``[T, B, N]``; None where all always are.
    alive: Tensor | None
    #: Advantages, ``[T, B, K]``.
    advantage: Tensor
    #: Normalised values before the update, ``[T, B, K]``.
    value: Tensor
    #: Normalised value targets, ``[T, B, K]``.
    target: Tensor


class ValueLearner:
    """Estimates advantages and fits a critic to the returns, in normalised values.

    Args:
        critic: the critic of the team, a module.
        team: the groups of the team.
        scheme: how the team is rewarded.
        options: hyperparameters.
        device: where critic and values are.
        shares: whether successors have the value of the next step where they are what it begins
            with; not bit by bit the same.

    Raises:
        UserError: values are to be normalised, and the critic's network has no linear head.
    """

    def __init__(
        self,
        critic: ValueCritic,
        *,
        team: Mapping[str, AgentGroup],
        scheme: RewardScheme,
        options: ValueOptions,
        device: torch.device,
        shares: bool = False,
    ):
        assert isinstance(critic, nn.Module)
        self.critic, self.team, self.scheme, self.options = critic.to(device), team, scheme, options
        self.shares = shares
        norm = returns.ValueNorm() if options.normalize_value else returns.NoNorm()
        self.norm = norm.to(device)
        self.last_layers = critic.last_layers if options.normalize_value else []

    @torch.no_grad()
    def estimate(
        self, rollout: Rollout, carry: Carry, chunk: int, frames: int
    ) -> tuple[Estimates, Carry, Carry]:
        """Estimates advantages and value targets of a rollout.

        Afterwards the critic gives its values in the units of the new targets.

        Args:
            rollout: ``[T, B, ...]``.
            carry: the critic's memories before the first step, ``[B, N, H]`` by group.
            chunk: L, steps in one chunk.
            frames: about how many frames to process at once, without memory.

        Returns:
            The estimates; the critic's memories at the start of each chunk, ``[chunks, N, H]`` by
            group; and those after the last step.
        """
        norm, options = self.norm, self.options
        rollout = replace(rollout, next_obs=self.scheme.successor(rollout, self.team))
        if self.shares and not carry:
            value, next_value = shared_values(self.critic, rollout, frames)
            memory: Carry = {}
        else:
            value, next_value, memory, carry = rollout_values(
                self.critic, rollout, carry, chunk, frames
            )
        advantage, target = self._advantages(rollout, value, next_value)
        alive = team_alive(rollout.obs, self.team)
        rescaling = norm.update(target, value, self.scheme.mask(alive))
        rescaling.apply_to_layers(self.last_layers)
        if options.normalize_advantage:
            advantage = normalize(advantage, alive)
        estimates = Estimates(alive, advantage, rescaling(value), norm.normalize(target))
        return estimates, memory, carry

    def _advantages(
        self, rollout: Rollout, value: Tensor, next_value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Computes advantages and targets in the unit of rewards from normalised values.

        All of them are ``[T, B, K]``.
        """
        reward, terminated, done = (
            read(rollout, self.team).expand(value.shape)
            for read in (self.scheme.reward, self.scheme.terminated, self.scheme.done)
        )
        value, next_value = self.norm.denormalize(value), self.norm.denormalize(next_value)
        return returns.gae(
            reward, value, next_value, terminated, done,
            self.options.gamma, self.options.gae_lambda,
        )  # fmt: skip

    def loss(self, batch: Batch, carry: Carry) -> Tensor:
        """Computes the critic's loss of one minibatch, a scalar.

        It is the mean over the returns that continue (``RewardScheme.mask``).

        Args:
            batch: the minibatch.
            carry: the critic's memories at the start of its chunks.
        """
        value, _ = self.critic(batch.obs, carry, batch.start)
        errors = losses.value_loss(
            value, batch.value, batch.target, self.options.value_clip, self.options.huber
        )
        return losses.masked_mean(errors, self.scheme.mask(batch.alive))
