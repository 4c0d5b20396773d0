"""Decentralized policies: each agent from its own observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from marl.networks.base import Model, build_for, outputs
from marl.policies.base import NOTHING, initial_carry
from marl.policies.distributions import Distribution, distribution
from marl.types import (
    ActionSpec,
    AgentGroup,
    Aux,
    Carry,
    Noise,
    Observation,
    PolicyStep,
    tree_map,
    zero_absent,
)


class IndependentPolicy(nn.Module):
    """Every agent acts on its own observation; one network per group."""

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        model: Model,
        make: Callable[[ActionSpec], Distribution] = distribution,
    ):
        super().__init__()
        self.groups = dict(groups)
        self.distributions = {name: make(group.action) for name, group in groups.items()}
        self.networks = nn.ModuleDict(
            {
                name: build_for(model, group, self.distributions[name].parameters, gain=0.01)
                for name, group in groups.items()
            }
        )

    def initial_carry(self, num_envs: int) -> Carry:
        return initial_carry(self.networks, self.groups, num_envs)

    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        return {
            name: self.distributions[name].noise((num_envs, group.size), generator)
            for name, group in self.groups.items()
        }

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        action, log_prob, aux, new_carry = {}, {}, {}, {}
        for name in self.groups:
            seen = obs.groups[name]
            params, memory = outputs(
                self.networks[name],
                seen.obs.unsqueeze(0),
                tree_map(lambda x: x.unsqueeze(0), obs.graph),
                carry.get(name),
                start.unsqueeze(0),
            )
            action[name], log_prob[name], aux[name] = self.distributions[name].sample(
                params.squeeze(0), seen.action_mask, None if noise is None else noise[name]
            )
            if memory is not None:
                new_carry[name] = memory
        return PolicyStep(action, log_prob, new_carry, aux)

    def numbers(self, obs: Observation, noise: Noise = NOTHING) -> dict[str, Tensor]:
        """What the networks give, ``[..., N, P]`` by group. Without memory."""
        return {
            name: outputs(self.networks[name], obs.groups[name].obs, obs.graph)[0]
            for name in self.groups
        }

    def sample(self, obs: Observation, noise: Noise) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Actions as critics read them, ``[..., N, A]``, with gradient, and their
        log-probabilities ``[..., N]``, both 0 of absent agents; greedy in groups that ``noise``
        lacks. Without memory."""
        return self.encoded(self.numbers(obs, noise), obs, noise)

    def encoded(
        self, numbers: Mapping[str, Tensor], obs: Observation, noise: Noise
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """As ``sample``, from what the networks gave."""
        action, log_prob = {}, {}
        for name, given in numbers.items():
            seen = obs.groups[name]
            found = self.distributions[name].encoded(given, seen.action_mask, noise.get(name))
            action[name], log_prob[name] = (zero_absent(x, seen.alive) for x in found)
        return action, log_prob

    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        """The memories after steps ``[T, B]`` in which these actions were taken."""
        found = {}
        for name in self.groups:
            seen = obs.groups[name].obs
            _, memory = outputs(self.networks[name], seen, obs.graph, carry.get(name), start)
            if memory is not None:
                found[name] = memory
        return found

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        log_prob, entropy = {}, {}
        for name in self.groups:
            seen = obs.groups[name]
            params, _ = outputs(self.networks[name], seen.obs, obs.graph, carry.get(name), start)
            log_prob[name], entropy[name] = self.distributions[name].evaluate(
                params, seen.action_mask, action[name], aux[name]
            )
        return log_prob, entropy
