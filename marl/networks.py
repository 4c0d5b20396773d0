"""Networks over ``[..., N, features]``: shared by a group's agents, or one set of weights per
agent.

A network maps ``(x [T, B, N, *shape], carry [B, N, H] or None, start [T, B])`` to
``(out [T, B, N, outputs], carry)``. One without memory takes any leading axes and ignores the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from marl.errors import UserError, unknown
from marl.layers import ACTIVATIONS, GRU, layer_norm, linear
from marl.types import AgentGroup, Graph, TensorSpec

SHARING = ("shared", "per_agent")


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
    ``reads_graph`` takes ``graph`` too, and ``rows`` for some of the group's agents only."""

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
    that reads the graph where the model says so."""
    if getattr(model, "reads_graph", False):
        return model.build_for(group, outputs, gain, more)  # type: ignore[attr-defined]  # it reads
    seen = TensorSpec((group.observation.size + more,)) if more else group.observation
    return model.build(seen, outputs, group.size, gain)


def outputs(
    network: nn.Module,
    x: Tensor,
    graph: Graph | None,
    carry: Tensor | None = None,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """What ``network`` makes of ``x`` and, if it reads it, the graph."""
    if getattr(network, "reads_graph", False):
        return network(x, carry, start, graph=graph)
    return network(x, carry, start)


@dataclass
class Perceptron:
    """Fully connected layers, behind a convolutional encoder where the input is an image, before a
    GRU where ``gru`` is not 0. on-policy's recipe is layer_norm and input_norm on, gru 64."""

    hidden: list[int] = field(default_factory=lambda: [64, 64])  # units of each layer
    activation: str = "tanh"  # tanh, relu, elu, silu or gelu
    layer_norm: bool = False  # after every activation
    input_norm: bool = False  # LayerNorm over an agent's observation
    gru: int = 0  # units of the recurrent layer, 0 for none
    sharing: str = "shared"  # weights: shared, or per_agent
    agent_id: bool = False  # append the agent's one-hot index to its input
    channels: list[int] = field(default_factory=lambda: [16, 32, 32])  # of each convolution
    kernels: list[int] = field(default_factory=lambda: [8, 4, 3])  # width of each, pixels
    strides: list[int] = field(default_factory=lambda: [4, 2, 1])  # of each, pixels

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.sharing not in SHARING:
            raise unknown("sharing", self.sharing, SHARING)
        if self.gru < 0 or any(units < 1 for units in self.hidden):
            raise UserError(
                f"model sizes must be positive, not hidden={self.hidden}, gru={self.gru}"
            )
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise UserError("model.channels, kernels and strides must be equally long")

    def encoder(self, inputs: TensorSpec, agents: int) -> Flat | Convolutions:
        """Convolutions for images, the identity for vectors."""
        is_image = len(inputs.shape) == 3 and inputs.dtype == torch.uint8
        return Convolutions(self, inputs, agents) if is_image else Flat(inputs)

    def build(self, inputs: TensorSpec, outputs: int, agents: int, gain: float = 1.0) -> Network:
        return PerceptronNetwork(self, inputs, outputs, agents, gain)


class PerceptronNetwork(Network):
    def __init__(
        self, model: Perceptron, inputs: TensorSpec, outputs: int, agents: int, gain: float
    ):
        super().__init__()
        self.agent_id: Tensor | None
        stacked = agents if model.sharing == "per_agent" else None
        self.encoder = model.encoder(inputs, agents)
        size = self.encoder.features + (agents if model.agent_id else 0)
        self.register_buffer(
            "agent_id", torch.eye(agents) if model.agent_id else None, persistent=False
        )
        self.body, size = mlp(model, size, stacked)
        self.gru = GRU(size, model.gru, stacked) if model.gru else None
        self.head = linear(model.gru or size, outputs, stacked, gain)
        self.carry_size = model.gru

    def forward(
        self, x: Tensor, carry: Tensor | None = None, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        features = self.encoder(x)
        if self.agent_id is not None:
            ids = self.agent_id.expand(*features.shape[:-1], -1)
            features = torch.cat([features, ids], dim=-1)
        features = self.body(features)
        if self.gru is not None:
            features, carry = self.gru(features, carry, start)
        return self.head(features), carry


def mlp(model: Perceptron, size: int, stacked: int | None) -> tuple[nn.Sequential, int]:
    """The hidden layers, and the size of what comes out."""
    layers: list[nn.Module] = [layer_norm(size, stacked)] if model.input_norm else []
    gain = 5 / 3 if model.activation == "tanh" else math.sqrt(2)
    for units in model.hidden:
        layers += [linear(size, units, stacked, gain), ACTIVATIONS[model.activation]()]
        if model.layer_norm:
            layers.append(layer_norm(units, stacked))
        size = units
    return nn.Sequential(*layers), size


# ----------------------------------------------------------------------------------------- encoders


class Flat(nn.Module):
    """An observation of any shape as one vector."""

    def __init__(self, inputs: TensorSpec):
        super().__init__()
        self.axes, self.features = len(inputs.shape), inputs.size

    def forward(self, x: Tensor) -> Tensor:
        return x if self.axes == 1 else x.flatten(-self.axes).float()


class Convolutions(nn.Module):
    """Images ``[..., N, H, W, C]`` uint8 to features; per-agent weights are one grouped
    convolution."""

    def __init__(self, model: Perceptron, inputs: TensorSpec, agents: int):
        super().__init__()
        self.groups = agents if model.sharing == "per_agent" else 1
        sizes = [inputs.shape[-1], *model.channels]
        self.layers = nn.ModuleList(
            nn.Conv2d(self.groups * a, self.groups * b, kernel, stride, groups=self.groups)
            for a, b, kernel, stride in zip(
                sizes, sizes[1:], model.kernels, model.strides, strict=False
            )
        )
        for layer in self.layers:
            nn.init.orthogonal_(layer.weight, math.sqrt(2))  # type: ignore[arg-type]  # a Conv2d's
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.features = self._features(inputs, model)

    def _features(self, inputs: TensorSpec, model: Perceptron) -> int:
        height, width = inputs.shape[:2]
        for kernel, stride in zip(model.kernels, model.strides, strict=True):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        if height < 1 or width < 1:
            raise UserError(
                f"images of {inputs.shape[0]}x{inputs.shape[1]} pixels are too small for "
                f"model.kernels={model.kernels}, strides={model.strides}; take smaller ones"
            )
        return height * width * model.channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[:-3]
        images = x.movedim(-1, -3).reshape(-1, self.groups * x.shape[-1], *x.shape[-3:-1])
        images = images.float() / 255
        for layer in self.layers:
            images = torch.relu(layer(images))
        return images.reshape(*batch, self.features)
