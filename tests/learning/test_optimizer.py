"""The optimizer against torch's own Adam, and what compiling asks of the machine."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.learning.optimizer import Optimizer, RMSprop
from marl.utils.compilation import compile_function

LR = {"actor": 0.01, "critic": 0.03}


def parts() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"actor": nn.Linear(3, 2), "critic": nn.Linear(3, 1)})


def optimizer(modules: nn.ModuleDict, max_norm: float = 0.5) -> Optimizer:
    return Optimizer({k: m.parameters() for k, m in modules.items()}, LR, 1e-5, max_norm)


def loss(modules: nn.ModuleDict, step: int) -> Tensor:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
    return modules["actor"](x).square().mean() + (3 * modules["critic"](x) - 1).square().mean()


@pytest.mark.parametrize("max_norm", [1e-3, 0.5, 1e9])
def test_steps_are_those_of_clipped_adam(max_norm: float) -> None:
    ours, theirs = parts(), parts()
    mine = optimizer(ours, max_norm)
    groups = [{"params": list(theirs[k].parameters()), "lr": LR[k]} for k in LR]
    adam = torch.optim.Adam(groups, eps=1e-5)
    for step in range(20):
        mine.scale_lr(1 - step / 20)
        for name, group in zip(LR, adam.param_groups, strict=True):
            group["lr"] = LR[name] * (1 - step / 20)
        norms = mine.step(loss(ours, step))
        adam.zero_grad()
        loss(theirs, step).backward()
        expected = [nn.utils.clip_grad_norm_(theirs[k].parameters(), max_norm) for k in LR]
        adam.step()
        assert list(norms) == list(LR)
        torch.testing.assert_close(torch.stack(list(norms.values())), torch.stack(expected))
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other)


def test_a_gradient_in_another_order_than_its_parameter_moves_it_alike() -> None:
    """As ``einsum`` returns it, by which users write layers."""

    def loss(weight: Tensor) -> Tensor:
        x = torch.linspace(-1, 1, 21).view(7, 3)
        return torch.einsum("bi,oi->bo", x, weight).sin().sum()

    ours, theirs = (nn.Parameter(torch.arange(12.0).view(4, 3)) for _ in range(2))
    mine, adam = Optimizer({"": [ours]}, {"": 0.1}, 1e-8, 1e9), torch.optim.Adam([theirs], 0.1)
    (gradient,) = torch.autograd.grad(loss(ours), [ours])
    assert gradient.stride() != ours.stride()
    for _ in range(3):
        mine.step(loss(ours))
        adam.zero_grad()
        loss(theirs).backward()
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_rmsprop_is_torchs() -> None:
    ours, theirs = parts(), parts()
    mine = RMSprop({k: m.parameters() for k, m in ours.items()}, LR, 1e-5, 1e9)
    groups = [{"params": list(theirs[k].parameters()), "lr": LR[k]} for k in LR]
    other = torch.optim.RMSprop(groups, alpha=0.99, eps=1e-5)
    for step in range(5):
        mine.step(loss(ours, step))
        other.zero_grad()
        loss(theirs, step).backward()
        other.step()
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_one_part_alone_moves_as_it_does_among_others() -> None:
    """And leaves the rest alone, moments that are not zero included."""
    ours, theirs = parts(), parts()
    mine, whole = optimizer(ours), optimizer(theirs)
    only = mine.select("actor")
    for step in range(3):
        for one in (mine, whole):
            one.scale_lr(1 - step / 5)
        before = copy.deepcopy(ours["critic"].state_dict())
        whole.step(loss(theirs, step))
        (mine if step == 0 else only).step(loss(ours, step))
        stayed = [torch.equal(v, before[k]) for k, v in ours["critic"].state_dict().items()]
        assert all(stayed) == (step > 0)
    assert [int(mine.steps[name][0]) for name in LR] == [3, 1]
    for x, y in zip(ours["actor"].parameters(), theirs["actor"].parameters(), strict=True):
        assert torch.equal(x, y)


def test_state_is_loaded_for_its_parts_too() -> None:
    modules = parts()
    first, second = optimizer(modules), optimizer(parts())
    first.step(loss(modules, 0))
    only = second.select("actor")
    second.load_state_dict(first.state_dict())
    for x, y in zip(only.first[""], first.first["actor"], strict=True):
        assert torch.equal(x, y) and x.abs().max() > 0


def test_a_parameter_without_gradient_stays() -> None:
    modules = parts()
    before = copy.deepcopy(modules["critic"].state_dict())
    optimizer(modules).step(modules["actor"](torch.ones(3)).sum())
    for name, value in modules["critic"].state_dict().items():
        assert torch.equal(value, before[name])


def test_state_round_trip_continues_identically() -> None:
    one, other = parts(), parts()
    first, second = optimizer(one), optimizer(other)
    for step in range(3):
        first.step(loss(one, step))
    other.load_state_dict(one.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for modules, its in ((one, first), (other, second)):
        its.step(loss(modules, 3))
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_without_a_compiler_compiling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler.*no-such-compiler"):
        compile_function(lambda: None)


def test_an_old_torch_compiles_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    with pytest.raises(UserError, match=r"needs torch 2\.13.* and this is 2\.11\.0"):
        compile_function(lambda: None)
    compile_function(lambda: None, whole=True)  # no gradients in it
