"""Metrics of an iteration, by name: of the episodes that ended in it, and of the updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch

from marl.errors import Diverged
from marl.training.checkpoint import Checkpoints
from marl.training.logging import Log, drop_nonfinite
from marl.training.stages import Stages
from marl.types import Metrics
from marl.utils import distributed


def read_metrics(episodes: Metrics, updates: Mapping[str, Metrics]) -> dict[str, float]:
    """Reads all metrics of an iteration from the device at once, as means over ranks.

    Args:
        episodes: metrics of the episodes that ended.
        updates: statistics of the updates, by team.

    Returns:
        Numbers by name; statistics of a team's update are named ``<name>/<team>``.
    """
    tensors = {**episodes, **flatten(updates)}
    means = distributed.average(torch.stack(list(tensors.values())))
    return dict(zip(tensors, means.tolist(), strict=True))


def flatten(updates: Mapping[str, Metrics]) -> Metrics:
    """Returns the statistics of all teams by ``<name>/<team>``."""
    return {f"{k}/{team}": v for team, values in updates.items() for k, v in values.items()}


def check_finite(
    numbers: Mapping[str, float],
    updates: Mapping[str, Metrics],
    iteration: str,
    last_checkpoint: Callable[[], Path | None],
) -> None:
    """Checks the statistics of the updates.

    Args:
        numbers: metrics of the iteration, from ``read_metrics``.
        updates: statistics of the updates, by team.
        iteration: description of the iteration, for the error.
        last_checkpoint: returns the newest checkpoint, for the error.

    Raises:
        Diverged: a statistic is not finite.
    """
    for name in flatten(updates):
        if not math.isfinite(numbers[name]):
            raise Diverged(
                f"{name} is {numbers[name]} at {iteration}; the last good checkpoint is "
                f"{last_checkpoint() or 'none'}"
            )


class Run(Protocol):
    """The parts of an ``Experiment`` that the records of an iteration come from."""

    frames: int
    iteration: int
    stages: Stages
    checkpoints: Checkpoints
    log: Log


def log_iteration(
    run: Run,
    numbers: Mapping[str, float],
    updates: Mapping[str, Metrics],
    seconds: Mapping[str, float],
) -> None:
    """Logs an iteration, and checks the statistics of its updates before.

    Args:
        run: the run, after the iteration.
        numbers: metrics of the iteration, from ``read_metrics``.
        updates: statistics of the updates, by team.
        seconds: its clocks, from ``timing``.

    Raises:
        Diverged: a statistic is not finite.
    """
    where = f"iteration {run.iteration} ({run.frames:,} frames)"
    check_finite(numbers, updates, where, run.checkpoints.last)
    about = {"frames": run.frames, "iteration": run.iteration, **run.stages.record()}
    run.log.log("metrics", {**about, **drop_nonfinite(numbers)})
    run.log.log("timing", {"frames": run.frames, **seconds})


def timing(frames: int, collect: float, update: float) -> dict[str, float]:
    """Returns the record of an iteration's clocks.

    Args:
        frames: frames of the iteration, of all ranks.
        collect: seconds of collecting.
        update: seconds of updating.
    """
    speed = frames / (collect + update)
    return {"collect": collect, "update": update, "frames_per_second": speed}
