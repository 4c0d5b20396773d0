"""Advantages by hand and by a naive loop; value normalisation against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from marl.learning.returns import NoNorm, Rescaling, ValueNorm, gae, n_step
from marl.networks.layers import linear
from tests.helpers.replay import naive_n_step


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(-1)


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool).unsqueeze(-1)


def hand(terminated: Tensor, done: Tensor) -> list[float]:
    """Rewards 1, 2, 3, values 10, 20, 30, successors 100, 200, 300; gamma 0.5, lambda 0.5."""
    advantage, target = gae(
        column(1, 2, 3), column(10, 20, 30), column(100, 200, 300), terminated, done, 0.5, 0.5
    )
    assert torch.equal(target, advantage + column(10, 20, 30))
    return advantage.squeeze(-1).tolist()


def test_without_an_end_the_trace_runs_through() -> None:
    # deltas 1 + 50 - 10 = 41, 2 + 100 - 20 = 82, 3 + 150 - 30 = 123; decay 0.25
    a1 = 82 + 0.25 * 123
    assert hand(flags(0, 0, 0), flags(0, 0, 0)) == [41 + 0.25 * a1, a1, 123]


def test_termination_stops_bootstrap_and_trace() -> None:
    # step 1: 2 - 20 = -18
    assert hand(flags(0, 1, 0), flags(0, 1, 0)) == [41 - 0.25 * 18, -18, 123]


def test_truncation_bootstraps_but_stops_the_trace() -> None:
    assert hand(flags(0, 0, 0), flags(0, 1, 0)) == [41 + 0.25 * 82, 82, 123]


def test_an_agents_death_ends_its_own_return_only() -> None:
    """Two agents: the first dies in step 1 while the episode, and the second, go on."""
    columns = (column(1, 2, 3), column(10, 20, 30), column(100, 200, 300))
    reward, value, after = (x.expand(3, 2) for x in columns)
    terminated = torch.cat([flags(0, 1, 0), flags(0, 0, 0)], dim=-1)
    done = flags(0, 0, 0).expand(3, 2)
    advantage, _ = gae(reward, value, after, terminated, done, 0.5, 0.5)
    assert advantage[:, 0].tolist() == [41 - 0.25 * 18, -18, 123]
    assert advantage[:, 1].tolist() == hand(flags(0, 0, 0), flags(0, 0, 0))


def naive(columns: list[Tensor], gamma: float, lam: float) -> Tensor:
    """Equation 16 as it stands: a sum of discounted deltas until the trace is cut."""
    reward, value, after, terminated, done = columns
    advantage = torch.zeros_like(reward)
    for start in range(len(reward)):
        weight = 1.0
        for t in range(start, len(reward)):
            bootstrap = 0.0 if terminated[t] else gamma * float(after[t])
            advantage[start] += weight * (float(reward[t]) + bootstrap - float(value[t]))
            if terminated[t] or done[t]:
                break
            weight *= gamma * lam
    return advantage


@pytest.mark.parametrize(("gamma", "lam"), [(0.9, 0.8), (1.0, 1.0), (0.99, 0.0), (0.0, 0.5)])
def test_against_a_naive_double_loop(gamma: float, lam: float) -> None:
    random = torch.Generator().manual_seed(1)
    shape = (12, 5, 3)
    reward, value, after = torch.randn(3, *shape, generator=random, dtype=torch.float64)
    done = (torch.rand(12, 5, 1, generator=random) < 0.2).expand(shape)
    terminated = torch.rand(*shape, generator=random) < 0.2
    advantage, _ = gae(reward, value, after, terminated, done, gamma, lam)
    for b in range(5):
        for i in range(3):
            one = [x[:, b, i] for x in (reward, value, after, terminated, done)]
            torch.testing.assert_close(advantage[:, b, i], naive(one, gamma, lam))


# ----------------------------------------------------------------------------------- n-step returns


def test_n_step_by_hand() -> None:
    """Rewards 1, 2, 4 and gamma 0.5: a window that runs through, one that is done in its second
    step, one whose agent dies there while the episode goes on, one of which two steps are there."""
    reward = column(1, 2, 4).unsqueeze(-1).expand(3, 4, 1)
    done = torch.cat([flags(0, 0, 0), flags(0, 1, 0), flags(0, 0, 0), flags(0, 0, 1)], dim=1)
    died = torch.cat([flags(0, 0, 0), flags(0, 0, 1), flags(0, 1, 0), flags(0, 0, 1)], dim=1)
    there = torch.cat([flags(1, 1, 1), flags(1, 1, 1), flags(1, 1, 1), flags(1, 1, 0)], dim=1)
    total, discount, length = n_step(reward, died.unsqueeze(-1), done, there, 0.5)
    assert total.squeeze(-1).tolist() == [3, 2, 2, 2]
    assert discount.squeeze(-1).tolist() == [0.125, 0.25, 0, 0.25]
    assert length.tolist() == [3, 2, 3, 2]


@pytest.mark.parametrize("gamma", [0.9, 1.0, 0.0])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_n_step_against_a_naive_loop(steps: int, gamma: float) -> None:
    """One long episode after the other, seen from every step of it."""
    random, frames = torch.Generator().manual_seed(2), 300
    reward = torch.randn(frames, 3, generator=random, dtype=torch.float64)
    done = torch.rand(frames, generator=random) < 0.2
    terminated = torch.rand(frames, 3, generator=random) < 0.2
    window = torch.arange(steps).unsqueeze(-1) + torch.arange(frames)  # [n, M]
    there, window = window < frames, window.clamp_max(frames - 1)
    total, discount, length = n_step(reward[window], terminated[window], done[window], there, gamma)
    for t in range(frames):
        naive = naive_n_step(reward, terminated, done, t, steps, gamma)
        assert total[t].tolist() == pytest.approx(naive.reward)
        assert discount[t].tolist() == pytest.approx(naive.discount)
        assert t + int(length[t]) - 1 == naive.last


# ------------------------------------------------------------------------------ value normalisation

ZERO = torch.zeros(())


def test_before_any_update_values_are_unknown() -> None:
    norm = ValueNorm()
    x = torch.tensor([-3.0, 0.0, 7.0])
    assert torch.equal(norm.normalize(x), x) and torch.equal(norm.denormalize(x), torch.zeros(3))


def test_the_first_update_is_debiased() -> None:
    """However slow the average, one batch gives that batch's own moments."""
    norm = ValueNorm(beta=0.9)
    target = torch.tensor([1.0, 3.0, 5.0, 7.0])
    norm.update(target, torch.zeros(4), None)
    mean, std = norm.moments()
    assert float(mean) == pytest.approx(4.0, rel=1e-5)
    assert float(std) == pytest.approx(float(target.std(correction=0)), rel=1e-4)


def test_many_updates_against_the_definition() -> None:
    norm, beta = ValueNorm(beta=0.8), 0.8
    random = torch.Generator().manual_seed(0)
    mean = square = weight = 0.0
    for _ in range(7):
        target = 5 + 3 * torch.randn(20, generator=random)
        mask = (torch.rand(20, generator=random) < 0.7).float()
        seen = [float(t) for t, m in zip(target, mask, strict=True) if m]
        mean = beta * mean + (1 - beta) * sum(seen) / len(seen)
        square = beta * square + (1 - beta) * sum(x * x for x in seen) / len(seen)
        weight = beta * weight + (1 - beta)
        norm.update(target, torch.zeros(20), mask)
    mean, square = mean / weight, square / weight
    got = [float(x) for x in norm.moments()]
    assert got == pytest.approx([mean, (square - mean**2) ** 0.5], rel=1e-4)


def test_a_large_mean_does_not_hide_the_deviation() -> None:
    norm = ValueNorm()
    target = 1e5 + torch.tensor([-1.0, 1.0])
    for _ in range(3):
        norm.update(target, torch.zeros(2), None)
    assert float(norm.moments()[1]) == pytest.approx(1.0, rel=1e-3)


def test_what_the_mask_hides_has_no_influence() -> None:
    one, two = ValueNorm(), ValueNorm()
    mask = torch.tensor([1.0, 0.0, 1.0])
    for _ in range(2):
        first = one.update(torch.tensor([1.0, 1e6, 2.0]), torch.tensor([0.0, 1e6, 1.0]), mask)
        other = two.update(torch.tensor([1.0, -5.0, 2.0]), torch.tensor([0.0, -5.0, 1.0]), mask)
        assert torch.equal(first(ZERO + 2), other(ZERO + 2))
    assert torch.equal(one.mean, two.mean) and torch.equal(one.square, two.square)


def test_variance_has_a_floor() -> None:
    norm = ValueNorm()
    norm.update(torch.full((10,), 3.0), torch.zeros(10), None)
    assert float(norm.moments()[1]) == pytest.approx(0.1)


@pytest.mark.parametrize("norm", [ValueNorm(), NoNorm()])
def test_denormalize_inverts_normalize(norm: ValueNorm | NoNorm) -> None:
    norm.update(torch.tensor([-40.0, 60.0]), torch.zeros(2), None)
    x = torch.linspace(-100, 100, 9)
    torch.testing.assert_close(norm.denormalize(norm.normalize(x)), x)


@pytest.mark.parametrize("target", [[-40.0, 60.0, 7.0], [1e4, 1e4 + 1, 1e4 + 2], [0.1, 0.1, 0.1]])
def test_rescaled_values_keep_their_differences_and_have_the_targets_mean(target: list) -> None:
    """In the units of the environment, whatever the moments were and become."""
    norm, mask = ValueNorm(), torch.tensor([1.0, 1.0, 0.0])
    norm.update(torch.tensor([2.0, 8.0, 5.0]), torch.zeros(3), None)
    value, targets = torch.tensor([-0.5, 1.5, 0.3]), torch.tensor(target)
    before = norm.denormalize(value)
    after = norm.denormalize(norm.update(targets, value, mask)(value))
    torch.testing.assert_close(after - after[0], before - before[0], atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(after[:2].mean(), targets[:2].mean(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("spread", "expected"), [(300.0, 1.0), (0.2, 0.2)])
def test_first_values_are_not_multiplied(spread: float, expected: float) -> None:
    norm, value = ValueNorm(), spread * torch.tensor([-1.0, 1.0])
    after = norm.update(torch.tensor([50.0, 90.0]), value, None)(value)
    assert after.tolist() == pytest.approx([-expected, expected])


def test_layers_are_rescaled_in_place() -> None:
    for layer in (linear(3, 2, None, 1.0), linear(3, 2, 4, 1.0)):
        x, weights = torch.randn(5, 4, 3), list(layer.parameters())
        torch.nn.init.normal_(layer.bias)  # type: ignore[arg-type]  # a Parameter
        before = layer(x)
        rescaling = Rescaling(torch.tensor(0.3), torch.tensor(-7.0))
        rescaling.apply_to_layers([layer])
        torch.testing.assert_close(layer(x), rescaling(before))
        assert all(a is b for a, b in zip(weights, layer.parameters(), strict=True))
