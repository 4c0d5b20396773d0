"""Decentralized policies: each agent acts on its own observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from marl.networks.base import Model, Network, apply_network, build_for, unroll_network
from marl.policies.base import EMPTY
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
    """Every agent acts on its own observation; one network per group.

    Args:
        groups: the groups of the team.
        model: hyperparameters of the networks.
        make: returns the distribution over the actions of a specification.

    Attributes:
        only_acts: True outside of training, where nobody reads the log-probabilities of greedy
            actions: they are left out, which takes half the time.
    """

    only_acts = False

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        model: Model,
        make: Callable[[ActionSpec], Distribution] = distribution,
    ):
        super().__init__(groups, make, partial(self.build_network, model))

    def build_network(self, model: Model, group: AgentGroup, outputs: int) -> Network:
        """Builds the network of a group, whose small last weights make first actions even.

        Args:
            model: hyperparameters of the network.
            group: the agents.
            outputs: P, the parameters of an agent's distribution.
        """
        return build_for(model, group, outputs, gain=0.01)

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        params, new_carry = self.step_params(obs, carry, start)
        if noise is None and self.only_acts:
            modes = {
                name: self.distributions[name].mode(x, obs.groups[name].action_mask)
                for name, x in params.items()
            }
            return PolicyStep(modes, {}, new_carry, {})
        action, log_prob, aux = {}, {}, {}
        for name in self.groups:
            drawn = None if noise is None else noise[name]
            action[name], log_prob[name], aux[name] = self.distributions[name].sample(
                params[name], obs.groups[name].action_mask, drawn
            )
        return PolicyStep(action, log_prob, new_carry, aux)

    def step_params(
        self, obs: Observation, carry: Carry, start: Tensor
    ) -> tuple[dict[str, Tensor], Carry]:
        """Computes the parameters of the action distributions in one step.

        Args:
            obs: ``[B, N, *shape]`` by group.
            carry: the memories before the step, ``[B, N, H]`` by group.
            start: ``[B]`` bool, True where the step is the first of an episode.

        Returns:
            Parameters ``[B, N, P]`` and the memories after the step ``[B, N, H]``, by group.
        """
        graph = tree_map(lambda x: x.unsqueeze(0), obs.graph)
        params, new_carry = {}, {}
        for name in self.groups:
            x = obs.groups[name].obs.unsqueeze(0)
            output, memory = apply_network(
                self.networks[name], x, graph, carry.get(name), start.unsqueeze(0)
            )
            params[name] = output.squeeze(0)
            if memory is not None:
                new_carry[name] = memory
        return params, new_carry

    def unroll(
        self, obs: Observation, carry: Carry, start: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Computes the parameters of the action distributions along sequences, with gradient.

        Args:
            obs: ``[T, B, N, *shape]`` by group.
            carry: the memories before the first step, ``[B, N, H]`` by group.
            start: ``[T, B]`` bool, True where an episode begins.

        Returns:
            Parameters ``[T, B, N, P]`` and, of groups with a memory, the memories after each step
            ``[T, B, N, H]``, by group.
        """
        params, memories = {}, {}
        for name in self.groups:
            x, network = obs.groups[name].obs, self.networks[name]
            params[name], memory = unroll_network(network, x, obs.graph, carry.get(name), start)
            if memory is not None:
                memories[name] = memory
        return params, memories

    def distribution_params(self, obs: Observation, noise: Noise = EMPTY) -> dict[str, Tensor]:
        return {
            name: apply_network(self.networks[name], obs.groups[name].obs, obs.graph)[0]
            for name in self.groups
        }

    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        memories = {}
        for name in self.groups:
            x = obs.groups[name].obs
            _, memory = apply_network(self.networks[name], x, obs.graph, carry.get(name), start)
            if memory is not None:
                memories[name] = memory
        return memories

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        log_prob, entropy, _ = self.evaluate_with_features(obs, action, carry, start, aux)
        return log_prob, entropy

    def evaluate_with_features(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Computes ``evaluate``, and each group's distribution parameters ``[..., N, P]`` as the
        feature ``<group>/params``."""
        log_prob, entropy, features = {}, {}, {}
        for name in self.groups:
            group = obs.groups[name]
            params, _ = apply_network(
                self.networks[name], group.obs, obs.graph, carry.get(name), start
            )
            log_prob[name], entropy[name] = self.distributions[name].evaluate(
                params, group.action_mask, action[name], aux[name]
            )
            features[f"{name}/params"] = params
        return log_prob, entropy, features
