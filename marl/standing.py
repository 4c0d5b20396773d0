"""How far a run has come, as its own files tell while it goes on. Importable without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Standing:
    """How far a run has come."""

    frames: int
    total: int  # 0 where it is not known yet
    speed: float  # frames per second, evaluations included; 0 where it is not known yet
    returns: str


def standing(directory: Path) -> Standing:
    """Read from the run's own files; a line half written is passed over."""
    try:
        total = json.loads((directory / "config.json").read_text())["settings"]["total_frames"]
        timing = _last_lines(directory / "timing.jsonl", 65536)
    except (OSError, ValueError):
        return Standing(0, 0, 0.0, "")
    frames = timing[-1]["frames"] if timing else 0
    seconds = sum(
        line.get(k, 0.0) for line in timing[1:] for k in ("collect", "update", "evaluate")
    )
    speed = (frames - timing[0]["frames"]) / seconds if seconds else 0.0
    evaluated = _last_lines(directory / "evaluations.jsonl", 1 << 20)
    found = evaluated[-1]["returns"] if evaluated else {}
    words = [f"{name} {sum(values) / len(values):.2f}" for name, values in found.items()]
    return Standing(frames, total, speed, ", ".join(words))


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
