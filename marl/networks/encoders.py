"""Encoders, which turn observations of any shape into one vector of features per agent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.types import AgentGroup, TensorSpec

if TYPE_CHECKING:
    from marl.networks.perceptron import Perceptron

#: Size of an observation from which a run reports that the observation is flattened.
LARGE = 1024


class Flat(nn.Module):
    """Encoder of an observation of any shape as one vector; images are scaled to 0..1.

    Args:
        inputs: one agent's observation.
    """

    def __init__(self, inputs: TensorSpec):
        super().__init__()
        self.axes, self.features = len(inputs.shape), inputs.size
        self.scaling = Scaling(inputs) if inputs.is_image else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``x [..., *shape]`` as ``[..., features]``."""
        if self.axes == 1:
            return x
        return (x.float() if self.scaling is None else self.scaling(x)).flatten(-self.axes)


class Scaling(nn.Module):
    """Scaling of images from their bounds to 0..1, as floats; infinite bounds change nothing.

    Args:
        inputs: one agent's image.
        times: how many times the channels follow each other in their axis.
        after: number of axes that follow the axis of channels; 0 if it is the last one.
    """

    def __init__(self, inputs: TensorSpec, times: int = 1, after: int = 0):
        super().__init__()
        finite = all(map(math.isfinite, (*inputs.low, *inputs.high)))
        pairs = list(zip(inputs.low, inputs.high, strict=True)) if finite else [(0.0, 1.0)]
        low, span = [low for low, _ in pairs], [high - low or 1.0 for low, high in pairs]
        self.low: Tensor | None
        self.span: Tensor | None
        for name, values, neutral in (("low", low, 0.0), ("span", span, 1.0)):
            buffer = torch.tensor(values).repeat(times).reshape(-1, *[1] * after)
            needed = any(value != neutral for value in values)
            self.register_buffer(name, buffer if needed else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        x = x if self.low is None else x - self.low
        return x if self.span is None else x / self.span


class Convolutions(nn.Module):
    """Encoder of images ``[..., N, H, W, C]`` as ``[..., N, features]``.

    Weights per agent are one grouped convolution.

    Args:
        model: the convolutions' ``channels``, ``kernels`` and ``strides``, and ``sharing``.
        inputs: one agent's image.
        agents: N, the number of agents.

    Raises:
        UserError: the images are too small for the convolutions.
    """

    def __init__(self, model: Perceptron, inputs: TensorSpec, agents: int):
        super().__init__()
        self.groups = agents if model.sharing == "per_agent" else 1
        sizes = [inputs.shape[-1], *model.channels]
        self.scaling = Scaling(inputs, self.groups, after=2)
        self.layers = nn.ModuleList(
            nn.Conv2d(self.groups * a, self.groups * b, kernel, stride, groups=self.groups)
            for a, b, kernel, stride in zip(
                sizes, sizes[1:], model.kernels, model.strides, strict=False
            )
        )
        for layer in self.layers:
            nn.init.orthogonal_(layer.weight, math.sqrt(2))  # type: ignore[arg-type]  # a Conv2d's
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        height, width = model.convolved(inputs)
        if height < 1 or width < 1:
            raise UserError(
                f"images of {inputs.shape[0]}x{inputs.shape[1]} pixels are too small for "
                f"model.kernels={model.kernels}, model.strides={model.strides}; take smaller ones, "
                "or model.images=flatten"
            )
        self.features = height * width * model.channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[:-3]
        images = x.movedim(-1, -3).reshape(-1, self.groups * x.shape[-1], *x.shape[-3:-1])
        images = self.scaling(images)
        for layer in self.layers:
            images = torch.relu(layer(images))
        return images.reshape(*batch, self.features)


def describe_input(group: AgentGroup, model: Perceptron) -> str | None:
    """Returns one line about how a model reads a group's observations, to be shown before training.

    None for vectors, and for other small observations that are not images.

    Args:
        group: the agents and their observations.
        model: hyperparameters of the networks.
    """
    spec = group.observation
    size = "x".join(map(str, spec.shape))
    flat = f"flattened to {spec.size:,} numbers for fully connected layers"
    if not spec.is_image:
        advice = "if they are images, give them a third axis, of channels, and take model=cnn"
        large = len(spec.shape) > 1 and spec.size >= LARGE
        return f"{group.name}: {size} numbers, {flat}; {advice}" if large else None
    finite = all(map(math.isfinite, (*spec.low, *spec.high)))
    scaled = f"read from {min(spec.low):g}..{max(spec.high):g}" if finite else "without bounds"
    line = f"{group.name}: images of {size}, {scaled}, "
    if model.convolves(spec):
        return line + f"through {len(model.channels)} convolutions"
    if model.images == "flatten":
        return line + flat + ("; model=cnn convolves them" if spec.size >= LARGE else "")
    return line + flat + ", because they are too small for model.kernels and model.strides"
