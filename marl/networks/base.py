"""Networks over ``[..., N, features]``: shared by a group's agents, or one set of weights per
agent.

A network maps ``(x [T, B, N, *shape], carry [B, N, H] or None, start [T, B])`` to
``(out [T, B, N, outputs], carry)``. One without memory takes any leading axes and ignores the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor, nn

from marl.errors import UserError
from marl.networks.encoders import Convolutions, Flat
from marl.networks.observation_norm import ObservationNorm
from marl.types import AgentGroup, EntityGraph, TensorSpec


class Model(Protocol):
    """Hyperparameters that build networks; a dataclass. Your own class can stand in its place.
    Only central critics over images ask for ``encoder``, of one group's images."""

    def encoder(self, inputs: TensorSpec, agents: int) -> Flat | Convolutions: ...

    def build(
        self, inputs: TensorSpec, outputs: int, agents: int, gain: float = 1.0
    ) -> Network: ...


def per_agent(model: Model) -> Model:
    """``model`` with weights of every agent's own, where it has a word for it."""
    return replace(model, sharing="per_agent") if hasattr(model, "sharing") else model  # type: ignore[type-var]  # a dataclass


class Network(nn.Module):
    """The base of what a model builds; ``carry_size`` is H, 0 without memory. One that
    ``reads_graph`` takes ``graph`` too, and ``rows`` for some of the group's agents only.
    ``head`` is the linear layer (``weight``, ``bias``) that gives the outputs; only critics of
    normalised values need one."""

    carry_size = 0
    reads_graph = False

    def forward(
        self, x: Tensor, carry: Tensor | None = None, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError


def build_for(
    model: Model, group: AgentGroup, outputs: int, gain: float = 1.0, more: int = 0
) -> Network:
    """A network for the agents of ``group``, with ``more`` features behind their observations; one
    that reads the graph, or normalises observations, where the model says so."""
    if getattr(model, "normalize_obs", False):
        return NormalizedNetwork(model, group, outputs, gain, more)
    if getattr(model, "reads_graph", False):
        return model.build_for(group, outputs, gain, more)  # type: ignore[attr-defined]  # it reads
    seen = TensorSpec((group.observation.size + more,)) if more else group.observation
    return model.build(seen, outputs, group.size, gain)


class NormalizedNetwork(Network):
    """A network of any model behind the running normalisation of its group's observations."""

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
        return getattr(self.network, "head", None)

    def forward(
        self, x: Tensor, carry: Tensor | None = None, start: Tensor | None = None, **graph: Any
    ) -> tuple[Tensor, Tensor | None]:
        return self.network(self.norm(x), carry, start, **graph)


def observation_norm(group: AgentGroup) -> ObservationNorm:
    """Raises UserError for images."""
    if group.observation.is_image:
        raise UserError(
            f"normalize_obs=true is for vectors, and {group.name!r} observes images, which are "
            "scaled by their bounds; leave it false"
        )
    return ObservationNorm(group.observation, group.name)


def normalized(network: nn.Module, x: Tensor) -> Tensor:
    """Observations as ``network`` reads them."""
    return network.norm(x) if isinstance(network, NormalizedNetwork) else x


def outputs(
    network: nn.Module,
    x: Tensor,
    graph: EntityGraph | None,
    carry: Tensor | None = None,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """What ``network`` makes of ``x`` and, if it reads it, the graph."""
    if getattr(network, "reads_graph", False):
        return network(x, carry, start, graph=graph)
    return network(x, carry, start)
