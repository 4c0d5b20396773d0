"""The protocol of policies. Algorithms name ``Policy`` and ``DifferentiablePolicy`` only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from marl.networks.by_group import ByGroup
from marl.types import (
    AgentGroup,
    Aux,
    Carry,
    Noise,
    Observation,
    PolicyStep,
)

EMPTY: Mapping[str, Tensor] = {}


class Policy(Protocol):
    """The policy of a whole team. Arguments and results are mappings by group.

    Attributes:
        groups: the groups of the team, by name.
        aux_keys: names of the entries of ``aux`` that a replay stores with every step. A
            ``DifferentiablePolicy`` gets them back in ``noise``, under ``<group>/<name>``.
        has_graph: True if the agents act along a graph; the policy is then a ``GraphPolicy``.
    """

    groups: Mapping[str, AgentGroup]
    aux_keys: tuple[str, ...] = ()
    has_graph: bool = False

    @abstractmethod
    def initial_carry(self, num_envs: int) -> Carry:
        """Returns memories of zeros.

        Args:
            num_envs: B, the number of environments.

        Returns:
            ``[B, N, H]`` by group; empty for a policy without memory.
        """

    @abstractmethod
    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        """Draws the random numbers that decide the actions of one step.

        They are drawn outside ``act``, so that ``act`` is a function of its arguments, which can be
        compiled and captured.

        Args:
            num_envs: B, the number of environments.
            generator: the generator to draw from, on the device of the result.

        Returns:
            ``[B, N, ...]`` by group; a policy may add entries under other names.
        """

    @abstractmethod
    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        """Chooses the actions of one step.

        Args:
            obs: the observations of at least the team's groups, ``[B, N, ...]`` each.
            carry: the memories before the step, ``[B, N, H]`` by group; those of other teams are
                ignored.
            start: ``[B]`` bool, True where the step is the first of an episode; memories are set to
                zero there.
            noise: what ``noise`` drew; None for greedy actions.

        Returns:
            Actions and log-probabilities of the team's groups, the memories after the step, and
            what ``evaluate`` needs beside them.
        """

    @abstractmethod
    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Computes log-probabilities and entropies of actions that were taken, with gradient.

        A policy without memory takes any leading axes in place of ``[T, B]``.

        Args:
            obs: ``[T, B, N, ...]`` by group, what the agents acted on.
            action: ``[T, B, N, *action shape]`` by group.
            carry: the memories before the first step, ``[B, N, H]`` by group.
            start: ``[T, B]`` bool, True where an episode begins.
            aux: what ``act`` returned, with the leading axes ``[T, B]``.

        Returns:
            Log-probabilities and entropies, ``[T, B, N]`` by group.
        """

    @abstractmethod
    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        """Computes the memories after steps in which the given actions were taken.

        Args:
            obs: ``[T, B, N, ...]`` by group, what the agents acted on.
            action: ``[T, B, N, *action shape]`` by group.
            carry: the memories before the first step, ``[B, N, H]`` by group.
            start: ``[T, B]`` bool, True where an episode begins.
            aux: what ``act`` returned, with the leading axes ``[T, B]``.

        Returns:
            ``[B, N, H]`` by group; empty for a policy without memory.
        """


class DifferentiablePolicy(nn.Module, Policy):
    """A policy with weights, whose actions losses differentiate.

    Both methods are for one step without memory. A policy with memory is a ``RecurrentPolicy`` too,
    whose parameters ``rsample`` takes.
    """

    @abstractmethod
    def distribution_params(self, obs: Observation, noise: Noise = EMPTY) -> dict[str, Tensor]:
        """Computes the parameters of the action distributions.

        Args:
            obs: ``[..., N, *shape]`` by group.
            noise: what ``noise`` drew, for policies whose parameters depend on it.

        Returns:
            ``[..., N, P]`` by group; ``Distribution.parameters`` is P.
        """

    @abstractmethod
    def rsample(
        self, obs: Observation, noise: Noise, params: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Samples encoded actions, with gradient (see ``Distribution.rsample``).

        Args:
            obs: ``[..., N, *shape]`` by group.
            noise: what ``noise`` drew; groups that it lacks act greedily.
            params: what ``distribution_params`` returned for ``obs`` and ``noise``; None to compute
                it.

        Returns:
            Encoded actions ``[..., N, A]`` and their log-probabilities ``[..., N]`` by group, both
            0 for absent agents.
        """


def initial_carry(networks: ByGroup, groups: Mapping[str, AgentGroup], num_envs: int) -> Carry:
    """Returns memories of zeros for the networks that have one.

    Args:
        networks: a ``Network`` per group.
        groups: the groups.
        num_envs: B, the number of environments.

    Returns:
        ``[B, N, H]`` by group.
    """
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
    """Chooses a policy's actions of one step, without gradient.

    Args:
        policy: the policy.
        obs: the observations, ``[B, N, ...]`` by group.
        carry: the memories before the step, ``[B, N, H]`` by group.
        start: ``[B]`` bool, True where the step is the first of an episode.
        generator: the generator of the noise.
        explore: True to sample actions, False for greedy ones.
    """
    noise = policy.noise(start.shape[0], generator) if explore else None
    return policy.act(obs, carry, start, noise)
