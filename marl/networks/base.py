"""The protocol of models and the base class of networks.

A network maps ``(x [T, B, N, *shape], carry [B, N, H] or None, start [T, B])`` to
``(out [T, B, N, outputs], carry)``, with weights that are shared by a group's agents or one set per
agent. A network without memory takes any leading axes and ignores ``carry`` and ``start``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.networks.encoders import Convolutions, Flat
from marl.networks.observation_norm import ObservationNorm
from marl.types import AgentGroup, EntityGraph, TensorSpec, tree_map


class Model(Protocol):
    """Hyperparameters of networks: a dataclass that builds them. It may be a user's own class."""

    def encoder(self, inputs: TensorSpec, agents: int) -> Flat | Convolutions:
        """Builds the encoder of one group's images; only central critics over images ask for it.

        Args:
            inputs: one agent's observation.
            agents: N, the number of agents.
        """
        ...

    def build(self, inputs: TensorSpec, outputs: int, agents: int, gain: float = 1.0) -> Network:
        """Builds a network.

        Args:
            inputs: one agent's input.
            outputs: length of the last axis of the output.
            agents: N, the number of agents.
            gain: of the orthogonal initialisation of the last layer.
        """
        ...


def per_agent(model: Model) -> Model:
    """Returns ``model`` with one set of weights per agent, if it has a field ``sharing``."""
    return replace(model, sharing="per_agent") if hasattr(model, "sharing") else model  # type: ignore[type-var]  # a dataclass


class Network(nn.Module):
    """Base class of what a model builds.

    A network may have ``head``, the linear layer (``weight``, ``bias``) that gives its outputs.
    Only critics of normalised values require one.

    Attributes:
        carry_size: H, the length of an agent's memory; 0 without memory.
        reads_graph: True if ``forward`` also takes ``graph``, and ``rows`` for some of the agents.
    """

    carry_size = 0
    reads_graph = False

    def forward(
        self, x: Tensor, carry: Tensor | None = None, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Computes the outputs of all agents.

        Args:
            x: ``[T, B, N, *shape]``.
            carry: memories before the first step, ``[B, N, H]``; None without memory.
            start: ``[T, B]`` bool, True where an episode begins; None without memory.

        Returns:
            The outputs ``[T, B, N, outputs]``, and the memories after the last step or None.
        """
        raise NotImplementedError

    def unroll(
        self, x: Tensor, carry: Tensor | None, start: Tensor | None, **graph: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Computes the outputs of all agents, and their memories after each step.

        Args:
            x: ``[T, B, N, *shape]``.
            carry: memories before the first step, ``[B, N, H]``; None without memory.
            start: ``[T, B]`` bool, True where an episode begins; None without memory.
            graph: what ``forward`` takes beside them.

        Returns:
            The outputs ``[T, B, N, outputs]``, and the memories after each step
            ``[T, B, N, H]``; None without memory.
        """
        if not self.carry_size:
            return self(x, carry, start, **graph)[0], None
        assert carry is not None and start is not None, "a recurrent network needs carry and start"
        outputs, memories = [], []
        for t in range(len(x)):
            at_t = tree_map(lambda value, t=t: value[t : t + 1], (x, start, graph))
            out, carry = self(at_t[0], carry, at_t[1], **at_t[2])
            outputs.append(out)
            memories.append(carry)
        return torch.cat(outputs), torch.stack(memories)


def build_for(
    model: Model, group: AgentGroup, outputs: int, gain: float = 1.0, more: int = 0
) -> Network:
    """Builds a network for the agents of a group.

    It reads the graph, or normalises observations, if the model says so.

    Args:
        model: hyperparameters of the network.
        group: the agents and their observations.
        outputs: length of the last axis of the output.
        gain: of the orthogonal initialisation of the last layer.
        more: number of features that are appended to each observation.

    Raises:
        UserError: the model cannot read these observations, or requires a graph that does not
            exist.
    """
    if getattr(model, "normalize_obs", False):
        return NormalizedNetwork(model, group, outputs, gain, more)
    if getattr(model, "reads_graph", False):
        return model.build_for(group, outputs, gain, more)  # type: ignore[attr-defined]  # it reads
    spec = TensorSpec((group.observation.size + more,)) if more else group.observation
    return model.build(spec, outputs, group.size, gain)


class NormalizedNetwork(Network):
    """A network of any model after running normalisation of its group's observations.

    Args:
        model: hyperparameters of the network.
        group: the agents and their observations.
        outputs: length of the last axis of the output.
        gain: of the orthogonal initialisation of the last layer.
        more: number of features that are appended to each observation, and not normalised.
    """

    def __init__(self, model: Model, group: AgentGroup, outputs: int, gain: float, more: int):
        super().__init__()
        self.norm = observation_norm(group)
        flat = replace(group, observation=TensorSpec((group.observation.size,)))
        plain = replace(model, normalize_obs=False)  # type: ignore[type-var]  # a dataclass
        self.network = build_for(plain, flat, outputs, gain, more)
        self.carry_size = self.network.carry_size
        self.reads_graph = self.network.reads_graph

    @property
    def head(self) -> nn.Module | None:
        """The linear layer that gives the outputs; None if the network does not name it."""
        return getattr(self.network, "head", None)

    def forward(
        self, x: Tensor, carry: Tensor | None = None, start: Tensor | None = None, **graph: Any
    ) -> tuple[Tensor, Tensor | None]:
        return self.network(self.norm(x), carry, start, **graph)

    def unroll(
        self, x: Tensor, carry: Tensor | None, start: Tensor | None, **graph: Any
    ) -> tuple[Tensor, Tensor | None]:
        return self.network.unroll(self.norm(x), carry, start, **graph)


def observation_norm(group: AgentGroup) -> ObservationNorm:
    """Builds the running normalisation of a group's observations.

    Raises:
        UserError: the group observes images.
    """
    if group.observation.is_image:
        raise UserError(
            f"normalize_obs=true is only for vectors, and {group.name!r} observes images, which "
            "are scaled by their bounds; leave normalize_obs=false"
        )
    return ObservationNorm(group.observation, group.name)


def network_input(network: nn.Module, x: Tensor) -> Tensor:
    """Returns observations as the layers of a network read them.

    Args:
        network: a ``Network``.
        x: ``[..., N, *shape]``.
    """
    return network.norm(x) if isinstance(network, NormalizedNetwork) else x


def apply_network(
    network: nn.Module,
    x: Tensor,
    graph: EntityGraph | None,
    carry: Tensor | None = None,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Computes a network's outputs, with the graph if the network reads it.

    Args:
        network: a ``Network``.
        x: ``[T, B, N, *shape]``, or any leading axes for networks without memory.
        graph: ``Observation.graph`` with the same leading axes.
        carry: memories before the first step, ``[B, N, H]``.
        start: ``[T, B]`` bool, True where an episode begins.

    Returns:
        The outputs ``[T, B, N, outputs]``, and the memories after the last step or None.
    """
    if getattr(network, "reads_graph", False):
        return network(x, carry, start, graph=graph)
    return network(x, carry, start)


def unroll_network(
    network: nn.Module,
    x: Tensor,
    graph: EntityGraph | None,
    carry: Tensor | None,
    start: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Computes a network's outputs and its memories after each step (``Network.unroll``).

    Arguments are those of ``apply_network``.
    """
    assert isinstance(network, Network)
    if network.reads_graph:
        return network.unroll(x, carry, start, graph=graph)
    return network.unroll(x, carry, start)
