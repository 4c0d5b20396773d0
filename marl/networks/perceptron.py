"""Fully connected, convolutional and recurrent networks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from marl.errors import UserError, unknown
from marl.networks.base import Network
from marl.networks.encoders import Convolutions, Flat
from marl.networks.layers import ACTIVATIONS, GRU, layer_norm, linear
from marl.types import TensorSpec

SHARING = ("shared", "per_agent")


IMAGES = ("auto", "convolve", "flatten")


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
    normalize_obs: bool = False  # vectors by the mean and deviation of all observations so far
    agent_id: bool = False  # append the agent's one-hot index to its input
    images: str = "auto"  # convolve, flatten, or auto: convolve those that are large enough
    channels: list[int] = field(default_factory=lambda: [16, 32, 32])  # of each convolution
    kernels: list[int] = field(default_factory=lambda: [8, 4, 3])  # width of each, pixels
    strides: list[int] = field(default_factory=lambda: [4, 2, 1])  # of each, pixels

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.sharing not in SHARING:
            raise unknown("sharing", self.sharing, SHARING)
        if self.images not in IMAGES:
            raise unknown("images", self.images, IMAGES)
        if self.gru < 0 or any(units < 1 for units in self.hidden):
            raise UserError(
                f"model sizes must be positive, not hidden={self.hidden}, gru={self.gru}"
            )
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise UserError("model.channels, kernels and strides must be equally long")

    def encoder(self, inputs: TensorSpec, agents: int) -> Flat | Convolutions:
        """Convolutions, or one vector of all numbers."""
        return Convolutions(self, inputs, agents) if self.convolves(inputs) else Flat(inputs)

    def convolves(self, inputs: TensorSpec) -> bool:
        """Whether ``inputs`` are images that go through convolutions."""
        if not inputs.is_image or self.images == "flatten":
            return False
        return self.images == "convolve" or min(self.convolved(inputs)) > 0

    def convolved(self, inputs: TensorSpec) -> tuple[int, int]:
        """Height and width of what the convolutions leave of images; below 1 for too small ones."""
        height, width = inputs.shape[:2]
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        return height, width

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
