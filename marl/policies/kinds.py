"""Policies that can more than act: along a graph of the team, or over whole sequences at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol, cast

from torch import Tensor

from marl.policies.base import Policy
from marl.types import Aux, Carry, Observation


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
