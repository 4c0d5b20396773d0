"""Decentralized policies: each agent from its own observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from marl.networks.base import Model, build_for, outputs
from marl.policies.base import NOTHING
from marl.policies.distributions import Distribution, distribution
from marl.policies.network import NetworkPolicy
from marl.types import (
    ActionSpec,
    AgentGroup,
    Aux,
    Carry,
    Noise,
    Observation,
    PolicyStep,
    tree_map,
)


class IndependentPolicy(NetworkPolicy):
    """Every agent acts on its own observation; one network per group."""

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        model: Model,
        make: Callable[[ActionSpec], Distribution] = distribution,
    ):
        super().__init__(groups, make, lambda group, size: build_for(model, group, size, gain=0.01))

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        action, log_prob, aux, new_carry = {}, {}, {}, {}
        for name in self.groups:
            group = obs.groups[name]
            params, memory = outputs(
                self.networks[name],
                group.obs.unsqueeze(0),
                tree_map(lambda x: x.unsqueeze(0), obs.graph),
                carry.get(name),
                start.unsqueeze(0),
            )
            action[name], log_prob[name], aux[name] = self.distributions[name].sample(
                params.squeeze(0), group.action_mask, None if noise is None else noise[name]
            )
            if memory is not None:
                new_carry[name] = memory
        return PolicyStep(action, log_prob, new_carry, aux)

    def distribution_params(self, obs: Observation, noise: Noise = NOTHING) -> dict[str, Tensor]:
        """See ``DifferentiablePolicy``; without memory."""
        return {
            name: outputs(self.networks[name], obs.groups[name].obs, obs.graph)[0]
            for name in self.groups
        }

    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        """The memories after steps ``[T, B]`` in which these actions were taken."""
        memories = {}
        for name in self.groups:
            own = obs.groups[name].obs
            _, memory = outputs(self.networks[name], own, obs.graph, carry.get(name), start)
            if memory is not None:
                memories[name] = memory
        return memories

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        log_prob, entropy = {}, {}
        for name in self.groups:
            group = obs.groups[name]
            params, _ = outputs(self.networks[name], group.obs, obs.graph, carry.get(name), start)
            log_prob[name], entropy[name] = self.distributions[name].evaluate(
                params, group.action_mask, action[name], aux[name]
            )
        return log_prob, entropy
