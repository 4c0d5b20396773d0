"""Fully connected, convolutional and recurrent networks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

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
    """Fully connected layers, after convolutions if the input is an image, before an optional GRU.

    The recipe of on-policy (Yu et al. 2022) is ``layer_norm`` and ``input_norm`` on and ``gru`` 64.
    """

    #: Units of each hidden layer. Usual: two layers of 64 to 256.
    hidden: list[int] = field(default_factory=lambda: [64, 64])
    #: Activation function: ``tanh``, ``relu``, ``elu``, ``silu`` or ``gelu``.
    activation: str = "tanh"
    #: Adds a LayerNorm after every activation.
    layer_norm: bool = False
    #: Adds a LayerNorm over each agent's observation, before the first layer.
    input_norm: bool = False
    #: Units of the recurrent layer after the hidden layers; 0 for none. Usual 64 to 128.
    gru: int = 0
    #: Weights of a group's agents: ``shared`` by all of them, or ``per_agent``.
    sharing: str = "shared"
    #: Normalises observations by the mean and standard deviation of all observations so far; only
    #: for vectors.
    normalize_obs: bool = False
    #: Appends the agent's one-hot index to its input, which tells agents with shared weights apart.
    agent_id: bool = False
    #: Treatment of images: ``convolve``, ``flatten``, or ``auto``, which convolves those that are
    #: large enough for ``kernels`` and ``strides``.
    images: str = "auto"
    #: Output channels of each convolution, as many as ``kernels`` and ``strides``.
    channels: list[int] = field(default_factory=lambda: [16, 32, 32])
    #: Width of each convolution's square kernel, in pixels.
    kernels: list[int] = field(default_factory=lambda: [8, 4, 3])
    #: Stride of each convolution, in pixels.
    strides: list[int] = field(default_factory=lambda: [4, 2, 1])

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.sharing not in SHARING:
            raise unknown("sharing", self.sharing, SHARING)
        if self.images not in IMAGES:
            raise unknown("images", self.images, IMAGES)
        if self.gru < 0 or any(units < 1 for units in self.hidden):
            raise UserError(
                f"hidden={self.hidden} must hold positive numbers, and gru={self.gru} must be at "
                "least 0"
            )
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise UserError(
                f"channels={self.channels}, kernels={self.kernels} and strides={self.strides} must "
                "have the same length: one number per convolution"
            )

    def encoder(self, inputs: TensorSpec, agents: int) -> Flat | Convolutions:
        """Builds convolutions, or what flattens an observation to one vector.

        Args:
            inputs: one agent's observation.
            agents: N, the number of agents.
        """
        return Convolutions(self, inputs, agents) if self.convolves(inputs) else Flat(inputs)

    def convolves(self, inputs: TensorSpec) -> bool:
        """Returns whether observations of this specification go through convolutions."""
        if not inputs.is_image or self.images == "flatten":
            return False
        return self.images == "convolve" or min(self.convolved(inputs)) > 0

    def convolved(self, inputs: TensorSpec) -> tuple[int, int]:
        """Returns height and width of images after the convolutions; below 1 for too small ones."""
        height, width = inputs.shape[:2]
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        return height, width

    def build(self, inputs: TensorSpec, outputs: int, agents: int, gain: float = 1.0) -> Network:
        return PerceptronNetwork(self, inputs, outputs, agents, gain)


class PerceptronNetwork(Network):
    """The network of a ``Perceptron``.

    Args:
        model: its hyperparameters.
        inputs: one agent's input.
        outputs: length of the last axis of the output.
        agents: N, the number of agents.
        gain: of the orthogonal initialisation of the last layer.
    """

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
        out, memories = self.unroll(x, carry, start)
        return out, carry if memories is None else memories[-1]

    def unroll(
        self, x: Tensor, carry: Tensor | None, start: Tensor | None, **graph: Any
    ) -> tuple[Tensor, Tensor | None]:
        features, memories = self.encoder(x), None
        if self.agent_id is not None:
            ids = self.agent_id.expand(*features.shape[:-1], -1)
            features = torch.cat([features, ids], dim=-1)
        features = self.body(features)
        if self.gru is not None:
            features, memories = self.gru(features, carry, start)
        return self.head(features), memories


def mlp(model: Perceptron, size: int, stacked: int | None) -> tuple[nn.Sequential, int]:
    """Builds the hidden layers of a ``Perceptron``.

    Args:
        model: its hyperparameters.
        size: number of input features.
        stacked: number of agents that get weights of their own; None for shared weights.

    Returns:
        The layers, and the number of their output features.
    """
    layers: list[nn.Module] = [layer_norm(size, stacked)] if model.input_norm else []
    gain = 5 / 3 if model.activation == "tanh" else math.sqrt(2)
    for units in model.hidden:
        layers += [linear(size, units, stacked, gain), ACTIVATIONS[model.activation]()]
        if model.layer_norm:
            layers.append(layer_norm(units, stacked))
        size = units
    return nn.Sequential(*layers), size
