"""Run directories of runs that never were, for commands that read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from marl.benchmark.records import Cell
from marl.utils.versions import LEARNING
from tests.helpers import toy_records
from tests.helpers.toy_records import FRAMES, rewrite

SECONDS = 3.0  # of an evaluation's frames: collect 1.5, update 1, evaluate 0.5


def run(
    directory: Path,
    algorithm: str = "mappo",
    seed: int = 0,
    ends: Mapping[str, float] | None = None,
    task: str = "walk",
    frames: Iterable[int] = FRAMES,
    state: str = "finished",
    why: str = "",
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    learning: int = LEARNING,
    started: str = "2026-01-01T00:00:00+0000",
    commit: str = "0123456789abcdef",
) -> Path:
    """A run of ``toys/<task>`` that rises to ``ends``, with a state and clocks.

    ``options`` are those of its algorithm, and ``kwargs`` those of its task.
    """
    frames, ends = tuple(frames), ends or {"team": 5.0}
    cell = Cell(task, algorithm, seed)
    toy_records.run(directory, cell, ends, (), settings, frames, learning=learning)

    def configured(config: dict[str, Any]) -> dict[str, Any]:
        config["task"]["kwargs"] = dict(kwargs or {})
        for team in config["teams"].values():
            team["algorithm"] |= {"_type_": f"marl.algorithms:{algorithm.upper()}Config"}
            team["algorithm"] |= dict(options or {})
        return config

    rewrite(directory / "config.json", configured, resum=False)
    told = {"started": started, "commit": commit, "packages": {"torch": "2.0"}}
    rewrite(directory / "provenance.json", lambda old: {**old, **told}, resum=False)
    lines = [{"frames": 0, "evaluate": 0.5}]
    for frame in frames[1:]:
        lines.append({"frames": frame, "collect": 1.5, "update": 1.0, "frames_per_second": 80.0})
        lines.append({"frames": frame, "evaluate": 0.5})
    (directory / "timing.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    if state:
        (directory / "state.json").write_text(json.dumps({"state": state, "why": why}))
    return directory
