"""Stacks of modules: one call is a loop over the copies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.learning.optimizer import Optimizer
from marl.learning.stacked_optimizer import StackedOptimizer
from marl.networks.layers import GRU, Tanh, linear
from marl.utils.stacked_modules import Stack, is_mapping


class Counted(nn.Module):
    """Has a buffer that each call changes, a layer under two names, and a weight of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = linear(3, 2, None, 1.0)
        self.again = self.layer
        self.other = linear(3, 2, None, 1.0)
        self.other.weight = self.layer.weight  # type: ignore[assignment]  # a Parameter
        self.tanh = Tanh()
        self.register_buffer("sum", torch.zeros(2))
        self.sum: Tensor

    def forward(self, x: Tensor) -> Tensor:
        out = self.tanh(self.again(x)) + self.other(x)
        with torch.no_grad():
            self.sum.add_(out.flatten(0, -2).sum(0))
        return out


def copies(count: int = 3) -> list[Counted]:
    torch.manual_seed(0)
    return [Counted() for _ in range(count)]


def test_a_call_for_all_copies_is_a_loop_over_them() -> None:
    stacked, single = copies(), copies()
    stack = Stack([{"net": net} for net in stacked])
    x = torch.randn(3, 5, 4, 3)
    given: Any = {"x": x, "none": None}

    def call(tree: Any) -> Any:
        assert is_mapping()
        return {"none": tree["none"], "y": stacked[0](tree["x"])}

    result = stack.map(call)(given)
    assert result["none"] is None and not is_mapping()
    for number, net in enumerate(single):
        torch.testing.assert_close(result["y"][number], net(x[number]))
        torch.testing.assert_close(stacked[number].sum, net.sum)


def test_copies_and_stack_share_memory() -> None:
    nets = copies()
    stack = Stack([{"net": net} for net in nets])
    weight: Any = nets[0].layer.weight
    nets[1].load_state_dict(nets[2].state_dict())
    assert torch.equal(stack.of(weight)[1], stack.of(weight)[2])
    with torch.no_grad():
        stack.of(weight).zero_()
    assert not any(net.layer.weight.any() for net in nets)  # type: ignore[operator, union-attr]  # a Parameter


def test_gradients_and_clipped_steps_are_those_of_each_copy() -> None:
    """Steps of different lengths: the first copies' gradients are clipped, the last one's is
    not."""

    def loss(net: Any, x: Tensor, scale: Tensor) -> Tensor:
        return (scale * net(x)).square().mean()

    def optimizer(net: nn.Module) -> Optimizer:
        return Optimizer({"net": net.parameters()}, {"net": 0.01}, 1e-3, 0.05)

    stacked, single = copies(), copies()
    mine, theirs = ([optimizer(net) for net in nets] for nets in (stacked, single))
    stack = Stack([{"net": net} for net in stacked])
    together = StackedOptimizer(mine, stack)
    lossy = stack.map(lambda x, scale: loss(stacked[0], x, scale))
    scale = torch.tensor([3.0, 1.0, 0.05])
    for step in range(5):
        together.scale_lr(1 - step / 10)
        x = torch.randn(3, 6, 3)
        norms = together.step(lossy(x, scale))["net"]
        for number, net in enumerate(single):
            theirs[number].scale_lr(1 - step / 10)
            norm = theirs[number].step(loss(net, x[number], scale[number]))["net"]
            torch.testing.assert_close(norms[number], norm)
        assert norms[0] > 0.05 > norms[2]
    for number, net in enumerate(single):
        for one, other in zip(stacked[number].parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(one, other)
        torch.testing.assert_close(mine[number].state_dict(), theirs[number].state_dict())


@pytest.mark.parametrize("stacked", [None, 2])
def test_memories_are_those_of_each_copy(stacked: int | None) -> None:
    torch.manual_seed(0)
    nets = [GRU(3, 4, stacked) for _ in range(3)]
    x, carry = torch.randn(3, 5, 6, 2, 3), torch.randn(3, 6, 2, 4)
    start = torch.rand(3, 5, 6) < 0.3
    expected = [net(*part) for net, *part in zip(nets, x, carry, start, strict=True)]
    together = Stack([{"net": net} for net in nets]).map(nets[0])(x, carry, start)
    for one, other in zip(together, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(one, torch.stack(other))


def test_what_cannot_be_computed_for_all_copies_is_told() -> None:
    nets = copies()
    stack = Stack([{"net": net} for net in nets])
    with pytest.raises(UserError, match="leave stacked_seeds out"):
        stack.map(lambda x: x.nonzero())(torch.ones(3, 2))
    assert not is_mapping()
    with pytest.raises(RuntimeError, match="size"):  # an error of the function itself
        stack.map(lambda x: x @ x)(torch.ones(3, 2, 5))
