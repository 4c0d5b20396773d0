"""The evaluations of a run over frames and over seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from marl.comparison import overview
from marl.comparison.overview import Overview
from marl.errors import UserError
from marl.utils.jsonl import read_json, read_jsonl

PARTS = ("collect", "update", "evaluate")  # of a run's seconds


@dataclass(frozen=True)
class History:
    """A run with its whole learning curve."""

    #: The run in brief.
    run: Overview
    #: Frames at each evaluation.
    frames: tuple[int, ...]
    #: Seconds of collecting, updating and evaluating until the end of each evaluation, over all
    #: sessions of the run; NaN where the run has no ``timing.jsonl``, as records have none.
    seconds: tuple[float, ...]
    #: Mean return of each evaluation, by team.
    returns: Mapping[str, tuple[float, ...]]
    #: Mean return of random play, by team; without those where it was not measured.
    random: Mapping[str, float]
    #: Seconds of the whole run.
    wall_clock: float
    #: Frames per second of collecting and updating.
    frames_per_second: float
    #: Code that it ran with: the commit, and the version of torch.
    code: tuple[str, str]

    @property
    def video(self) -> Path | None:
        """Its film; None if there is none."""
        path = self.run.directory / "video.mp4"
        return path if path.exists() else None


def read(directory: Path, sampled: bool = False) -> History:
    """Returns a run with its learning curve.

    Args:
        directory: the run's directory.
        sampled: True for the episodes with sampled actions.

    Raises:
        UserError: a file of it cannot be read, it has no evaluation yet, or none with sampled
            actions.
    """
    run = overview.read(directory)
    try:
        evaluations = read_jsonl(directory / "evaluations.jsonl")
        timing = read_jsonl(directory / "timing.jsonl")
        if not evaluations:
            raise UserError(f"{str(directory)!r} has no evaluation yet ({run.state})")
        if sampled and run.config["settings"].get("evaluation") != "sampled":
            evaluations = [_sampled(directory, line) for line in evaluations]
        return _history(run, evaluations, timing)
    except overview.WRONG as error:
        reason = f"{type(error).__name__} {error}"
        raise UserError(f"{str(directory)!r} is not what a run writes ({reason})") from None


def _history(
    run: Overview, evaluations: Sequence[Mapping[str, Any]], timing: Sequence[Mapping[str, Any]]
) -> History:
    frames = tuple(int(line["frames"]) for line in evaluations)
    random = (read_json(run.directory / "random.json") or {}).get("returns", {})
    provenance = read_json(run.directory / "provenance.json") or {}
    clock = read_json(run.directory / "clock.json") or _clock(timing)
    return History(
        run, frames, _seconds(frames, timing),
        {name: tuple(_mean(e["returns"][name]) for e in evaluations) for name in run.returns},
        {name: _mean(values) for name, values in random.items()},
        float(clock["wall_clock"]), float(clock["frames_per_second"]),
        (str(provenance.get("commit")), str(provenance.get("packages", {}).get("torch"))),
    )  # fmt: skip


def _sampled(directory: Path, line: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of an evaluation with sampled actions."""
    if "sampled" not in line:
        raise UserError(
            f"{str(directory)!r} has no evaluations with sampled actions, as evaluation=both has"
        )
    return {"frames": line["frames"], **line["sampled"]}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _seconds(frames: Sequence[int], timing: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    """Returns the seconds until the end of each evaluation."""
    if not timing:
        return (math.nan,) * len(frames)
    sums = [0.0, *accumulate(_sum(line) for line in timing)]
    counts = [sum(line["frames"] <= frame for line in timing) for frame in frames]
    return tuple(sums[count] for count in counts)


def _sum(line: Mapping[str, Any]) -> float:
    return sum(line.get(part, 0.0) for part in PARTS)


def _clock(timing: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the seconds of a run, and its speed without evaluations; NaN without records."""
    if not timing:
        return {"wall_clock": math.nan, "frames_per_second": math.nan}
    learning = sum(line.get("collect", 0.0) + line.get("update", 0.0) for line in timing)
    speed = max(line["frames"] for line in timing) / learning if learning else math.nan
    return {"wall_clock": sum(map(_sum, timing)), "frames_per_second": speed}
