"""The rows of every table and plot: the scores of single runs, and of several runs together."""

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
    """A statistic with its 95% interval, whose ends are the value where there is only one run."""

    value: float = NONE
    low: float = NONE
    high: float = NONE


@dataclass(frozen=True)
class Final:
    """One quantity of one run: means over episodes. The fields are columns of ``final.csv``."""

    task: str
    algorithm: str
    seed: int
    team: str
    metric: str
    #: Mean of the last evaluation.
    final: float
    #: Mean of the best checkpoint, in new episodes.
    absolute: float
    #: Mean of the best checkpoint with sampled actions.
    sampled: float
    #: Mean of random play.
    random: float
    #: Frames played.
    frames: int
    #: Frames of the best checkpoint.
    best_frames: int
    #: Seconds.
    wall_clock: float
    frames_per_second: float
    #: Commit of the code.
    commit: str
    #: Version of learning.
    learning: int


@dataclass(frozen=True)
class Summary:
    """One quantity of an algorithm's runs on a task, or on all. The fields are columns of
    ``summary.csv``."""

    task: str
    team: str
    metric: str
    algorithm: str
    #: Number of tasks.
    tasks: int
    #: Seeds per task; the fewest where tasks differ.
    seeds: int
    #: Number of runs.
    runs: int
    #: Mean of the last evaluations.
    final_mean: float
    #: Interquartile mean of the last evaluations.
    final: Score
    #: Mean of the best checkpoints.
    absolute_mean: float
    #: Interquartile mean of the best checkpoints.
    absolute: Score
    #: Interquartile mean of the best checkpoints with sampled actions.
    sampled: Score
    #: Mean of random play.
    random: float
    #: Mean seconds of a run.
    wall_clock: float
    #: Mean over runs.
    frames_per_second: float
    #: Version of learning of the runs.
    learning: int


@dataclass(frozen=True)
class Point:
    """A point of a sample-efficiency curve. The fields are columns of ``curves.csv``."""

    task: str
    team: str
    algorithm: str
    #: Number of seeds.
    seeds: int
    #: Frames at the evaluation.
    frames: int
    #: Interquartile mean return over seeds.
    score: Score
    #: Mean return of random play.
    random: float
    #: Version of learning of the runs.
    learning: int


def canonical(values: Array) -> Array:
    """Returns values rounded to twelve significant digits, which no order of summation changes."""
    flat = [float(f"{value:.12g}") for value in np.ravel(values)]
    return np.array(flat, dtype=np.float64).reshape(np.shape(values))


def mean(episodes: Episodes | None) -> float:
    """Returns the mean over episodes; NaN for None."""
    return NONE if episodes is None else float(canonical(episodes.mean()))


def last(series: Series) -> float:
    """Returns the mean of the last evaluation; NaN where there is none."""
    return NONE if series.evaluations is None else mean(series.evaluations[-1])


def score(values: Sequence[Array]) -> Score:
    """Returns the interquartile mean of strata with its interval; NaN where a number is missing."""
    if any(np.isnan(runs).any() for runs in values):
        return Score()
    low, high = statistics.iqm_interval(values)
    return Score(float(statistics.iqm(values)), float(low), float(high))


def finals(selection: Selection) -> list[Final]:
    """Returns a row for every run, team and metric."""
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
    """Returns the rows by the values of ``fields``."""
    groups: dict[tuple[str, ...], list[Final]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, field) for field in fields), []).append(row)
    return groups


def summaries(rows: Sequence[Final]) -> list[Summary]:
    """Returns a row for every task, team, metric and algorithm."""
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
    """Returns one field of all rows, ``[rows]``.

    Args:
        rows: the rows.
        name: of the field, a number.
    """
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)


def curves(selection: Selection) -> list[Point]:
    """Returns the points of every task, team and algorithm: the interquartile mean return over
    seeds at each evaluation that all its seeds share."""
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
        score = Score(float(middle[i]), float(low[i]), float(high[i]))
        yield Point(task, team, algorithm, len(runs), frame, score, level, runs[0].learning)


def _evaluations(run: Run, team: str, frames: Sequence[int]) -> Array:
    """Returns the mean returns ``[frames]``."""
    evaluations = run.teams[team][RETURN].evaluations
    assert evaluations is not None
    at = [run.frames.index(frame) for frame in frames]
    return canonical(evaluations[at].mean(1))


def by_task(
    rows: Iterable[Final], value: Callable[[Final], float]
) -> dict[str, dict[str, dict[str, Array]]]:
    """Returns team -> algorithm -> task -> values ``[seeds]``.

    Args:
        rows: of which those of returns count.
        value: the number of a row.
    """
    teams: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        if row.metric == RETURN:
            tasks = teams.setdefault(row.team, {}).setdefault(row.algorithm, {})
            tasks.setdefault(row.task, []).append(value(row))
    return {
        team: {
            algorithm: {task: np.array(values) for task, values in tasks.items()}
            for algorithm, tasks in algorithms.items()
        }
        for team, algorithms in teams.items()
    }
