"""What a policy of a whole team is, and how one acts. Algorithms name these two only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.networks.by_group import ByGroup
from marl.types import (
    AgentGroup,
    Aux,
    Carry,
    Noise,
    Observation,
    PolicyStep,
    zero_absent,
)

NOTHING: Noise = {}


class Policy(Protocol):
    """The policy of a whole team: mappings by group go in and come out.

    Attributes:
        groups: the team's, by name.
        aux_keys: names of the entries of ``aux`` that a replay stores with every step; a
            ``DifferentiablePolicy`` gets them back in ``noise``, under ``<group>/<name>``.
    """

    groups: Mapping[str, AgentGroup]
    aux_keys: tuple[str, ...] = ()

    @abstractmethod
    def initial_carry(self, num_envs: int) -> Carry:
        """Zero memories, ``[B, N, H]``; empty without memory."""

    @abstractmethod
    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        """The random numbers behind one step of ``num_envs`` environments."""

    @abstractmethod
    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        """One step over ``[B, N]``; the greedy action where ``noise`` is None."""

    @abstractmethod
    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Log-probabilities and entropies by group, ``[T, B, N]`` (any leading axes without
        memory), of actions that were taken with ``aux``."""

    @abstractmethod
    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        """The memories after steps ``[T, B]`` in which these actions were taken; empty without
        memory."""


class DifferentiablePolicy(nn.Module, Policy):
    """A policy with weights, through whose actions losses differentiate, each step by itself and
    without memory."""

    @abstractmethod
    def distribution_params(self, obs: Observation, noise: Noise = NOTHING) -> dict[str, Tensor]:
        """The parameters of the action distributions, ``[..., N, P]`` by group."""

    @abstractmethod
    def rsample(
        self, obs: Observation, noise: Noise, params: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Samples actions as critics read them, ``[..., N, A]`` by group, with gradient.

        Args:
            noise: as ``noise`` gives it; groups that it lacks are greedy.
            params: what ``distribution_params`` gave of ``obs`` and ``noise``, if it was asked.

        Returns:
            The actions and their log-probabilities ``[..., N]``, both 0 of absent agents.
        """


def initial_carry(networks: ByGroup, groups: Mapping[str, AgentGroup], num_envs: int) -> Carry:
    """Zero memories of the networks that have one, ``[B, N, H]`` by group."""
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


@torch.no_grad()
def encoded_actions(
    policies: Mapping[str, Policy], obs: Observation, generator: torch.Generator
) -> dict[str, Tensor]:
    """What all of these (by team) do in ``obs``, as critics read it, zeros of the absent, by group.

    Raises:
        UserError: a policy with memory.
    """
    actions: dict[str, Tensor] = {}
    for name, policy in policies.items():
        if policy.initial_carry(1):
            raise UserError(f"critic 'all' cannot ask team {name!r} what it does: it has a memory")
        batch = len(obs.groups[next(iter(policy.groups))].obs)
        start = torch.ones(batch, dtype=torch.bool, device=generator.device)
        action = act(policy, obs, {}, start, generator, explore=True).action
        actions |= encode(policy.groups, action, obs)
    return actions


def encode(
    groups: Mapping[str, AgentGroup], action: Mapping[str, Tensor], obs: Observation
) -> dict[str, Tensor]:
    """Actions taken in ``obs`` as critics read them, ``[..., N, A]`` by group: zeros of absent
    agents, whatever was stored for them."""
    return {
        name: zero_absent(group.action.encode(action[name]), obs.groups[name].alive)
        for name, group in groups.items()
    }
