"""Policy ensembles: every agent has several sub-policies and plays one of them an episode (Lowe et
al. 2017, section 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from marl.errors import UserError
from marl.networks.base import Model, Network, build_for, per_agent
from marl.policies.base import NOTHING
from marl.policies.distributions import Distribution
from marl.policies.network import NetworkPolicy
from marl.types import ActionSpec, AgentGroup, Aux, Carry, Noise, Observation, PolicyStep

SUB_POLICY = "member"  # in aux: the number of the sub-policy that acted, [B, N]


class EnsemblePolicy(NetworkPolicy):
    """Every agent draws one of its ``size`` sub-policies where an episode starts, and keeps it: the
    draw is the policy's memory, ``[B, N]``, which needs no beginning. Greedy play takes turns over
    the copies instead. The number that was drawn stands in ``aux[group]["member"]``, and losses
    give it back in ``noise["<group>/member"]``.
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
            raise UserError("ensembles read no graph yet; leave algorithm.ensemble=1")

        def build(group: AgentGroup, outputs: int) -> Network:
            stacked = replace(group, agents=_repeated(group.agents, size))
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
        action, log_prob, aux, members = {}, {}, {}, {}
        for name, group in self.groups.items():
            member = self._drawn(name, group, start, noise)
            if name in carry:
                member = torch.where(start.unsqueeze(-1), member, carry[name])
            params = self._outputs(name, obs, member)
            action[name], log_prob[name], _ = self.distributions[name].sample(
                params, obs.groups[name].action_mask, None if noise is None else noise[name]
            )
            aux[name], members[name] = {SUB_POLICY: member}, member
        return PolicyStep(action, log_prob, members, aux)

    def _drawn(self, name: str, group: AgentGroup, start: Tensor, noise: Noise | None) -> Tensor:
        if noise is not None:
            return (noise[f"{name}/draw"] * self.size).long()
        turns = torch.arange(len(start), device=start.device).unsqueeze(-1)
        return (turns % self.size).expand(-1, group.size)

    def distribution_params(self, obs: Observation, noise: Noise = NOTHING) -> dict[str, Tensor]:
        """See ``DifferentiablePolicy``; of the sub-policies that ``noise`` names."""
        return {
            name: self._outputs(name, obs, noise[f"{name}/{SUB_POLICY}"]) for name in self.groups
        }

    def _outputs(self, name: str, obs: Observation, member: Tensor) -> Tensor:
        """``[..., N, P]`` of each agent's ``member [..., N]``."""
        own = obs.groups[name].obs
        every = self.networks[name](own.repeat_interleave(self.size, dim=-2))[0]
        every = every.unflatten(-2, (own.shape[-2], self.size))  # [..., N, K, P]
        index = member[..., None, None].expand(*member.shape, 1, every.shape[-1])
        return every.gather(-2, index).squeeze(-2)

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        log_prob, entropy = {}, {}
        for name in self.groups:
            params = self._outputs(name, obs, aux[name][SUB_POLICY])
            log_prob[name], entropy[name] = self.distributions[name].evaluate(
                params, obs.groups[name].action_mask, action[name], {}
            )
        return log_prob, entropy

    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        """The sub-policies that acted last, ``[B, N]`` by group."""
        return {name: aux[name][SUB_POLICY][-1] for name in self.groups}


def _repeated(agents: tuple[str, ...], size: int) -> tuple[str, ...]:
    return tuple(f"{agent}/{k}" for agent in agents for k in range(size))
