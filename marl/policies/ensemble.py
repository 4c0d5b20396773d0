"""Policy ensembles: every agent has several sub-policies and plays one of them per episode.

Source: Lowe et al. 2017 (MADDPG), section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from marl.errors import UserError
from marl.networks.base import Model, Network, build_for, per_agent
from marl.policies.base import EMPTY
from marl.policies.distributions import Distribution
from marl.policies.network import NetworkPolicy
from marl.types import ActionSpec, AgentGroup, Aux, Carry, Noise, Observation, PolicyStep

#: Key in ``aux`` of the index of the sub-policy that acted, ``[B, N]`` int64.
SUB_POLICY = "member"


class EnsemblePolicy(NetworkPolicy):
    """A policy whose agents draw one of their sub-policies where an episode starts, and keep it.

    The index of the sub-policy is the policy's memory, ``[B, N]``, which needs no initial value.
    Greedy play takes the sub-policies in turn over the environments instead. The index that acted
    is in ``aux[group]["member"]``, and losses pass it in ``noise["<group>/member"]``.

    Args:
        groups: the groups of the team.
        model: hyperparameters of the networks; every sub-policy has weights of its own.
        make: returns the distribution over the actions of a specification.
        size: number of sub-policies per agent.

    Raises:
        UserError: the model reads a graph or has a memory.
    """

    aux_keys = (SUB_POLICY,)

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        model: Model,
        make: Callable[[ActionSpec], Distribution],
        size: int,
    ):
        if getattr(model, "reads_graph", False):
            raise UserError(
                "ensembles do not support models that read a graph; set algorithm.ensemble=1, or "
                "take another model"
            )

        def build(group: AgentGroup, outputs: int) -> Network:
            stacked = replace(group, agents=_repeat(group.agents, size))
            return build_for(per_agent(model), stacked, outputs, gain=0.01)

        super().__init__(groups, make, build)
        if super().initial_carry(1):
            raise UserError("ensembles have no memory yet; set model.gru=0")
        self.size = size

    def initial_carry(self, num_envs: int) -> Carry:
        return {}

    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        noise = dict(super().noise(num_envs, generator))
        for name, group in self.groups.items():
            noise[f"{name}/draw"] = torch.rand(
                num_envs, group.size, generator=generator, device=generator.device
            )
        return noise

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        action, log_prob, aux, indices = {}, {}, {}, {}
        for name, group in self.groups.items():
            index = self._choose(name, group, start, noise)
            if name in carry:
                index = torch.where(start.unsqueeze(-1), index, carry[name])
            params = self._params(name, obs, index)
            action[name], log_prob[name], _ = self.distributions[name].sample(
                params, obs.groups[name].action_mask, None if noise is None else noise[name]
            )
            aux[name], indices[name] = {SUB_POLICY: index}, index
        return PolicyStep(action, log_prob, indices, aux)

    def _choose(self, name: str, group: AgentGroup, start: Tensor, noise: Noise | None) -> Tensor:
        """Returns the sub-policies of episodes that start now, ``[B, N]``."""
        if noise is not None:
            return (noise[f"{name}/draw"] * self.size).long()
        turns = torch.arange(start.shape[0], device=start.device).unsqueeze(-1)
        return (turns % self.size).expand(-1, group.size)

    def distribution_params(self, obs: Observation, noise: Noise = EMPTY) -> dict[str, Tensor]:
        """Computes the distributions' parameters, for the sub-policies that ``noise`` names.

        Args:
            obs: ``[..., N, *shape]`` by group.
            noise: holds their indices ``[..., N]`` under ``<group>/member``.
        """
        return {
            name: self._params(name, obs, noise[f"{name}/{SUB_POLICY}"]) for name in self.groups
        }

    def _params(self, name: str, obs: Observation, index: Tensor) -> Tensor:
        """Returns ``[..., N, P]`` of each agent's sub-policy ``index [..., N]``."""
        x = obs.groups[name].obs
        every = self.networks[name](x.repeat_interleave(self.size, dim=-2))[0]
        every = every.unflatten(-2, (x.shape[-2], self.size))  # [..., N, K, P]
        index = index[..., None, None].expand(*index.shape, 1, every.shape[-1])
        return every.gather(-2, index).squeeze(-2)

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        log_prob, entropy = {}, {}
        for name in self.groups:
            params = self._params(name, obs, aux[name][SUB_POLICY])
            log_prob[name], entropy[name] = self.distributions[name].evaluate(
                params, obs.groups[name].action_mask, action[name], {}
            )
        return log_prob, entropy

    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        return {name: aux[name][SUB_POLICY][-1] for name in self.groups}


def _repeat(agents: tuple[str, ...], size: int) -> tuple[str, ...]:
    return tuple(f"{agent}/{k}" for agent in agents for k in range(size))
