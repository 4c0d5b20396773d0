"""The numbers of a comparison: curves over frames and seconds, and final returns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from marl.comparison.groups import Group
from marl.tables import statistics
from marl.tables.scores import CURVE_RESAMPLES, Score, canonical, score

NONE = math.nan


@dataclass(frozen=True)
class Point:
    """A point of a learning curve. The fields are columns of ``curves.csv``."""

    task: str
    team: str
    #: Name of the group: the algorithm and what differs.
    algorithm: str
    #: Number of seeds.
    seeds: int
    #: Frames at the evaluation.
    frames: int
    #: Mean seconds of the runs until then.
    seconds: float
    #: Interquartile mean of the seeds' mean returns.
    score: Score
    #: Mean return of random play.
    random: float


@dataclass(frozen=True)
class Final:
    """The end of a group's curve, of one team. The fields are columns of ``final.csv``."""

    task: str
    team: str
    #: Name of the group: the algorithm and what differs.
    group: str
    #: Number of seeds.
    seeds: int
    #: Interquartile mean of the seeds' mean returns in the last evaluation that all share.
    final: Score
    #: Frames at that evaluation.
    frames: int
    #: Mean hours of a run.
    hours: float
    #: Mean over runs.
    frames_per_second: float
    #: Mean return of random play.
    random: float


def points(groups: Sequence[Group]) -> Iterator[Point]:
    """Yields the points of every group and team.

    Points are the evaluations that all seeds of the group share, with intervals as in the tables.

    Args:
        groups: the groups.
    """
    for group in groups:
        frames = group.frames
        seconds = np.mean([_at(run.frames, run.seconds, frames) for run in group.runs], 0)
        for team in group.teams:
            values = _returns(group, team)
            middle = statistics.iqm([values])
            low, high = statistics.interval([values], resamples=CURVE_RESAMPLES)
            for i, frame in enumerate(frames):
                ends = Score(float(middle[i]), float(low[i]), float(high[i]))
                yield Point(
                    group.task, team, group.label, len(group.runs), frame, float(seconds[i]), ends,
                    _random(group, team),
                )  # fmt: skip


def finals(groups: Sequence[Group]) -> list[Final]:
    """Returns a row for every group and team; within a task and team the best first.

    Args:
        groups: the groups.
    """
    rows = [
        Final(
            group.task, team, group.label, len(group.runs), score([_returns(group, team)[:, -1]]),
            group.frames[-1], float(np.mean([run.wall_clock for run in group.runs])) / 3600,
            float(np.mean([run.frames_per_second for run in group.runs])), _random(group, team),
        )
        for group in groups
        for team in group.teams
    ]  # fmt: skip
    teams = list(dict.fromkeys(row.team for row in rows))
    return sorted(rows, key=lambda row: (row.task, teams.index(row.team), -row.final.value))


def _returns(group: Group, team: str) -> statistics.Array:
    """Returns the mean returns of all seeds, ``[seeds, evaluations]``."""
    frames = group.frames
    return canonical(np.stack([_at(r.frames, r.returns[team], frames) for r in group.runs]))


def _at(own: Sequence[int], values: Sequence[float], frames: Sequence[int]) -> statistics.Array:
    """Returns a run's values at some of its evaluations."""
    by_frame = dict(zip(own, values, strict=True))
    return np.array([by_frame[frame] for frame in frames], dtype=np.float64)


def _random(group: Group, team: str) -> float:
    """Returns the mean return of random play; NaN where no run measured it."""
    values = [run.random[team] for run in group.runs if team in run.random]
    return float(np.mean(values)) if values else NONE
