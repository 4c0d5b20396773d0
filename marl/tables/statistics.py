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
    middle = (slice(None),) * axis + (slice(cut, count - cut),)
    return runs[middle].mean(axis)


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


def iqm_interval(strata: Strata, resamples: int = RESAMPLES) -> Array:
    """Returns the 95% interval ``[2]`` of ``iqm`` for strata ``[runs]``.

    It is ``interval(strata)`` to rounding, without sorting each resample: how often every run was
    drawn, in the order of their values, says how many of its copies lie in the middle.
    """
    runs = np.concatenate(strata)
    order = np.argsort(runs, kind="stable")
    sizes = tuple(len(stratum) for stratum in strata)
    until = np.cumsum(_drawn_counts(sizes, resamples)[order], 0, dtype=np.int32)
    cut, count = len(runs) // 4, len(runs)
    weight = np.diff(np.clip(until, cut, count - cut), axis=0, prepend=np.int32(cut))
    return _quantiles(runs[order] @ weight.astype(np.float64) / (count - 2 * cut))


@lru_cache(maxsize=16)
def _drawn_counts(sizes: tuple[int, ...], resamples: int) -> NDArray[np.int32]:
    """Returns how often every run of all strata was drawn, ``[runs, resamples]``."""
    parts = zip(sample_indices(sizes, resamples), sizes, strict=True)
    return np.concatenate([_counts(index, size).T for index, size in parts])


def interval(strata: Strata, statistic: Statistic = iqm, resamples: int = RESAMPLES) -> Array:
    """Returns the 95% interval ``[2, ...]`` of a statistic by the stratified bootstrap, which
    resamples each task's runs with replacement.

    Args:
        strata: of every task, ``[runs, ...]``.
        statistic: such as ``iqm``.
        resamples: of the bootstrap.
    """
    return _quantiles(statistic(_resampled(strata, resamples), 1))


def profile_interval(above: Strata, resamples: int) -> Array:
    """Returns the 95% interval ``[2, taus]`` of the mean of ``profile``'s strata ``[runs, taus]``.

    It is ``interval(above, mean, resamples)``, from how often each run was drawn: sums of zeros and
    ones are exact in any order, and nothing of size resamples x runs x taus is held.
    """
    indices = sample_indices(tuple(len(runs) for runs in above), resamples)
    parts = zip(indices, above, strict=True)
    totals = [_counts(index, len(runs)).astype(np.float64) @ runs for index, runs in parts]
    return _quantiles(np.sum(totals, 0) / sum(map(len, above)))


def _counts(index: NDArray[np.int64], size: int) -> NDArray[np.int32]:
    """Returns how often each of ``size`` runs stands in a row of ``index``, ``[rows, size]``."""
    rows = np.arange(len(index))[:, None] * size
    flat = np.bincount((index + rows).ravel(), minlength=len(index) * size)
    return flat.reshape(len(index), size).astype(np.int32)


def improvement_interval(better: Strata, worse: Strata, resamples: int = RESAMPLES) -> Array:
    """Returns the 95% interval ``[2]`` of ``improvement``, with both algorithms' runs resampled.

    Args:
        better: scores of the one algorithm on every task, ``[runs]``.
        worse: scores of the other, in the same order of tasks.
        resamples: of the bootstrap.

    How often each run was drawn weighs its comparisons; sums of halves are exact in any order.
    """
    sizes = tuple(len(runs) for runs in (*better, *worse))
    counts = [
        _counts(index, size).astype(np.float64)
        for index, size in zip(sample_indices(sizes, resamples), sizes, strict=True)
    ]
    tasks = []
    for x, y, first, second in zip(
        better, worse, counts[: len(better)], counts[len(better) :], strict=True
    ):
        won = np.sign(x[:, None] - y) / 2 + 0.5  # [runs of x, runs of y]
        tasks.append(((first @ won) * second).sum(1) / won.size)
    return _quantiles(np.mean(tasks, 0))


def _quantiles(values: Array) -> Array:
    return np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _resampled(strata: Strata, resamples: int) -> list[Array]:
    indices = sample_indices(tuple(len(runs) for runs in strata), resamples)
    return [runs.take(index, 0) for runs, index in zip(strata, indices, strict=True)]


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
