"""The exact answers of value decomposition, against those of the papers and of random search."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.decomposition_oracle import (
    CLIMBING,
    QPLEX,
    QTRAN,
    additive,
    error,
    greedy,
    independent,
    isotonic,
    monotone,
    monotone_fits,
    two_step,
)


def test_sums_of_utilities() -> None:
    fit = additive(QTRAN)
    rows = [[-56 / 9, -44 / 9, -44 / 9], [-44 / 9, -32 / 9, -32 / 9], [-44 / 9, -32 / 9, -32 / 9]]
    np.testing.assert_allclose(fit, rows)
    assert error(fit, QTRAN) == pytest.approx(455.11, abs=0.01) and greedy(fit, QTRAN) == 0
    assert error(additive(QPLEX), QPLEX) == pytest.approx(580.44, abs=0.01)
    assert error(additive(CLIMBING), CLIMBING) == pytest.approx(1575.8, abs=0.05)
    assert greedy(additive(CLIMBING), CLIMBING) == 5
    penalty = np.array([[10, 0, -100], [0, 2, 0], [-100, 0, 10.0]])
    assert greedy(additive(penalty), penalty) == 2
    np.testing.assert_allclose(independent(QTRAN, 0), [-16 / 3, -4, -4])


def test_monotone_functions() -> None:
    fits = monotone_fits(QTRAN)
    assert error(fits[0], QTRAN) == pytest.approx(288) and greedy(fits[0], QTRAN) == 8
    np.testing.assert_allclose(fits[0], [[8, -6, -6], [-6, -6, -6], [-6, -6, -6]])
    literature = np.array([[-8, -8, -8], [-8, 0, 0], [-8, 0, 0]])
    assert error(literature, QTRAN) == 320
    assert any(np.allclose(fit, literature) for fit in fits), "the best of its order"
    assert error(monotone(QPLEX), QPLEX) == pytest.approx(344)
    assert greedy(monotone(QPLEX), QPLEX) == 6
    assert error(monotone(CLIMBING), CLIMBING) == pytest.approx(997.4, abs=0.05)


def test_isotonic_is_monotone_and_nearest() -> None:
    """No monotone matrix that is drawn around it is nearer."""
    random = np.random.default_rng(0)
    payoff = random.normal(size=(3, 3))
    fit = isotonic(payoff)
    assert (np.diff(fit, axis=0) >= 0).all() and (np.diff(fit, axis=1) >= 0).all()
    for _ in range(200):
        other = np.sort(np.sort(fit + 0.1 * random.normal(size=(3, 3)), 0), 1)
        assert error(other, payoff) >= error(fit, payoff)
    np.testing.assert_allclose(isotonic(np.arange(6.0).reshape(2, 3)), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("vdn", [6.93, 6.435], [[-1.5, 2.5], [2.5, 6.5]]),
        ("qmix", [6.93, 7.92], [[0, 1], [1, 8]]),
        ("iql", [6.93, 4.455], [0.5, 4.5]),
    ],
)
def test_the_two_step_game(kind: str, first: list[float], second: list) -> None:
    found = two_step(kind)
    np.testing.assert_allclose(found[0], first, atol=1e-9)
    np.testing.assert_allclose(found[1], second, atol=1e-9)
