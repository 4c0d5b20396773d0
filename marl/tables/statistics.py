"""What several runs amount to (Agarwal et al. 2021): interquartile means, stratified bootstrap
intervals, performance profiles, probabilities of improvement.

A *stratum* is the runs of one algorithm on one task: an array ``[runs, ...]``. A statistic takes
strata with any axes before those of its runs: it reads ``[runs, ...]`` and the bootstrap's
``[resamples, runs, ...]`` alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Strata = Sequence[Array]
Statistic = Callable[[Strata, int], Array]  # (strata, axis of the runs) -> without that axis

RESAMPLES = 5000
LEVEL = 0.95
SEED = 0


def iqm(strata: Strata, axis: int = 0) -> Array:
    """The interquartile mean over all runs of all tasks: a quarter of them, rounded down, is left
    out at either end. Fewer than four runs are all kept."""
    runs = np.sort(np.concatenate(strata, axis), axis)
    count = runs.shape[axis]
    cut = count // 4
    return np.take(runs, range(cut, count - cut), axis).mean(axis)


def mean(strata: Strata, axis: int = 0) -> Array:
    """The mean over all runs of all tasks."""
    return np.concatenate(strata, axis).mean(axis)


def profile(strata: Strata, taus: Array) -> list[Array]:
    """Per run and threshold ``[runs, taus]`` 1 where the run's score is above it: the ``mean`` over
    runs is the performance profile."""
    return [(runs[:, None] > taus).astype(np.float64) for runs in strata]


def improvement(better: Strata, worse: Strata, axis: int = 0) -> Array:
    """How probably a run of one algorithm scores higher than one of another on the same task, ties
    counting half (Mann-Whitney), the mean over tasks. Strata are matched by their task."""
    tasks = []
    for x, y in zip(better, worse, strict=True):
        first, second = np.expand_dims(x, axis + 1), np.expand_dims(y, axis)
        won = np.sign(first - second) / 2 + 0.5
        tasks.append(won.mean((axis, axis + 1)))
    return np.mean(tasks, 0)


def interval(strata: Strata, statistic: Statistic = iqm, resamples: int = RESAMPLES) -> Array:
    """The 95% interval ``[2, ...]`` of a statistic by the stratified bootstrap: every task's runs
    are drawn anew with replacement, as many as there are."""
    return _quantiles(statistic(_resampled(strata, resamples), 1))


def improvement_interval(better: Strata, worse: Strata, resamples: int = RESAMPLES) -> Array:
    """The 95% interval ``[2]`` of ``improvement``: both algorithms' runs are drawn anew."""
    drawn = _resampled([*better, *worse], resamples)
    return _quantiles(improvement(drawn[: len(better)], drawn[len(better) :], 1))


def _quantiles(values: Array) -> Array:
    return np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _resampled(strata: Strata, resamples: int) -> list[Array]:
    indices = draws(tuple(len(runs) for runs in strata), resamples)
    return [runs[index] for runs, index in zip(strata, indices, strict=True)]


@lru_cache(maxsize=256)
def draws(sizes: tuple[int, ...], resamples: int) -> tuple[NDArray[np.int64], ...]:
    """Indices ``[resamples, size]`` for each stratum, always the same ones.

    They are taken from the bits of PCG64, which NumPy promises not to change, as it does not for
    its ``Generator``; the remainder favours no index by more than 2^-50.
    """
    bits = np.random.PCG64(SEED).random_raw(resamples * sum(sizes))
    parts = np.split(bits, np.cumsum([resamples * size for size in sizes])[:-1])
    return tuple(
        (part % np.uint64(size)).astype(np.int64).reshape(resamples, size)
        for part, size in zip(parts, sizes, strict=True)
    )
