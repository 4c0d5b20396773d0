"""How far a run is, read from its own files while it runs. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes:
        frames: played so far.
        total: frames in all, in whole iterations; 0 where it is not known yet.
        speed: frames per second, evaluations included; 0 where it is not known yet.
        returns: mean returns of the last evaluation and its frames, as text.
        requested: frames that were asked for.
        iteration: frames of one iteration.
    """

    frames: int
    total: int
    speed: float
    returns: str
    requested: int = 0
    iteration: int = 1

    @property
    def seconds(self) -> float | None:
        """Seconds from now to the end; None where it is not known yet."""
        return max(0, self.total - self.frames) / self.speed if self.speed > 0 else None

    @property
    def rounding(self) -> str:
        """Message that more frames are played than were asked for; empty if not."""
        return rounding(self.requested, self.iteration)


def rounding(requested: int, iteration: int) -> str:
    """Returns the message that more frames are played than ``requested``; empty if not.

    Args:
        requested: frames that were asked for.
        iteration: frames of one iteration; only whole ones are played.
    """
    if requested % iteration == 0:
        return ""
    total = whole_iterations(requested, iteration)
    return f"{total:,} for the {requested:,} asked, in whole iterations of {iteration:,}"


def whole_iterations(requested: int, iteration: int) -> int:
    """Returns the frames of whole iterations.

    Args:
        requested: frames to play at least.
        iteration: frames of one iteration.
    """
    return -(-requested // iteration) * iteration


def run_progress(directory: Path) -> RunProgress:
    """Returns the progress of the run in ``directory``; half-written lines are skipped."""
    try:
        settings = json.loads((directory / "config.json").read_text())["settings"]
        requested, iteration = settings["total_frames"], _iteration(settings)
        timing = _last_lines(directory / "timing.jsonl", 65536)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return RunProgress(0, 0, 0.0, "")
    frames = timing[-1]["frames"] if timing else 0
    seconds = sum(
        line.get(k, 0.0) for line in timing[1:] for k in ("collect", "update", "evaluate")
    )
    speed = (frames - timing[0]["frames"]) / seconds if seconds else 0.0
    evaluations = _last_lines(directory / "evaluations.jsonl", 1 << 20)
    returns = evaluations[-1]["returns"] if evaluations else {}
    words = [f"{name} {sum(values) / len(values):.2f}" for name, values in returns.items()]
    if words:
        words[-1] += f" (at {evaluations[-1]['frames']:,})"
    total = whole_iterations(requested, iteration)
    return RunProgress(frames, total, speed, ", ".join(words), requested, iteration)


def _iteration(settings: Mapping[str, Any]) -> int:
    return settings.get("num_envs", 1) * settings.get("steps", 1)


def _last_lines(path: Path, size: int) -> list[dict[str, Any]]:
    """Returns the whole lines among a JSONL file's last ``size`` bytes."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        data = file.read()
    first = 0 if len(data) < size else data.find(b"\n") + 1
    complete = data[first : data.rfind(b"\n") + 1]
    return [json.loads(line) for line in complete.splitlines()]
