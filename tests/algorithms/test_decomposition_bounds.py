"""Learners of value decomposition against the exact answers of small games.

Each of the fast tests learns from every joint action once in each batch, and the slow ones from
play in which all actions are random.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.helpers.decomposition import ExactPlay
from tests.helpers.decomposition_oracle import QTRAN, additive, error, greedy, monotone


def random_game(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, 3))


SLOW = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6)]


@pytest.mark.parametrize("seed", [0, *SLOW])
def test_vdn_reaches_its_bound(seed: int) -> None:
    payoff = random_game(seed)
    bound, play = error(additive(payoff), payoff), ExactPlay("vdn", payoff, seed, lr=1e-2)
    for _ in range(4):
        play.learn(25)
        assert play.error() >= bound - 1e-4
    assert play.error() <= 1.01 * bound
    np.testing.assert_allclose(play.values(), additive(payoff), atol=0.1)


@pytest.mark.parametrize("seed", [0, *SLOW])
def test_qmix_never_beats_the_monotone_bound(seed: int) -> None:
    payoff = random_game(seed)
    bound, play = error(monotone(payoff), payoff), ExactPlay("qmix", payoff, seed, lr=1e-2)
    first = play.error()
    for _ in range(4):
        play.learn(25)
        assert play.error() >= bound - 1e-4
    assert play.error() < first / 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_qmix_learns_the_monotone_function_of_qtran_that_pays_nothing(seed: int) -> None:
    """Of each seed: its error is 320, that of the order in which 0 is the worst action of both,
    and not the least of all, 288, whose greedy actions pay 8."""
    play = ExactPlay("qmix", QTRAN, seed, lr=5e-3)
    play.learn(500)
    assert play.error() == pytest.approx(320, abs=1) and greedy(play.values(), QTRAN) == 0


@pytest.mark.parametrize("seed", [0, *SLOW])
def test_qplex_has_no_bound(seed: int) -> None:
    """With a constant learning rate its error moves, but comes near 0."""
    payoff = random_game(seed)
    small: dict[str, Any] = {"heads": 2, "importance_layers": 2, "hyper_units": 16}
    play = ExactPlay("qplex", payoff, seed, lr=5e-3, optimizer="adam", adam_eps=1e-8, **small)
    least = np.inf
    for _ in range(2 if seed == 0 else 12):
        play.learn(75)
        least = min(least, play.error())
    assert least < min(0.05, 0.1 * error(monotone(payoff), payoff))


@pytest.mark.parametrize("name", ["owqmix", pytest.param("cwqmix", marks=pytest.mark.slow)])
def test_the_central_value_has_no_bound(name: str) -> None:
    payoff = random_game(0)
    play = ExactPlay(name, payoff, lr=5e-3, central_units=64)
    play.learn(120)
    assert play.error("central") < 0.01 and play.error() >= error(monotone(payoff), payoff) - 1e-4
