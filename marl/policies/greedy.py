"""Policies of Q-learning: greedy by the utilities of each agent's choices, random with epsilon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from marl.networks.base import Model, Network, build_for
from marl.networks.ensemble import EnsembleNetwork
from marl.policies.independent import IndependentPolicy
from marl.policies.utilities import Utilities
from marl.types import AgentGroup, Carry, Noise, Observation, PolicyStep

#: Name in ``aux`` of the memories before a step, where a replay stores them.
CARRY = "carry"


class GreedyPolicy(IndependentPolicy):
    """Every agent takes its choice of largest utility or, with probability epsilon, any other.

    Args:
        groups: the groups of the team.
        model: hyperparameters of the networks, whose outputs are the utilities.
        members: E, networks of each group, whose mean utility decides.
        bins: values for each dimension of Continuous actions.
        mean: True for the mean utility of an agent's choices, False for the sum.
        store_carry: whether a replay stores the memories before each step.

    Attributes:
        epsilon: probability of a random action in play with noise, a scalar in ``state_dict``.
        utilities: the distribution of each group.
    """

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        model: Model,
        *,
        members: int = 1,
        bins: int = 3,
        mean: bool = False,
        store_carry: bool = False,
    ):
        make = {n: Utilities(g.action, members, bins, mean) for n, g in groups.items()}
        self.utilities: dict[str, Utilities] = make
        by_spec = {utilities.spec: utilities for utilities in make.values()}
        self.members = members
        super().__init__(groups, model, by_spec.__getitem__)
        self.register_buffer("epsilon", torch.zeros(()))
        self.epsilon: Tensor
        has_memory = any(network.carry_size for network in self.networks.values())
        self.aux_keys = (CARRY,) if store_carry and has_memory else ()

    def build_network(self, model: Model, group: AgentGroup, outputs: int) -> Network:
        size = outputs // self.members
        networks = [build_for(model, group, size) for _ in range(self.members)]
        return networks[0] if self.members == 1 else EnsembleNetwork(networks)

    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        noise = super().noise(num_envs, generator)
        for values in noise.values():
            values[..., 0] -= self.epsilon  # below 0 with probability epsilon
        return noise

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        step = super().act(obs, carry, start, noise)
        if not self.aux_keys:
            return step
        return replace(step, aux={n: {CARRY: carry[n]} if n in carry else {} for n in self.groups})
