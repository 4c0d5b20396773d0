"""Teams that do not learn: uniformly random, or frozen from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from marl.algorithm import Scripted, Setting
from marl.distributions import uniform_action, uniform_noise
from marl.errors import UserError
from marl.policies import Policy
from marl.runs import load_policy
from marl.types import AgentGroup, Aux, Carry, Noise, Observation, PolicyStep


class RandomPolicy:
    """Uniform over the allowed actions; it has no greedy version, and no density that anyone
    reads."""

    def __init__(self, groups: Mapping[str, AgentGroup]):
        self.groups = dict(groups)

    def initial_carry(self, num_envs: int) -> Carry:
        return {}

    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        return {
            name: uniform_noise(group.action, (num_envs, group.size), generator)
            for name, group in self.groups.items()
        }

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        assert noise is not None, "a random policy acts at random"
        action = {
            name: uniform_action(group.action, noise[name], obs.groups[name].action_mask)
            for name, group in self.groups.items()
        }
        log_prob = {name: noise[name].new_zeros(noise[name].shape[:2]) for name in self.groups}
        return PolicyStep(action, log_prob, {}, {name: {} for name in self.groups})

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        raise NotImplementedError("nothing learns from a random team's probabilities")


@dataclass
class RandomConfig:
    """A team that acts at random, for baselines and as an opponent."""

    def policy(self, setting: Setting) -> Policy:
        return RandomPolicy(setting.team)

    def build(self, setting: Setting) -> Scripted:
        return Scripted(self.policy(setting), explore=True)


@dataclass
class FrozenConfig:
    """A team with the policy of an earlier run, which does not learn any more."""

    checkpoint: str = ""  # a run directory, or one of its checkpoint files
    source: str = ""  # the team to take from that run; empty for the one with the same groups
    explore: bool = True  # whether it samples its actions while the others train

    def __post_init__(self) -> None:
        if not self.checkpoint:
            raise UserError(
                "algorithm frozen needs checkpoint=RUN, the directory of an earlier run"
            )
        self.checkpoint = str(Path(self.checkpoint).absolute())  # found again from anywhere

    def policy(self, setting: Setting) -> Policy:
        return load_policy(Path(self.checkpoint), self.source, setting)

    def build(self, setting: Setting) -> Scripted:
        return Scripted(self.policy(setting), explore=None if self.explore else False)
