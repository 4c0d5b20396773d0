"""The numbers of an iteration, by name: of the episodes that ended in it, and of the updates."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from marl.types import Metrics
from marl.utils import distributed


def read(episodes: Metrics, updates: Mapping[str, Metrics]) -> dict[str, float]:
    """Reads all of an iteration's numbers off the device at once, the ranks' means; those of a
    team's update as ``<name>/<team>``."""
    tensors = {**episodes, **named(updates)}
    means = distributed.average(torch.stack(list(tensors.values())))
    return dict(zip(tensors, means.tolist(), strict=True))


def named(updates: Mapping[str, Metrics]) -> Metrics:
    return {f"{k}/{team}": v for team, values in updates.items() for k, v in values.items()}


def diverged(numbers: Mapping[str, float], updates: Mapping[str, Metrics]) -> str:
    """Names the first number of an update that is not finite, such as ``policy_loss/team is nan``;
    empty where there is none."""
    wrong = (name for name in named(updates) if not math.isfinite(numbers[name]))
    return next((f"{name} is {numbers[name]}" for name in wrong), "")
