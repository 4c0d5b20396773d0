"""Policy ensembles: every agent has several sub-policies and plays one of them an episode (Lowe et
al. 2017, section 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from marl.errors import UserError
from marl.networks.base import Model, per_agent
from marl.policies.base import NOTHING
from marl.policies.distributions import Distribution
from marl.policies.independent import IndependentPolicy
from marl.types import ActionSpec, AgentGroup, Aux, Carry, Noise, Observation, PolicyStep

MEMBER = "member"  # in aux: the number of the sub-policy that acted, [B, N]


class EnsemblePolicy(IndependentPolicy):
    """Every agent draws one of its ``size`` sub-policies where an episode starts, and keeps it: the
    draw is the policy's memory, ``[B, N]``, which needs no beginning. Greedy play takes turns over
    the copies instead. What is drawn is told as ``aux[group]["member"]``, and losses give it back
    in ``noise["<group>/member"]``.
    """

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        model: Model,
        make: Callable[[ActionSpec], Distribution],
        size: int,
    ):
        stacked = {n: replace(g, agents=_repeated(g.agents, size)) for n, g in groups.items()}
        if getattr(model, "reads_graph", False):
            raise UserError("ensembles read no graph yet; leave algorithm.ensemble=1")
        super().__init__(stacked, per_agent(model), make)
        self.groups, self.size = dict(groups), size

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
            aux[name], members[name] = {MEMBER: member}, member
        return PolicyStep(action, log_prob, members, aux)

    def _drawn(self, name: str, group: AgentGroup, start: Tensor, noise: Noise | None) -> Tensor:
        if noise is not None:
            return (noise[f"{name}/draw"] * self.size).long()
        turns = torch.arange(len(start), device=start.device).unsqueeze(-1)
        return (turns % self.size).expand(-1, group.size)

    def numbers(self, obs: Observation, noise: Noise = NOTHING) -> dict[str, Tensor]:
        """What the sub-policies in ``noise`` give, ``[M, N, P]`` by group."""
        return {name: self._outputs(name, obs, noise[f"{name}/{MEMBER}"]) for name in self.groups}

    def _outputs(self, name: str, obs: Observation, member: Tensor) -> Tensor:
        """``[..., N, P]`` of each agent's ``member [..., N]``."""
        seen = obs.groups[name].obs
        every = self.networks[name](seen.repeat_interleave(self.size, dim=-2))[0]
        every = every.unflatten(-2, (seen.shape[-2], self.size))  # [..., N, K, P]
        index = member[..., None, None].expand(*member.shape, 1, every.shape[-1])
        return every.gather(-2, index).squeeze(-2)

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        log_prob, entropy = {}, {}
        for name in self.groups:
            params = self._outputs(name, obs, aux[name][MEMBER])
            log_prob[name], entropy[name] = self.distributions[name].evaluate(
                params, obs.groups[name].action_mask, action[name], {}
            )
        return log_prob, entropy


def _repeated(agents: tuple[str, ...], size: int) -> tuple[str, ...]:
    return tuple(f"{agent}/{k}" for agent in agents for k in range(size))
