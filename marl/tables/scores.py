"""The rows behind every table and plot: what each run scored, and what runs scored together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from marl.tables import statistics
from marl.tables.record import RETURN, Episodes, Run, Series, newest
from marl.tables.selection import Selection
from marl.tables.statistics import Array

NONE = math.nan
CURVE_RESAMPLES = 2000  # of every evaluation


@dataclass(frozen=True)
class Score:
    """A statistic with its 95% interval; of one run there is none, and both ends are its value."""

    value: float = NONE
    low: float = NONE
    high: float = NONE


@dataclass(frozen=True)
class Final:
    """One quantity of one run: means over episodes."""

    task: str
    algorithm: str
    seed: int
    team: str
    metric: str
    final: float  # the last evaluation's
    absolute: float  # the best checkpoint's, played anew
    sampled: float  # as absolute, with sampled actions
    random: float  # random play
    frames: int
    best_frames: int
    wall_clock: float  # s
    frames_per_second: float
    commit: str
    learning: int  # the version of learning


@dataclass(frozen=True)
class Summary:
    """One quantity of an algorithm's runs on a task."""

    task: str
    team: str
    metric: str
    algorithm: str
    tasks: int
    seeds: int  # of each task; the fewest
    runs: int
    final_mean: float
    final: Score
    absolute_mean: float
    absolute: Score
    sampled: Score
    random: float
    wall_clock: float  # s, mean
    frames_per_second: float  # mean
    learning: int  # the runs' version of learning


@dataclass(frozen=True)
class Point:
    """A moment of a sample-efficiency curve."""

    task: str
    team: str
    algorithm: str
    seeds: int
    frames: int
    score: Score
    random: float
    learning: int


def canonical(values: Array) -> Array:
    """Twelve significant digits: what an order of summation may change is gone."""
    flat = [float(f"{value:.12g}") for value in np.ravel(values)]
    return np.array(flat, dtype=np.float64).reshape(np.shape(values))


def mean(episodes: Episodes | None) -> float:
    return NONE if episodes is None else float(canonical(episodes.mean()))


def last(series: Series) -> float:
    return NONE if series.evaluations is None else mean(series.evaluations[-1])


def score(values: Sequence[Array]) -> Score:
    """The interquartile mean of strata, of nothing where a number is missing."""
    if any(np.isnan(runs).any() for runs in values):
        return Score()
    low, high = statistics.interval(values)
    return Score(float(statistics.iqm(values)), float(low), float(high))


def finals(selection: Selection) -> list[Final]:
    """A row for every run, team and metric."""
    return [
        Final(
            run.cell.task, run.cell.algorithm, run.cell.seed, team, metric, last(series),
            mean(series.absolute), mean(series.sampled), mean(series.random), run.frames[-1],
            run.best_frames[team], run.clock["wall_clock"], run.clock["frames_per_second"],
            str(run.provenance.get("commit") or ""), run.learning,
        )
        for run in selection.runs
        for team, metrics in run.teams.items()
        for metric, series in metrics.items()
    ]  # fmt: skip


def grouped(rows: Iterable[Final], *fields: str) -> dict[tuple[str, ...], list[Final]]:
    groups: dict[tuple[str, ...], list[Final]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, field) for field in fields), []).append(row)
    return groups


def summaries(rows: Sequence[Final]) -> list[Summary]:
    """A row for every task, team, metric and algorithm."""
    levels = {
        key: float(np.mean([row.random for row in newest(group)]))
        for key, group in grouped(rows, "task", "team", "metric").items()
    }
    return [
        _summary(key, group, levels[key[:3]])
        for key, group in grouped(rows, "task", "team", "metric", "algorithm").items()
    ]


def _summary(key: tuple[str, ...], rows: Sequence[Final], level: float) -> Summary:
    task, team, metric, algorithm = key
    final, absolute, sampled = (column(rows, name) for name in ("final", "absolute", "sampled"))
    return Summary(
        task, team, metric, algorithm, 1, len(rows), len(rows), float(final.mean()), score([final]),
        float(absolute.mean()), score([absolute]), score([sampled]), level,
        float(column(rows, "wall_clock").mean()), float(column(rows, "frames_per_second").mean()),
        rows[0].learning,
    )  # fmt: skip


def column(rows: Sequence[Final], name: str) -> Array:
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)


def curves(selection: Selection) -> list[Point]:
    """Of every task, team and algorithm: the interquartile mean return over seeds at each
    evaluation that all its seeds share."""
    runs: dict[tuple[str, str, str], list[Run]] = {}
    for run in selection.runs:
        for team in run.teams:
            runs.setdefault((run.cell.task, team, run.cell.algorithm), []).append(run)
    levels: dict[tuple[str, str], list[Run]] = {}
    for (task, team, _), group in runs.items():
        levels.setdefault((task, team), []).extend(group)
    random = {
        place: float(np.mean([mean(run.teams[place[1]][RETURN].random) for run in newest(group)]))
        for place, group in levels.items()
    }
    return [
        point
        for (task, team, algorithm), group in runs.items()
        for point in _curve(task, team, algorithm, group, random[task, team])
    ]


def _curve(
    task: str, team: str, algorithm: str, runs: Sequence[Run], level: float
) -> Iterator[Point]:
    frames = sorted(set.intersection(*(set(run.frames) for run in runs)))
    values = np.stack([_evaluations(run, team, frames) for run in runs])
    middle = statistics.iqm([values])
    low, high = statistics.interval([values], resamples=CURVE_RESAMPLES)
    for i, frame in enumerate(frames):
        found = Score(float(middle[i]), float(low[i]), float(high[i]))
        yield Point(task, team, algorithm, len(runs), frame, found, level, runs[0].learning)


def _evaluations(run: Run, team: str, frames: Sequence[int]) -> Array:
    """Mean returns ``[frames]``."""
    evaluations = run.teams[team][RETURN].evaluations
    assert evaluations is not None
    at = [run.frames.index(frame) for frame in frames]
    return canonical(evaluations[at].mean(1))


def by_task(
    rows: Iterable[Final], value: Callable[[Final], float]
) -> dict[str, dict[str, dict[str, Array]]]:
    """Team -> algorithm -> task -> ``[seeds]`` of the rows' return."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        if row.metric == RETURN:
            tasks = found.setdefault(row.team, {}).setdefault(row.algorithm, {})
            tasks.setdefault(row.task, []).append(value(row))
    return {
        team: {
            algorithm: {task: np.array(values) for task, values in tasks.items()}
            for algorithm, tasks in algorithms.items()
        }
        for team, algorithms in found.items()
    }
