"""Policies and teams that do not learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from marl.policies.base import Policy, act
from marl.types import AgentGroup, Aux, Carry, Metrics, Noise, Observation, PolicyStep, Rollout


class FixedPolicy(Policy):
    """Base class of policies without weights and without memory, which cannot learn.

    Args:
        groups: the groups of the team.
    """

    def __init__(self, groups: Mapping[str, AgentGroup]):
        self.groups = dict(groups)

    def initial_carry(self, num_envs: int) -> Carry:
        return {}

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        raise NotImplementedError("a fixed policy has no probabilities to learn from")

    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        return {}


class Scripted:
    """An ``Algorithm`` whose policy never changes.

    Args:
        policy: the policy.
        explore: replaces the argument ``explore`` of ``act``; None leaves it as it is.
    """

    learns = False

    def __init__(self, policy: Policy, explore: bool | None):
        self.policy, self.explore = policy, explore

    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        explore = explore if self.explore is None else self.explore
        return act(self.policy, obs, carry, start, generator, explore)

    def acting_noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        """Draws the random numbers of one step's actions in training; none of greedy ones."""
        return {} if self.explore is False else self.policy.noise(num_envs, generator)

    def decide(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise) -> PolicyStep:
        """Chooses the actions of one step of training by noise, as ``Policy.act``."""
        return self.policy.act(obs, carry, start, None if self.explore is False else noise)

    def update(self, rollout: Rollout) -> Metrics:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"policy": self.policy.state_dict()} if isinstance(self.policy, nn.Module) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if isinstance(self.policy, nn.Module):
            self.policy.load_state_dict(state["policy"])
