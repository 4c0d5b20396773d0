"""Decentralized policies: each agent from its own observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from marl.distributions import Distribution, distribution
from marl.errors import UserError
from marl.networks import Model, StackedLinear
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


class Policy(Protocol):
    """The policy of a whole team: mappings by group go in and come out."""

    @property
    def groups(self) -> Mapping[str, AgentGroup]: ...

    def initial_carry(self, num_envs: int) -> Carry:
        """Zero memories, ``[B, N, H]``; empty without memory."""
        ...

    def noise(self, num_envs: int, generator: torch.Generator) -> Noise: ...

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        """One step over ``[B, N]``; the greedy action where ``noise`` is None."""
        ...

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Log-probabilities and entropies by group, ``[T, B, N]`` (any leading axes without
        memory)."""
        ...


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
                name: model.build(
                    group.observation, self.distributions[name].parameters, group.size, gain=0.01
                )
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
            params, memory = self.networks[name](
                seen.obs.unsqueeze(0), carry.get(name), start.unsqueeze(0)
            )
            action[name], log_prob[name], aux[name] = self.distributions[name].sample(
                params.squeeze(0), seen.action_mask, None if noise is None else noise[name]
            )
            if memory is not None:
                new_carry[name] = memory
        return PolicyStep(action, log_prob, new_carry, aux)

    def numbers(self, obs: Observation) -> dict[str, Tensor]:
        """What the networks give, ``[..., N, P]`` by group. Without memory."""
        return {name: self.networks[name](obs.groups[name].obs)[0] for name in self.groups}

    def sample(
        self, obs: Observation, noise: Noise | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Actions as critics read them, ``[..., N, A]``, with gradient, and their
        log-probabilities ``[..., N]``; the greedy ones where ``noise`` is None. Without memory."""
        action, log_prob = {}, {}
        for name, numbers in self.numbers(obs).items():
            mask, drawn = obs.groups[name].action_mask, None if noise is None else noise[name]
            found = self.distributions[name].encoded(numbers, mask, drawn)
            action[name], log_prob[name] = found
        return action, log_prob

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        log_prob, entropy = {}, {}
        for name in self.groups:
            seen = obs.groups[name]
            params, _ = self.networks[name](seen.obs, carry.get(name), start)
            log_prob[name], entropy[name] = self.distributions[name].evaluate(
                params, seen.action_mask, action[name], aux[name]
            )
        return log_prob, entropy


class Member:
    """One agent of an IndependentPolicy whose agents have weights of their own, to be moved alone.

    Its parameters are its rows of the stacked ones: leaves that share their memory, so that a step
    of theirs is seen by the whole policy and nobody else's weights move. Everything is ``[..., 1,
    *]``, an axis N of one agent.

    Raises:
        UserError: weights that agents share, or that are not stacked agent by agent (images).
    """

    def __init__(self, policy: IndependentPolicy, group: str, row: int):
        self.group, self.rows = group, slice(row, row + 1)
        self.distribution = policy.distributions[group]
        self.network = policy.networks[group]
        size = policy.groups[group].size
        self.axis = -1 - len(policy.groups[group].observation.shape)  # N, in observations
        named = dict(self.network.named_parameters())
        if any(value.shape[0] != size for value in named.values()) or not own_weights(self.network):
            raise UserError(
                f"agents of {group!r} cannot be updated one after the other: each needs weights of "
                "its own (model.sharing=per_agent), and images are not supported"
            )
        self.weights = {k: v.detach()[self.rows].requires_grad_() for k, v in named.items()}
        self.constants = {k: v[self.rows] for k, v in self.network.named_buffers()}

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.weights.values())

    def sample(self, obs: Observation, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """As IndependentPolicy's, of this agent."""
        seen = obs.groups[self.group]
        mask = None if seen.action_mask is None else seen.action_mask[..., self.rows, :]
        drawn = None if noise is None else noise[self.group][..., self.rows, :]
        return self.distribution.encoded(self.numbers(obs), mask, drawn)

    def numbers(self, obs: Observation) -> Tensor:
        """As IndependentPolicy's, of this agent, ``[..., 1, P]``."""
        x = obs.groups[self.group].obs.narrow(self.axis, self.rows.start, 1)
        return self._params(x, None, None)

    def own(
        self, obs: Observation, action: Mapping[str, Tensor], aux: Aux
    ) -> tuple[Observation, Mapping[str, Tensor], Aux]:
        """What of a rollout ``[T, B, N, ...]`` is the agent's, ``[T, B, 1, ...]``: no copies."""
        parts = (obs.groups[self.group], action[self.group], aux[self.group])
        seen, played, drawn = tree_map(lambda x: x[:, :, self.rows], parts)
        name = self.group
        return Observation({name: seen}, None, None), {name: played}, {name: drawn}

    def own_carry(self, carry: Carry) -> Carry:
        """Its memories, ``[B, N, H]`` to ``[B, 1, H]``."""
        return {n: memory[:, self.rows] for n, memory in carry.items() if n == self.group}

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Tensor, Tensor]:
        """As IndependentPolicy's, of what is its ``own``: ``[..., 1]`` both."""
        seen = obs.groups[self.group]
        params = self._params(seen.obs, carry.get(self.group), start)
        return self.distribution.evaluate(
            params, seen.action_mask, action[self.group], aux[self.group]
        )

    def _params(self, x: Tensor, memory: Tensor | None, start: Tensor | None) -> Tensor:
        state = {**self.weights, **self.constants}
        return functional_call(self.network, state, (x, memory, start))[0]


def own_weights(network: nn.Module) -> bool:
    """Whether every agent has weights of its own."""
    return any(isinstance(layer, StackedLinear) for layer in network.modules())


def members(policy: IndependentPolicy) -> list[Member]:
    """All agents, in the order of the groups."""
    return [
        Member(policy, name, row)
        for name, group in policy.groups.items()
        for row in range(group.size)
    ]


def initial_carry(
    networks: nn.ModuleDict, groups: Mapping[str, AgentGroup], num_envs: int
) -> Carry:
    """Zero memories of the networks that have one."""
    device = next(networks.parameters()).device
    return {
        name: torch.zeros(num_envs, group.size, networks[name].carry_size, device=device)  # type: ignore[arg-type]  # Network
        for name, group in groups.items()
        if networks[name].carry_size
    }


@torch.no_grad()
def act(
    policy: Policy,
    obs: Observation,
    carry: Carry,
    start: Tensor,
    generator: torch.Generator,
    explore: bool,
) -> PolicyStep:
    """One step of ``policy`` without gradient, greedy unless it explores."""
    noise = policy.noise(start.shape[0], generator) if explore else None
    return policy.act(obs, carry, start, noise)
