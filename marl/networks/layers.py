"""Layers over ``[..., N, features]``, shared by all agents or with one set of weights per agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marl.utils.stacked_modules import is_mapping


def fast_tanh(x: Tensor) -> Tensor:
    """Computes tanh x = 2 sigmoid(2x) - 1, to 3e-7; about four times as fast as torch on a CPU."""
    return torch.sigmoid(2 * x).mul_(2).sub_(1)


class FastTanh(torch.autograd.Function):
    """``fast_tanh`` with a gradient of one operation."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return fast_tanh(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        return FastTanh.apply(*args), in_dims[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradients[0], y)


class Tanh(nn.Module):
    """The hyperbolic tangent, by ``fast_tanh`` on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return x.tanh()
        if is_mapping() and torch.compiler.is_compiling():  # FastTanh's backward is lost
            return 2 * torch.sigmoid(2 * x) - 1
        return FastTanh.apply(x) if torch.is_grad_enabled() else fast_tanh(x)  # type: ignore[return-value]  # a Tensor


#: Activation functions by the names that configurations use.
ACTIVATIONS = {"tanh": Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU, "gelu": nn.GELU}


class Linear(nn.Linear):
    """A linear layer over ``[..., features]``."""

    def forward(self, input: Tensor) -> Tensor:
        if not is_mapping():
            return super().forward(input)
        # With all leading axes in one, a stack's product is one of S matrices, not of many small.
        rows = torch.mm(input.reshape(-1, input.shape[-1]), self.weight.t()) + self.bias
        return rows.view(*input.shape[:-1], -1)


def linear(inputs: int, outputs: int, stacked: int | None, gain: float) -> nn.Module:
    """Builds a linear layer with orthogonal weights and zero bias.

    Args:
        inputs: number of input features.
        outputs: number of output features.
        stacked: number of agents that get weights of their own; None for shared weights.
        gain: of the orthogonal initialisation.
    """
    layers = [Linear(inputs, outputs) for _ in range(stacked or 1)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return layers[0] if stacked is None else StackedLinear(layers)


class StackedLinear(nn.Module):
    """``N`` linear layers in one batched product: ``[..., N, in] -> [..., N, out]``.

    Args:
        layers: one layer per agent, whose weights are copied.
    """

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] == 1:  # the same with fewer views
            rows = x.reshape(1, -1, x.shape[-1])
            out = torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight)
            return out.view(*x.shape[:-1], -1)
        rows = x.flatten(0, -3).transpose(0, 1)  # [N, M, in]
        out = torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight)
        return out.transpose(0, 1).reshape(*x.shape[:-1], -1)


def layer_norm(size: int, stacked: int | None) -> nn.Module:
    """Builds a LayerNorm over features.

    Args:
        size: number of features.
        stacked: number of agents that get weights of their own; None for shared weights.
    """
    return nn.LayerNorm(size) if stacked is None else StackedLayerNorm(size, stacked)


class StackedLayerNorm(nn.Module):
    """LayerNorm over features, with a gain and an offset per agent: ``[..., N, F] -> [..., N, F]``.

    Args:
        size: F, the number of features.
        agents: N, the number of agents.
    """

    def __init__(self, size: int, agents: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(agents, size))
        self.bias = nn.Parameter(torch.zeros(agents, size))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


class GRU(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) whose memory is set to zero where an episode starts.

    A LayerNorm follows its output, as in on-policy (Yu et al. 2022).

    Args:
        inputs: number of input features.
        units: H, the length of the memory.
        stacked: number of agents that get weights of their own; None for shared weights.
    """

    def __init__(self, inputs: int, units: int, stacked: int | None):
        super().__init__()
        self.of_input = linear(inputs, 3 * units, stacked, 1.0)
        self.of_carry = linear(units, 3 * units, stacked, 1.0)
        self.norm = layer_norm(units, stacked)

    def forward(
        self, x: Tensor, carry: Tensor | None, start: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Computes the features of all steps.

        Args:
            x: ``[T, B, N, F]``.
            carry: memories before the first step, ``[B, N, H]``.
            start: ``[T, B]`` bool, True where an episode begins.

        Returns:
            The features ``[T, B, N, H]``, and the memories after each step ``[T, B, N, H]``.
        """
        assert carry is not None and start is not None, "a recurrent network needs carry and start"
        gates = self.of_input(x)  # all steps at once: [T, B, N, 3H]
        keep = (~start)[..., None, None]
        outputs = []
        # unbind's gradient is one stack; that of an index would fill a tensor of all steps for each
        for gate, kept in zip(gates.unbind(), keep.unbind(), strict=True):
            carry = self.cell(gate, carry * kept)
            outputs.append(carry)
        memories = torch.stack(outputs)
        return self.norm(memories), memories

    def cell(self, gates: Tensor, carry: Tensor) -> Tensor:
        """Computes one step: reset gate r, update gate z, candidate n; h' = (1 - z) n + z h.

        Args:
            gates: the input's part of r, z and n, ``[B, N, 3H]``.
            carry: the memories h, ``[B, N, H]``.
        """
        units = carry.shape[-1]
        sizes = (2 * units, units)
        both_x, new_x = gates.split(sizes, dim=-1)
        both_h, new_h = self.of_carry(carry).split(sizes, dim=-1)
        reset, update = torch.sigmoid(both_x + both_h).chunk(2, dim=-1)
        new = torch.tanh(new_x + reset * new_h)
        return new + update * (carry - new)
