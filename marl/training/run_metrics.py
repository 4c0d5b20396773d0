"""The numbers of an iteration, by name: of the episodes that ended in it, and of the updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from marl.errors import Diverged
from marl.types import Metrics
from marl.utils import distributed


def read_metrics(episodes: Metrics, updates: Mapping[str, Metrics]) -> dict[str, float]:
    """Reads all of an iteration's numbers off the device at once, the ranks' means; those of a
    team's update as ``<name>/<team>``."""
    tensors = {**episodes, **named(updates)}
    means = distributed.average(torch.stack(list(tensors.values())))
    return dict(zip(tensors, means.tolist(), strict=True))


def named(updates: Mapping[str, Metrics]) -> Metrics:
    return {f"{k}/{team}": v for team, values in updates.items() for k, v in values.items()}


def check_finite(
    numbers: Mapping[str, float],
    updates: Mapping[str, Metrics],
    where: str,
    last: Callable[[], Path | None],
) -> None:
    """Checks the numbers of the updates.

    Args:
        where: the iteration, for the error.
        last: finds the newest checkpoint, for the error.

    Raises:
        Diverged: one is not finite.
    """
    for name in named(updates):
        if not math.isfinite(numbers[name]):
            raise Diverged(
                f"{name} is {numbers[name]} at {where}; the last good checkpoint is "
                f"{last() or 'none'}"
            )


def timing(frames: int, collect: float, update: float) -> dict[str, float]:
    """Returns the record of an iteration's seconds, and its frames per second."""
    speed = frames / (collect + update)
    return {"collect": collect, "update": update, "frames_per_second": speed}
