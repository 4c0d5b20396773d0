"""How far a run has come, as its own files tell while it goes on. Importable without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come."""

    frames: int
    total: int  # frames asked for, in whole iterations; 0 where it is not known yet
    speed: float  # frames per second, evaluations included; 0 where it is not known yet
    returns: str
    asked: int = 0  # frames
    iteration: int = 1  # frames of one

    @property
    def seconds(self) -> float | None:
        """How long it takes from here to its end; None where it is not known yet."""
        return max(0, self.total - self.frames) / self.speed if self.speed > 0 else None

    @property
    def rounding(self) -> str:
        """What to say where more is played than was asked for; empty where not."""
        return rounding(self.asked, self.iteration)


def rounding(asked: int, iteration: int) -> str:
    """Says how many frames are played, in iterations of ``iteration``, where they are more than
    the ``asked`` ones; empty where not."""
    if asked % iteration == 0:
        return ""
    total = whole(asked, iteration)
    return f"{total:,} for the {asked:,} asked, in whole iterations of {iteration:,}"


def whole(asked: int, iteration: int) -> int:
    """The frames asked for, rounded up to whole iterations."""
    return -(-asked // iteration) * iteration


def run_progress(directory: Path) -> RunProgress:
    """Read from the run's own files; a line half written is passed over."""
    try:
        settings = json.loads((directory / "config.json").read_text())["settings"]
        asked, iteration = settings["total_frames"], _iteration(settings)
        timing = _last_lines(directory / "timing.jsonl", 65536)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return RunProgress(0, 0, 0.0, "")
    frames = timing[-1]["frames"] if timing else 0
    seconds = sum(
        line.get(k, 0.0) for line in timing[1:] for k in ("collect", "update", "evaluate")
    )
    speed = (frames - timing[0]["frames"]) / seconds if seconds else 0.0
    evaluated = _last_lines(directory / "evaluations.jsonl", 1 << 20)
    found = evaluated[-1]["returns"] if evaluated else {}
    words = [f"{name} {sum(values) / len(values):.2f}" for name, values in found.items()]
    total = whole(asked, iteration)
    return RunProgress(frames, total, speed, ", ".join(words), asked, iteration)


def _iteration(settings: Mapping[str, Any]) -> int:
    return settings.get("num_envs", 1) * settings.get("steps", 1)


def _last_lines(path: Path, size: int) -> list[dict[str, Any]]:
    """The whole lines among a JSONL file's last ``size`` bytes."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        data = file.read()
    first = 0 if len(data) < size else data.find(b"\n") + 1
    whole = data[first : data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]
