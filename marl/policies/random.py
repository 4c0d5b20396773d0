"""Random actions: for baselines, opponents, a replay's first frames, and checks of environments."""

from __future__ import annotations

import torch
from torch import Tensor

from marl.env import uniform_action, uniform_noise
from marl.policies.fixed import FixedPolicy
from marl.types import Carry, Noise, Observation, PolicyStep


class RandomPolicy(FixedPolicy):
    """Uniformly random allowed actions; there are no greedy ones, and log-probabilities are 0."""

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
