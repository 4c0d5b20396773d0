"""What algorithms amount to over all tasks of a suite: normalised scores, performance profiles, and
who is better than whom. Each team for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from marl.tables import statistics
from marl.tables.document import escaped
from marl.tables.record import RETURN, newest
from marl.tables.scores import (
    NONE,
    Final,
    Score,
    Summary,
    by_task,
    canonical,
    column,
    grouped,
    score,
)

ALL, NORMALISED = "all", "normalised"
TAUS = np.linspace(0, 1, 51)


@dataclass(frozen=True)
class Reference:
    """The returns of a task that score 0 and 1."""

    random: float  # mean over all records of the task
    best: float  # the best run's absolute metric

    @property
    def usable(self) -> bool:
        return self.best > self.random

    def normalised(self, value: float) -> float:
        return float(canonical(np.array((value - self.random) / (self.best - self.random))))


@dataclass(frozen=True)
class Level:
    """A point of a performance profile."""

    team: str
    algorithm: str
    tasks: int
    runs: int
    tau: float
    fraction: Score
    learning: int


@dataclass(frozen=True)
class Improvement:
    """How probably ``x`` is better than ``y``."""

    team: str
    x: str
    y: str
    tasks: int  # that both have
    probability: Score
    learning: int  # of both


def references(rows: Sequence[Final]) -> dict[tuple[str, ...], Reference]:
    """By task and team."""
    returns = [row for row in rows if row.metric == RETURN]
    return {
        key: Reference(
            float(np.mean([row.random for row in newest(group)])),
            max(row.absolute for row in group),
        )
        for key, group in grouped(returns, "task", "team").items()
    }


def _usable(rows: Sequence[Final]) -> list[Final]:
    known = references(rows)
    return [row for row in _alike(rows) if known[row.task, row.team].usable]


def _alike(rows: Sequence[Final]) -> list[Final]:
    """The returns of which numbers over several tasks are made: of every algorithm those of its
    newest version of learning."""
    returns = [row for row in rows if row.metric == RETURN]
    groups = grouped(returns, "algorithm").items()
    most = {algorithm: newest(group)[0].learning for (algorithm,), group in groups}
    return [row for row in returns if row.learning == most[row.algorithm]]


def aggregated(rows: Sequence[Final]) -> list[Summary]:
    """A row for every team and algorithm: normalised scores over all its tasks."""
    known, usable = references(rows), _usable(rows)
    final = by_task(usable, lambda r: known[r.task, r.team].normalised(r.final))
    absolute = by_task(usable, lambda r: known[r.task, r.team].normalised(r.absolute))
    sampled = by_task(usable, lambda r: known[r.task, r.team].normalised(r.sampled))
    found: list[Summary] = []
    for (team, algorithm), group in grouped(usable, "team", "algorithm").items():
        ends, best, drawn = (
            list(scores[team][algorithm].values()) for scores in (final, absolute, sampled)
        )
        found.append(
            Summary(
                ALL, team, NORMALISED, algorithm, len(best), min(map(len, best)),
                sum(map(len, best)),
                float(statistics.mean(ends)), score(ends), float(statistics.mean(best)),
                score(best), score(drawn), 0.0, float(column(group, "wall_clock").mean()), NONE,
                group[0].learning,
            )
        )  # fmt: skip
    return found


def profiles(rows: Sequence[Final]) -> list[Level]:
    """The share of runs whose normalised absolute metric is above each threshold."""
    known, usable = references(rows), _usable(rows)
    scores = by_task(usable, lambda r: known[r.task, r.team].normalised(r.absolute))
    learning = {row.algorithm: row.learning for row in usable}
    found: list[Level] = []
    for team, algorithms in scores.items():
        for algorithm, tasks in algorithms.items():
            above = statistics.profile(list(tasks.values()), TAUS)
            value = statistics.mean(above)
            low, high = statistics.interval(above, statistics.mean, 2000)
            runs = sum(map(len, above))
            found += [
                Level(
                    team, algorithm, len(tasks), runs, float(tau), Score(*map(float, numbers)),
                    learning[algorithm],
                )
                for tau, *numbers in zip(TAUS, value, low, high, strict=True)
            ]  # fmt: skip
    return found


def improvements(rows: Sequence[Final]) -> list[Improvement]:
    """Of every ordered pair of algorithms that share a task and a version of learning, by the
    absolute metric."""
    alike = _alike(rows)
    learning = {row.algorithm: row.learning for row in alike}
    found: list[Improvement] = []
    for team, algorithms in by_task(alike, lambda row: row.absolute).items():
        for x, y in permutations(algorithms, 2):
            tasks = [task for task in algorithms[x] if task in algorithms[y]]
            if not tasks or learning[x] != learning[y]:
                continue
            better, worse = ([algorithms[name][task] for task in tasks] for name in (x, y))
            low, high = statistics.improvement_interval(better, worse, 2000)
            value = float(statistics.improvement(better, worse))
            score = Score(value, float(low), float(high))
            found.append(Improvement(team, x, y, len(tasks), score, learning[x]))
    return found


def remarks(rows: Sequence[Final]) -> list[str]:
    """Where scores cannot be normalised, and which do not count over all tasks."""
    lost = {(r.algorithm, r.task, r.learning) for r in rows if r.metric == RETURN}
    lost -= {(r.algorithm, r.task, r.learning) for r in _alike(rows)}
    told = [
        f"{escaped(f'{algorithm} on {task}')} is of learning version {version}, older than on "
        "other tasks, so that it does not count in numbers over all tasks"
        for algorithm, task, version in sorted(lost)
    ]
    return told + [
        f"{escaped(f'{task}, team {team}')}: no run is better than random play, so the "
        "task does not count in normalised scores"
        for (task, team), found in references(rows).items()
        if not found.usable
    ]
