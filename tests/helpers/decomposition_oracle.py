"""Exact answers of value decomposition on uniform data, by numpy: what learners are measured by.

Errors are summed over the entries of a payoff matrix, ``payoff[a_0, a_1]``.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

GAMMA = 0.99
QTRAN = np.array([[8, -12, -12], [-12, 0, 0], [-12, 0, 0]], dtype=float)
QPLEX = np.array([[8, -12, -12], [-12, 6, 0], [-12, 0, 6]], dtype=float)
CLIMBING = np.array([[11, -30, 0], [-30, 7, 6], [0, 0, 5]], dtype=float)
STEP_2B = np.array([[0, 1], [1, 8]], dtype=float)


def error(fit: np.ndarray, payoff: np.ndarray) -> float:
    """The squared error, summed."""
    return float(((fit - payoff) ** 2).sum())


def greedy(fit: np.ndarray, payoff: np.ndarray) -> float:
    """What the best joint action of ``fit`` pays."""
    return float(payoff.flat[fit.argmax()])


def additive(payoff: np.ndarray) -> np.ndarray:
    """The nearest ``q_0[a_0] + q_1[a_1]`` (VDN), by least squares."""
    rows, columns = payoff.shape
    first = np.kron(np.eye(rows), np.ones((columns, 1)))
    second = np.kron(np.ones((rows, 1)), np.eye(columns))
    design = np.hstack([first, second])
    solution = np.linalg.lstsq(design, payoff.flatten(), rcond=None)[0]
    return (design @ solution).reshape(payoff.shape)


def independent(payoff: np.ndarray, agent: int) -> np.ndarray:
    """What an agent expects of its actions against a uniform partner (IQL)."""
    return payoff.mean(1 - agent)


def monotone_fits(payoff: np.ndarray) -> list[np.ndarray]:
    """The nearest monotone function for each pair of orders of the actions, best first."""
    orders = [list(map(list, itertools.permutations(range(n)))) for n in payoff.shape]
    fits = []
    for rows, columns in itertools.product(*orders):
        fit = np.empty_like(payoff)
        fit[np.ix_(rows, columns)] = isotonic(payoff[np.ix_(rows, columns)])
        fits.append(fit)
    return sorted(fits, key=lambda fit: error(fit, payoff))


def monotone(payoff: np.ndarray) -> np.ndarray:
    """The nearest function that rises with utilities (QMIX), whatever their order."""
    return monotone_fits(payoff)[0]


def isotonic(payoff: np.ndarray) -> np.ndarray:
    """The nearest matrix that rises along both axes.

    Its entry x is the largest, over upper sets U that hold x, of the least, over lower sets L that
    hold x, of the mean of payoff over U and L (Robertson, Wright & Dykstra 1988, theorem 1.4.4).
    """
    lower = lower_sets(*payoff.shape)  # [L, entries]
    upper = 1 - lower
    both = upper[:, None] * lower[None]  # [U, L, entries]
    count = both.sum(-1)
    mean = (both @ payoff.flatten()) / np.where(count, count, 1)
    fit = np.empty(payoff.size)
    for x in range(payoff.size):
        fit[x] = mean[np.ix_(upper[:, x] == 1, lower[:, x] == 1)].min(1).max()
    return fit.reshape(payoff.shape)


@cache
def lower_sets(rows: int, columns: int) -> np.ndarray:
    """All sets of entries that hold whatever is above and left of their entries."""
    lengths = itertools.combinations_with_replacement(range(columns, -1, -1), rows)
    column = np.arange(columns)
    return np.array([[column < n for n in row] for row in lengths], float).reshape(
        -1, rows * columns
    )


def two_step(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of agent_0's two actions in state 1 of the two-step game, and those of game 2B.

    Args:
        kind: ``vdn``, ``qmix`` or ``iql``, whose values of 2B are those of one agent.
    """
    fit = {"vdn": additive, "qmix": monotone, "iql": lambda x: independent(x, 0)}[kind](STEP_2B)
    return GAMMA * np.array([7.0, fit.max()]), fit
