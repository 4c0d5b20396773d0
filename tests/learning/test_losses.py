"""Losses by hand, at numbers where every branch shows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from marl.learning.losses import (
    approximate_kl,
    clipped_surrogate,
    masked_mean,
    ratio_stats,
    value_loss,
)


def test_masked_mean() -> None:
    value, mask = torch.tensor([1.0, 2.0, 30.0]), torch.tensor([1.0, 1.0, 0.0])
    assert masked_mean(value, mask) == 1.5
    assert masked_mean(value, None) == 11.0
    assert masked_mean(value, torch.zeros(3)) == 0.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.1, 2.0, -2.2, True),
        (1.5, 2.0, -2.4, False),  # far enough up already
        (0.5, 2.0, -1.0, True),  # the wrong way: always pulled back
        (0.5, -2.0, 1.6, False),  # far enough down already
        (1.5, -2.0, 3.0, True),
    ],
)
def test_clipped_surrogate(ratio: float, advantage: float, loss: float, moves: bool) -> None:
    log_ratio = torch.tensor(math.log(ratio), requires_grad=True)
    value = clipped_surrogate(log_ratio, torch.tensor(advantage), 0.2)
    value.backward()
    assert float(value.detach()) == pytest.approx(loss)
    assert log_ratio.grad is not None and bool(log_ratio.grad != 0) is moves


def loss_of(
    value: float, old: float, target: float, clip: float | None, huber: float | None
) -> float:
    tensors = [torch.tensor(x) for x in (value, old, target)]
    return float(value_loss(tensors[0], tensors[1], tensors[2], clip, huber))


def test_value_loss() -> None:
    assert loss_of(3.0, 0.0, 1.0, None, None) == 2.0  # 2^2 / 2
    assert loss_of(13.0, 0.0, 1.0, None, 10.0) == pytest.approx(10 * (12 - 5))  # linear beyond 10
    assert loss_of(3.0, 0.0, 1.0, 0.5, None) == 2.0  # clipped error 0.5^2 / 2 is smaller
    assert loss_of(1.0, 0.0, 1.0, 0.2, None) == pytest.approx(0.32)  # kept at 0.2: 0.8^2 / 2


def test_approximate_kl_is_unbiased_and_never_negative() -> None:
    old, new = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.2, 0.4])
    estimate: Tensor = approximate_kl((new / old).log())
    assert (estimate >= 0).all()
    exact = kl_divergence(Categorical(old), Categorical(new))
    torch.testing.assert_close((old * estimate).sum(), exact)


def test_statistics_of_ratios_are_of_the_living() -> None:
    ratio = [1.0, 1.1, 0.7, 5.0]
    log_ratio, alive = torch.tensor(ratio).log(), torch.tensor([1.0, 1.0, 1.0, 0.0])
    stats = ratio_stats(log_ratio, 0.2, alive)
    kl = sum(r - 1 - math.log(r) for r in ratio[:3]) / 3
    assert float(stats["kl"]) == pytest.approx(kl, abs=1e-6)
    assert float(stats["clip_fraction"]) == pytest.approx(1 / 3)
    assert float(ratio_stats(log_ratio, None, alive)["clip_fraction"]) == 0
