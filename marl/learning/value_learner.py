"""The critic's half of an on-policy algorithm: what a rollout was worth, and the critic's loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from marl.critics.value import ValueCritic
from marl.learning import losses, returns
from marl.learning.on_policy import Batch, normalize, rollout_values
from marl.learning.rewards import RewardScheme, team_alive
from marl.types import AgentGroup, Carry, Rollout


class ValueOptions(Protocol):
    """The hyperparameters of an algorithm's configuration that are read here."""

    gamma: float
    gae_lambda: float
    value_clip: float | None
    huber: float | None
    normalize_advantage: bool
    normalize_value: bool


@dataclass(frozen=True)
class Estimates:
    """What a rollout was worth to a team: K of the critic's heads, N of all its agents."""

    alive: Tensor | None  # [T, B, N] float
    advantage: Tensor  # [T, B, K]
    value: Tensor  # [T, B, K] before the update, normalised
    target: Tensor  # [T, B, K] normalised


class ValueLearner:
    """Estimates advantages and fits a critic to the returns, in normalised values.

    Args:
        critic: of the team; a module.
        team: the groups whose agents it values.
        scheme: how they are rewarded.
        options: hyperparameters.
        device: where it all lies.

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
    ):
        assert isinstance(critic, nn.Module)
        self.critic, self.team, self.scheme, self.options = critic.to(device), team, scheme, options
        norm = returns.ValueNorm() if options.normalize_value else returns.NoNorm()
        self.norm = norm.to(device)
        self.last_layers = critic.last_layers if options.normalize_value else []

    @torch.no_grad()
    def estimate(
        self, rollout: Rollout, carry: Carry, chunk: int, frames: int
    ) -> tuple[Estimates, Carry, Carry]:
        """Returns what the rollout was worth; the critic's memories at the start of every chunk,
        ``[chunks, N, H]``; and those after the last step. The critic gives its values in the units
        of the new targets afterwards.

        Args:
            carry: its memories before the first step, ``[B, N, H]``.
            chunk: L of the chunks.
            frames: about how many are in work at a time.
        """
        norm, options = self.norm, self.options
        rollout = replace(rollout, next_obs=self.scheme.successor(rollout, self.team))
        value, next_value, memory, carry = rollout_values(
            self.critic, rollout, carry, chunk, frames
        )
        advantage, target = self._advantages(rollout, value, next_value)
        alive = team_alive(rollout.obs, self.team)
        rescaling = norm.update(target, value, self.scheme.mask(alive))
        rescaling.of_layers(self.last_layers)
        if options.normalize_advantage:
            advantage = normalize(advantage, alive)
        estimates = Estimates(alive, advantage, rescaling(value), norm.normalize(target))
        return estimates, memory, carry

    def _advantages(
        self, rollout: Rollout, value: Tensor, next_value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Advantages and targets in the rewards' unit, of normalised values, ``[T, B, K]`` all."""
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
        """Returns the critic's loss, the mean over all whose return goes on.

        Args:
            batch: a minibatch.
            carry: the critic's memories that its chunks start from.
        """
        value, _ = self.critic(batch.obs, carry, batch.start)
        errors = losses.value_loss(
            value, batch.value, batch.target, self.options.value_clip, self.options.huber
        )
        return losses.masked_mean(errors, self.scheme.mask(batch.alive))
