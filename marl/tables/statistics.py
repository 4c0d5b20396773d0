"""Statistics over several runs (Agarwal et al. 2021): interquartile means, stratified bootstrap
intervals, performance profiles and probabilities of improvement.

A *stratum* is the runs of one algorithm on one task: an array ``[runs, ...]``. A statistic takes
the axis of the runs, and so reads ``[runs, ...]`` and the bootstrap's ``[resamples, runs, ...]``.
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
    """Returns the interquartile mean over all runs of all tasks. A quarter of the runs, rounded
    down, is left out at either end; of fewer than four runs none is.

    Args:
        strata: of every task, ``[..., runs, ...]``.
        axis: of the runs.
    """
    runs = np.sort(np.concatenate(strata, axis), axis)
    count = runs.shape[axis]
    cut = count // 4
    return np.take(runs, range(cut, count - cut), axis).mean(axis)


def mean(strata: Strata, axis: int = 0) -> Array:
    """Returns the mean over all runs of all tasks.

    Args:
        strata: of every task, ``[..., runs, ...]``.
        axis: of the runs.
    """
    return np.concatenate(strata, axis).mean(axis)


def profile(strata: Strata, taus: Array) -> list[Array]:
    """Returns, of every task, ``[runs, taus]``: 1 where the run's score is above the threshold. The
    ``mean`` over runs is the performance profile.

    Args:
        strata: scores of every task, ``[runs]``.
        taus: thresholds, ``[taus]``.
    """
    return [(runs[:, None] > taus).astype(np.float64) for runs in strata]


def improvement(better: Strata, worse: Strata, axis: int = 0) -> Array:
    """Returns the probability that a run of one algorithm scores higher than one of another on the
    same task, where ties count half (Mann-Whitney), as the mean over tasks.

    Args:
        better: scores of the one algorithm on every task, ``[..., runs]``.
        worse: scores of the other, in the same order of tasks.
        axis: of the runs.
    """
    tasks = []
    for x, y in zip(better, worse, strict=True):
        first, second = np.expand_dims(x, axis + 1), np.expand_dims(y, axis)
        won = np.sign(first - second) / 2 + 0.5
        tasks.append(won.mean((axis, axis + 1)))
    return np.mean(tasks, 0)


def interval(strata: Strata, statistic: Statistic = iqm, resamples: int = RESAMPLES) -> Array:
    """Returns the 95% interval ``[2, ...]`` of a statistic by the stratified bootstrap, which
    resamples each task's runs with replacement.

    Args:
        strata: of every task, ``[runs, ...]``.
        statistic: such as ``iqm``.
        resamples: of the bootstrap.
    """
    return _quantiles(statistic(_resampled(strata, resamples), 1))


def improvement_interval(better: Strata, worse: Strata, resamples: int = RESAMPLES) -> Array:
    """Returns the 95% interval ``[2]`` of ``improvement``, with both algorithms' runs resampled.

    Args:
        better: scores of the one algorithm on every task, ``[runs]``.
        worse: scores of the other, in the same order of tasks.
        resamples: of the bootstrap.
    """
    samples = _resampled([*better, *worse], resamples)
    return _quantiles(improvement(samples[: len(better)], samples[len(better) :], 1))


def _quantiles(values: Array) -> Array:
    return np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _resampled(strata: Strata, resamples: int) -> list[Array]:
    indices = sample_indices(tuple(len(runs) for runs in strata), resamples)
    return [runs[index] for runs, index in zip(strata, indices, strict=True)]


@lru_cache(maxsize=256)
def sample_indices(sizes: tuple[int, ...], resamples: int) -> tuple[NDArray[np.int64], ...]:
    """Returns random indices ``[resamples, size]`` for each stratum, always the same ones.

    They come from the bits of PCG64, which NumPy promises not to change, unlike its ``Generator``;
    the remainder favours no index by more than 2^-50.

    Args:
        sizes: runs of each stratum.
        resamples: of the bootstrap.
    """
    bits = np.random.PCG64(SEED).random_raw(resamples * sum(sizes))
    parts = np.split(bits, np.cumsum([resamples * size for size in sizes])[:-1])
    return tuple(
        (part % np.uint64(size)).astype(np.int64).reshape(resamples, size)
        for part, size in zip(parts, sizes, strict=True)
    )
