"""Policies and teams that do not learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from marl.policies.base import Policy, act
from marl.types import AgentGroup, Aux, Carry, Metrics, Observation, PolicyStep, Rollout


class FixedPolicy(Policy):
    """The base of policies without weights and memory, from whose actions nothing learns."""

    def __init__(self, groups: Mapping[str, AgentGroup]):
        self.groups = dict(groups)

    def initial_carry(self, num_envs: int) -> Carry:
        return {}

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        raise NotImplementedError("nothing learns from the probabilities of a fixed policy")

    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        return {}


class Scripted:
    """A team whose policy stays as it is; ``explore`` overrides the word of whoever asks it to
    act."""

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

    def update(self, rollout: Rollout) -> Metrics:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"policy": self.policy.state_dict()} if isinstance(self.policy, nn.Module) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if isinstance(self.policy, nn.Module):
            self.policy.load_state_dict(state["policy"])
