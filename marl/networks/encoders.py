"""What stands before a network's layers: observations of any shape to one vector of features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.types import AgentGroup, TensorSpec

if TYPE_CHECKING:
    from marl.networks.perceptron import Perceptron

LARGE = 1024  # numbers in an observation from which on it is said that they are flattened


class Flat(nn.Module):
    """An observation of any shape as one vector, images scaled."""

    def __init__(self, inputs: TensorSpec):
        super().__init__()
        self.axes, self.features = len(inputs.shape), inputs.size
        self.scaling = Scaling(inputs) if inputs.is_image else None

    def forward(self, x: Tensor) -> Tensor:
        if self.axes == 1:
            return x
        return (x.float() if self.scaling is None else self.scaling(x)).flatten(-self.axes)


class Scaling(nn.Module):
    """Images from their bounds to 0..1, as floats; without bounds as they are. Channels come last,
    or before ``after`` other axes, and lie ``times`` after each other."""

    def __init__(self, inputs: TensorSpec, times: int = 1, after: int = 0):
        super().__init__()
        finite = all(map(math.isfinite, (*inputs.low, *inputs.high)))
        pairs = list(zip(inputs.low, inputs.high, strict=True)) if finite else [(0.0, 1.0)]
        low, span = [low for low, _ in pairs], [high - low or 1.0 for low, high in pairs]
        self.low: Tensor | None
        self.span: Tensor | None
        for name, values, nothing in (("low", low, 0.0), ("span", span, 1.0)):
            kept = torch.tensor(values).repeat(times).reshape(-1, *[1] * after)
            needed = any(value != nothing for value in values)
            self.register_buffer(name, kept if needed else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        x = x if self.low is None else x - self.low
        return x if self.span is None else x / self.span


class Convolutions(nn.Module):
    """Images ``[..., N, H, W, C]`` to features; per-agent weights are one grouped convolution."""

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
                f"model.kernels={model.kernels}, strides={model.strides}; take smaller ones, or "
                "model.images=flatten"
            )
        self.features = height * width * model.channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[:-3]
        images = x.movedim(-1, -3).reshape(-1, self.groups * x.shape[-1], *x.shape[-3:-1])
        images = self.scaling(images)
        for layer in self.layers:
            images = torch.relu(layer(images))
        return images.reshape(*batch, self.features)


def reading(group: AgentGroup, model: Perceptron) -> str | None:
    """How ``model`` reads the observations of ``group``, to be said before training; None where
    that goes without saying."""
    spec = group.observation
    size = "x".join(map(str, spec.shape))
    flat = f"flattened to {spec.size:,} numbers for fully connected layers"
    if not spec.is_image:
        advice = "if they are an image, let it have a third axis, of channels, and take model=cnn"
        large = len(spec.shape) > 1 and spec.size >= LARGE
        return f"{group.name}: {size} numbers, {flat}; {advice}" if large else None
    finite = all(map(math.isfinite, (*spec.low, *spec.high)))
    scaled = f"read from {min(spec.low):g}..{max(spec.high):g}" if finite else "without bounds"
    words = f"{group.name}: images of {size}, {scaled}, "
    if model.convolves(spec):
        return words + f"through {len(model.channels)} convolutions"
    if model.images == "flatten":
        return words + flat + ("; model=cnn convolves them" if spec.size >= LARGE else "")
    return words + flat + ": too small (height x width) for model.kernels and strides"
