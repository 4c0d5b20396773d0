"""The protocol of policies. Algorithms name ``Policy`` and ``DifferentiablePolicy`` only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol, cast

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

EMPTY: Mapping[str, Tensor] = {}
NO_CARRIES: Mapping[str, Carry] = {}


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


class GraphPolicy(Policy, Protocol):
    """A policy whose agents act along a graph of the team, such as a Bayesian network.

    Attributes:
        without_graph: True leaves out all edges of the graph.
    """

    without_graph: bool

    @abstractmethod
    def density(self, obs: Observation, aux: Aux) -> Tensor:
        """Computes the share of the possible edges in the graphs of some steps, ``[...]``.

        Args:
            obs: observations that the team acted on, ``[..., N, *]``.
            aux: what the policy recorded when it acted.
        """


def graph_policy(policy: Policy) -> GraphPolicy | None:
    """Returns a policy that acts along a graph (``has_graph``); None for any other policy."""
    return cast(GraphPolicy, policy) if getattr(policy, "has_graph", False) else None


class RecurrentPolicy(Policy, Protocol):
    """A policy whose memories can be computed for all steps of a sequence at once."""

    @abstractmethod
    def unroll(
        self, obs: Observation, carry: Carry, start: Tensor
    ) -> tuple[Mapping[str, Tensor], Carry]:
        """Computes distribution parameters of consecutive steps, and the memories after each.

        Args:
            obs: ``[T, B, N, *shape]`` by group.
            carry: the memories before the first step, ``[B, N, H]`` by group.
            start: ``[T, B]`` bool, True where an episode begins.

        Returns:
            By group, the parameters ``[T, B, N, P]`` and the memories ``[T, B, N, H]``.
        """

    @abstractmethod
    def step_params(
        self, obs: Observation, carry: Carry, start: Tensor
    ) -> tuple[Mapping[str, Tensor], Carry]:
        """Computes the distribution parameters of one step.

        Args:
            obs: ``[B, N, *shape]`` by group.
            carry: the memories before the step, ``[B, N, H]`` by group.
            start: ``[B]`` bool, True where an episode begins.

        Returns:
            By group, the parameters ``[B, N, P]`` and the memories after the step.
        """


def recurrent_policy(policy: Policy) -> RecurrentPolicy | None:
    """Returns a policy whose memories can be computed for sequences; None for any other policy."""
    return cast(RecurrentPolicy, policy) if hasattr(policy, "unroll") else None


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


@torch.no_grad()
def encoded_actions(
    policies: Mapping[str, Policy],
    obs: Observation,
    generator: torch.Generator,
    carry: Mapping[str, Carry] = NO_CARRIES,
) -> dict[str, Tensor]:
    """Samples encoded actions of several policies.

    Args:
        policies: the policies by team.
        obs: the observations, ``[B, N, ...]`` by group.
        generator: the generator of the noise.
        carry: the memories before the step by team, ``[B, N, H]`` by group.

    Returns:
        ``[B, N, A]`` by group, zeros for absent agents.

    Raises:
        UserError: a policy has a memory that ``carry`` lacks.
    """
    actions: dict[str, Tensor] = {}
    for name, policy in policies.items():
        memory = carry.get(name, {})
        if policy.initial_carry(1) and not memory:
            raise UserError(
                f"critic 'all' reads the actions of all teams, and the policy of team {name!r} has "
                "a memory, which it cannot use there; take critic 'team', a model with gru=0, or "
                "for both teams one with model.gru above 0 and joint.graph=none"
            )
        batch = len(obs.groups[next(iter(policy.groups))].obs)
        start = torch.full((batch,), not memory, device=generator.device)
        action = act(policy, obs, memory, start, generator, explore=True).action
        actions |= encode(policy.groups, action, obs)
    return actions


def encode(
    groups: Mapping[str, AgentGroup], action: Mapping[str, Tensor], obs: Observation
) -> dict[str, Tensor]:
    """Encodes actions as critics read them.

    Args:
        groups: the groups to encode.
        action: ``[..., N, *action shape]`` by group.
        obs: the observations in which they were taken, which tell who was absent.

    Returns:
        ``[..., N, A]`` by group, zeros for absent agents.
    """
    return {
        name: zero_absent(group.action.encode(action[name]), obs.groups[name].alive)
        for name, group in groups.items()
    }
