"""The stages of a run: which one is the present one, and when it is over."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from marl.algorithm import Algorithm
from marl.training.build import MakeEnv
from marl.training.curriculum import Stage, changed_task, parse
from marl.training.settings import Settings
from marl.utils import distributed
from marl.utils.capabilities import learns


class Stages:
    """The stages of a run's curriculum; without one a single stage, which no record names.

    Args:
        task: the run's task.
        settings: the run's settings.
    """

    def __init__(self, task: MakeEnv, settings: Settings):
        self.run_task, self.settings = task, settings
        self.stages = parse(settings.curriculum) or [Stage()]
        self.number = 0  # of the present stage
        self.passed = False  # whether an evaluation has reached an end of the present stage

    def __len__(self) -> int:
        return len(self.stages)

    @property
    def present(self) -> Stage:
        """The present stage."""
        return self.stages[self.number]

    @property
    def is_last(self) -> bool:
        """Whether the present stage lasts to the end of the run."""
        return self.number == len(self) - 1

    def task(self, number: int) -> MakeEnv:
        """Returns the task of the stage with this number, counted from 0."""
        return changed_task(self.run_task, self.stages[number].task)

    def settings_of(self, number: int) -> Settings:
        """Returns the run's settings in the stage with this number, counted from 0."""
        changes = self.stages[number].settings
        return replace(self.settings, **changes) if changes else self.settings

    def record(self) -> dict[str, int]:
        """Returns what each record says of the present stage: its number, counted from 1."""
        return {"stage": self.number + 1} if len(self) > 1 else {}

    def describe(self, number: int) -> str:
        """Returns a stage in words, by its number counted from 0."""
        stage = self.stages[number]
        return f"{number + 1} of {len(self)}, to {stage.end}: {stage.changes}"

    def observe(self, record: Mapping[str, Any], teams: Mapping[str, Algorithm]) -> None:
        """Takes note of an evaluation, which may end the present stage; every rank must call it.

        Args:
            record: ``returns`` by team and ``metrics`` by name; only that of rank 0 is read.
            teams: algorithms by team.
        """
        if self.present.reads_evaluations:
            only = next((name for name, team in teams.items() if learns(team)), "")
            reached = not distributed.rank() and has_reached(self.present, record, only)
            self.passed = bool(distributed.maximum(int(reached)))

    def is_over(self, frames: int) -> bool:
        """Returns whether the present stage ends at ``frames`` frames of the run."""
        end = self.present.frames
        return not self.is_last and (self.passed or (end is not None and frames >= end))

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint."""
        return {"number": self.number, "passed": self.passed}


def has_reached(stage: Stage, record: Mapping[str, Any], only: str) -> bool:
    """Returns whether an evaluation has reached an end of a stage.

    Args:
        stage: the stage.
        record: ``returns`` by team and ``metrics`` by name, a number for each episode.
        only: name of the only team that learns.
    """
    returns, metrics = record["returns"], record["metrics"]
    return (
        any(statistics.fmean(returns[team or only]) >= x for team, x in stage.returns.items())
        or any(_mean(metrics, name) >= x for name, x in stage.metrics.items())
        or any(_mean(metrics, name) <= x for name, x in stage.metrics_below.items())
    )


def _mean(metrics: Mapping[str, Sequence[float]], name: str) -> float:
    return statistics.fmean(metrics.get(name) or [float("nan")])
