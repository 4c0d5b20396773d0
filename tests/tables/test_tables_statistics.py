"""Statistics over runs against hand-computed values, naive loops and scipy."""

from __future__ import annotations

from itertools import product
from statistics import quantiles

import numpy as np
import pytest
from scipy import stats

from marl.tables import statistics
from marl.tables.statistics import (
    improvement,
    improvement_interval,
    interval,
    iqm,
    profile,
    sample_indices,
)

RANDOM = np.random.default_rng(7)


def test_a_quarter_is_cut_at_either_end() -> None:
    assert iqm([np.array([100.0, 2, 3, 4, -100])]) == 3
    assert iqm([np.array([1.0, 2, 9])]) == 4  # a quarter of three is none
    assert iqm([np.array([1.0, 2, 3, 4]), np.array([5.0, 6, 70, 80])]) == 4.5  # of all together


@pytest.mark.parametrize("count", range(1, 14))
def test_the_interquartile_mean_is_scipys(count: int) -> None:
    runs = RANDOM.standard_normal((count, 3))
    np.testing.assert_allclose(iqm([runs]), stats.trim_mean(runs, 0.25), rtol=1e-12)


def naive(tasks: list[list[float]], indices: list[np.ndarray], resample: int) -> float:
    """One resample, run by run."""
    drawn = []
    for runs, index in zip(tasks, indices, strict=True):
        for i in index[resample]:
            drawn.append(runs[i])
    drawn.sort()
    cut = int(len(drawn) * 0.25)
    middle = drawn[cut : len(drawn) - cut]
    return sum(middle) / len(middle)


def test_the_bootstrap_is_a_naive_loops() -> None:
    """Of the same sample_indices: each task's runs by themselves, as many as there are."""
    tasks = [[1.0, 4, 2, 8, 5], [10.0, 30, 20], [0.5, 0.25, 0.75, 1.0]]
    indices = list(sample_indices((5, 3, 4), 400))
    for index, runs in zip(indices, tasks, strict=True):
        assert index.shape == (400, len(runs)) and set(index.ravel()) == set(range(len(runs)))
    found = sorted(naive(tasks, indices, i) for i in range(400))
    cuts = quantiles(found, n=40, method="inclusive")  # of 2.5%
    low, high = interval([np.array(runs) for runs in tasks], resamples=400)
    assert (low, high) == pytest.approx((cuts[0], cuts[-1]), rel=1e-12)


def test_the_interval_is_that_of_all_draws_there_are() -> None:
    """All 3125 ways to draw five of five runs, each as likely."""
    runs = np.array([0.0, 1, 2, 10, 30])
    every = np.array(list(product(runs, repeat=5)))
    wanted = np.quantile(stats.trim_mean(every, 0.25, axis=1), [0.025, 0.975])
    np.testing.assert_allclose(interval([runs]), wanted)
    assert wanted.tolist() != [runs.min(), runs.max()]


def test_draws_are_the_same_for_ever_and_even() -> None:
    """Of bits that NumPy promises to keep; a change of them changes every committed interval."""
    (index,) = sample_indices((5,), 3)
    bits = np.random.PCG64(0).random_raw(15)
    assert index.ravel().tolist() == [int(b) % 5 for b in bits]
    assert index.tolist() == [[1, 2, 4, 3, 1], [4, 2, 2, 3, 1], [0, 4, 2, 4, 3]]
    share = np.bincount(sample_indices((5,), 20_000)[0].ravel()) / 100_000
    assert share == pytest.approx(np.full(5, 0.2), abs=0.006)


def test_intervals_keep_the_axes_behind_the_runs() -> None:
    """A curve's moments, all at once, are each what it is alone."""
    runs = RANDOM.standard_normal((6, 4))
    every = interval([runs], resamples=500)
    assert every.shape == (2, 4)
    for i in range(4):
        np.testing.assert_allclose(every[:, i], interval([runs[:, i]], resamples=500))


def test_ties_count_half() -> None:
    x, y = np.array([1.0, 2]), np.array([1.0, 3])
    assert improvement([x], [y]) == 0.375
    assert improvement([x], [y]) + improvement([y], [x]) == 1
    assert improvement([x, x + 10], [y, y]) == (0.375 + 1) / 2  # tasks equally


def test_improvement_is_mann_whitneys() -> None:
    x, y = RANDOM.integers(0, 6, 7).astype(float), RANDOM.integers(0, 6, 5).astype(float)
    wanted = stats.mannwhitneyu(x, y).statistic / 35
    assert improvement([x], [y]) == pytest.approx(wanted, rel=1e-12)


def test_improvements_interval_draws_both_sides() -> None:
    x, y = np.array([1.0, 3, 5]), np.array([2.0, 4])
    low, high = improvement_interval([x], [y], resamples=300)
    first, second = sample_indices((3, 2), 300)
    found = [float(improvement([x[i]], [y[j]])) for i, j in zip(first, second, strict=True)]
    cuts = quantiles(found, n=40, method="inclusive")
    assert (low, high) == pytest.approx((cuts[0], cuts[-1]), rel=1e-12)
    assert improvement_interval([x + 9], [y]).tolist() == [1, 1]


def test_a_profile_is_the_share_above() -> None:
    scores = [np.array([0.2, 0.5]), np.array([0.5, 0.9])]
    above = profile(scores, np.array([0.0, 0.2, 0.5, 0.89, 1.0]))
    assert statistics.mean(above).tolist() == [1, 0.75, 0.25, 0.25, 0]


SIZES = [[1], [2], [4], [5], [10], [5, 5], [7, 3, 9]]


def strata(sizes: list[int], decimals: int) -> list[np.ndarray]:
    """Runs with many ties, and with none."""
    return [np.round(RANDOM.standard_normal(size), decimals) for size in sizes]


@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_counted_bootstrap_is_the_drawn_one(sizes: list[int], decimals: int) -> None:
    runs = strata(sizes, decimals)
    np.testing.assert_allclose(
        statistics.iqm_interval(runs, 500), interval(runs, iqm, 500), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("sizes", SIZES)
def test_a_profiles_interval_is_exactly_that_of_its_mean(sizes: list[int]) -> None:
    above = profile(strata(sizes, 1), np.linspace(-1, 1, 9))
    drawn = interval(above, statistics.mean, 500)
    assert (statistics.profile_interval(above, 500) == drawn).all()


@pytest.mark.parametrize("sizes", SIZES)
def test_improvements_interval_is_exactly_that_of_the_resamples(sizes: list[int]) -> None:
    better, worse = strata(sizes, 0), strata(sizes[::-1], 0)
    indices = sample_indices(tuple(map(len, (*better, *worse))), 500)
    drawn = [runs[index] for runs, index in zip([*better, *worse], indices, strict=True)]
    values = improvement(drawn[: len(sizes)], drawn[len(sizes) :], 1)
    ends = np.quantile(values, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    assert (improvement_interval(better, worse, 500) == ends).all()
