"""Comparisons of algorithms over all tasks of a suite: normalised scores, performance profiles and
probabilities of improvement, for each team by itself."""

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

    #: Mean return of random play over all records of the task.
    random: float
    #: The best run's absolute metric.
    best: float

    @property
    def usable(self) -> bool:
        """Whether any run is better than random play."""
        return self.best > self.random

    def normalised(self, value: float) -> float:
        """Returns the score of a return."""
        return float(canonical(np.array((value - self.random) / (self.best - self.random))))


@dataclass(frozen=True)
class Level:
    """A point of a performance profile (Agarwal et al. 2021)."""

    team: str
    algorithm: str
    #: Number of tasks.
    tasks: int
    #: Number of runs of all tasks.
    runs: int
    #: Normalised score.
    tau: float
    #: Share of runs with a higher score.
    fraction: Score
    #: Version of learning of the runs.
    learning: int


@dataclass(frozen=True)
class Improvement:
    """The probability that algorithm ``x`` is better than ``y`` (Agarwal et al. 2021)."""

    team: str
    x: str
    y: str
    #: Number of tasks that both have.
    tasks: int
    #: Probability that a run of ``x`` scores higher than one of ``y`` on the same task.
    probability: Score
    #: Version of learning of both.
    learning: int


def references(rows: Sequence[Final]) -> dict[tuple[str, ...], Reference]:
    """Returns the references by task and team."""
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
    """Returns the rows of returns that count over several tasks: each algorithm's of its newest
    version of learning."""
    returns = [row for row in rows if row.metric == RETURN]
    groups = grouped(returns, "algorithm").items()
    latest = {algorithm: newest(group)[0].learning for (algorithm,), group in groups}
    return [row for row in returns if row.learning == latest[row.algorithm]]


def aggregated(rows: Sequence[Final]) -> list[Summary]:
    """Returns a row for every team and algorithm: normalised scores over all its tasks."""
    known, usable = references(rows), _usable(rows)
    final = by_task(usable, lambda r: known[r.task, r.team].normalised(r.final))
    absolute = by_task(usable, lambda r: known[r.task, r.team].normalised(r.absolute))
    sampled = by_task(usable, lambda r: known[r.task, r.team].normalised(r.sampled))
    summaries: list[Summary] = []
    for (team, algorithm), group in grouped(usable, "team", "algorithm").items():
        last, best, noisy = (
            list(scores[team][algorithm].values()) for scores in (final, absolute, sampled)
        )
        summaries.append(
            Summary(
                ALL, team, NORMALISED, algorithm, len(best), min(map(len, best)),
                sum(map(len, best)),
                float(statistics.mean(last)), score(last), float(statistics.mean(best)),
                score(best), score(noisy), 0.0, float(column(group, "wall_clock").mean()), NONE,
                group[0].learning,
            )
        )  # fmt: skip
    return summaries


def profiles(rows: Sequence[Final]) -> list[Level]:
    """Returns the share of runs whose normalised absolute metric is above each threshold."""
    known, usable = references(rows), _usable(rows)
    scores = by_task(usable, lambda r: known[r.task, r.team].normalised(r.absolute))
    learning = {row.algorithm: row.learning for row in usable}
    levels: list[Level] = []
    for team, algorithms in scores.items():
        for algorithm, tasks in algorithms.items():
            above = statistics.profile(list(tasks.values()), TAUS)
            value = statistics.mean(above)
            low, high = statistics.profile_interval(above, 2000)
            runs = sum(map(len, above))
            levels += [
                Level(
                    team, algorithm, len(tasks), runs, float(tau), Score(*map(float, numbers)),
                    learning[algorithm],
                )
                for tau, *numbers in zip(TAUS, value, low, high, strict=True)
            ]  # fmt: skip
    return levels


def improvements(rows: Sequence[Final]) -> list[Improvement]:
    """Returns the probability of improvement in the absolute metric, for every ordered pair of
    algorithms that share a task and a version of learning."""
    alike = _alike(rows)
    learning = {row.algorithm: row.learning for row in alike}
    pairs: list[Improvement] = []
    for team, algorithms in by_task(alike, lambda row: row.absolute).items():
        for x, y in permutations(algorithms, 2):
            tasks = [task for task in algorithms[x] if task in algorithms[y]]
            if not tasks or learning[x] != learning[y]:
                continue
            better, worse = ([algorithms[name][task] for task in tasks] for name in (x, y))
            low, high = statistics.improvement_interval(better, worse, 2000)
            value = float(statistics.improvement(better, worse))
            score = Score(value, float(low), float(high))
            pairs.append(Improvement(team, x, y, len(tasks), score, learning[x]))
    return pairs


def remarks(rows: Sequence[Final]) -> list[str]:
    """Returns sentences on tasks whose scores cannot be normalised, and on runs that do not count
    over all tasks."""
    excluded = {(r.algorithm, r.task, r.learning) for r in rows if r.metric == RETURN}
    excluded -= {(r.algorithm, r.task, r.learning) for r in _alike(rows)}
    older = [
        f"{escaped(f'{algorithm} on {task}')} is of learning version {version}, older than on "
        "other tasks, so that it does not count in numbers over all tasks"
        for algorithm, task, version in sorted(excluded)
    ]
    return older + [
        f"{escaped(f'{task}, team {team}')}: no run is better than random play, so the "
        "task does not count in normalised scores"
        for (task, team), reference in references(rows).items()
        if not reference.usable
    ]
