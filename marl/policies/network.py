"""The base class of policies with one network per group: independent, joint, and ensembles."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from marl.networks.base import Network
from marl.networks.by_group import ByGroup
from marl.policies.base import DifferentiablePolicy, initial_carry
from marl.policies.distributions import Distribution
from marl.types import ActionSpec, AgentGroup, Carry, Noise, Observation, zero_absent


class NetworkPolicy(DifferentiablePolicy):
    """A policy whose networks, one per group, give the parameters of the action distributions.

    Args:
        groups: the groups of the team.
        make: returns the distribution over the actions of a specification.
        build: returns a group's network with so many outputs per agent.
    """

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        make: Callable[[ActionSpec], Distribution],
        build: Callable[[AgentGroup, int], Network],
    ):
        super().__init__()
        self.groups = dict(groups)
        self.distributions = {name: make(group.action) for name, group in groups.items()}
        self.networks = ByGroup(
            {n: build(group, self.distributions[n].parameters) for n, group in groups.items()}
        )

    def initial_carry(self, num_envs: int) -> Carry:
        return initial_carry(self.networks, self.groups, num_envs)

    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        return {
            name: self.distributions[name].noise((num_envs, group.size), generator)
            for name, group in self.groups.items()
        }

    def noise_ahead(self, steps: int, num_envs: int, generator: torch.Generator) -> Noise | None:
        """Draws the noise of several steps at once, the numbers of as many calls of ``noise``.

        Args:
            steps: T, their number.
            num_envs: B, the number of environments.
            generator: the generator to draw from, on the device of the result.

        Returns:
            ``[T, B, N, *]`` by group; None where it must be drawn step by step.
        """
        draws = {n: getattr(d, "noise_ahead", None) for n, d in self.distributions.items()}
        (name, draw), *others = draws.items()
        if type(self).noise is not NetworkPolicy.noise or draw is None or others:
            return None
        return {name: draw(steps, (num_envs, self.groups[name].size), generator)}

    def rsample(
        self, obs: Observation, noise: Noise, params: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        params = self.distribution_params(obs, noise) if params is None else params
        action, log_prob = {}, {}
        for name, group_params in params.items():
            group = obs.groups[name]
            sample = self.distributions[name].rsample(
                group_params, group.action_mask, noise.get(name)
            )
            action[name], log_prob[name] = (zero_absent(x, group.alive) for x in sample)
        return action, log_prob
