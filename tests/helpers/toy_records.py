"""Records of runs that never were: their numbers are drawn around known means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marl.benchmark import records
from marl.benchmark.records import Cell

SETTINGS = {
    "total_frames": 1000, "num_envs": 10, "steps": 10, "evaluation_interval": 200,
    "evaluation_episodes": 4, "absolute_episodes": 8, "device": "cpu", "threads": 1,
}  # fmt: skip
FRAMES = (0, 200, 400, 600, 800, 1000)
RANDOM = -10.0  # the return of random play

Level = Callable[[Cell, str], float]  # the last policy's return of a team


def suite(
    folder: Path, cells: Iterable[Cell], level: Level, teams: Iterable[str] = ("team",), **more: Any
) -> Path:
    """Writes a record for each cell; ``more`` as of ``record``."""
    for cell in cells:
        record(folder, cell, {team: level(cell, team) for team in teams}, **more)
    return folder


def grid(tasks: str, algorithms: str, seeds: int) -> list[Cell]:
    """Tasks and algorithms in words with spaces between."""
    return [
        Cell(task, algorithm, seed)
        for task in tasks.split()
        for algorithm in algorithms.split()
        for seed in range(seeds)
    ]


def record(
    folder: Path,
    cell: Cell,
    ends: Mapping[str, float],
    metrics: Iterable[str] = ("success",),
    settings: Mapping[str, Any] | None = None,
    frames: Iterable[int] = FRAMES,
    noise: float = 0.0,
    joint: bool = False,
    learning: int | None = None,
) -> Path:
    """A run that rises in a line from random play to ``ends``, by team; its absolute metric is one
    better, sampled play one worse, its metrics a hundredth of the first team's return. Without a
    version of ``learning`` it is as the first ones were, and counts as 1."""
    place = folder.parent / ".runs" / folder.name / cell.folder
    run(place, cell, ends, metrics, settings, frames, noise, joint, learning)
    return records.write(place, folder, cell)


def run(
    run: Path,
    cell: Cell,
    ends: Mapping[str, float],
    metrics: Iterable[str] = ("success",),
    settings: Mapping[str, Any] | None = None,
    frames: Iterable[int] = FRAMES,
    noise: float = 0.0,
    joint: bool = False,
    learning: int | None = None,
) -> None:
    """Writes the run directory of a record; arguments as of ``record``."""
    run.mkdir(parents=True, exist_ok=True)
    told = {**SETTINGS, "seed": cell.seed, **(settings or {})}
    random = np.random.default_rng([cell.seed, *cell.task.encode(), *cell.algorithm.encode()])
    few, many = told["evaluation_episodes"], told["absolute_episodes"]

    def play(levels: Mapping[str, float], episodes: int) -> dict[str, Any]:
        returns = {
            team: (value + noise * random.standard_normal(episodes)).tolist()
            for team, value in levels.items()
        }
        first = next(iter(returns.values()))
        return {"returns": returns, "metrics": {m: [v / 100 for v in first] for m in metrics}}

    lines = []
    for frame in frames:
        share = min(1.0, frame / told["total_frames"])
        rise = {team: RANDOM + share * (end - RANDOM) for team, end in ends.items()}
        lines.append(json.dumps({"frames": frame, **play(rise, few)}) + "\n")
    absolute: dict[str, Any] = {}
    for team in ends:
        best = play({name: end + 1 for name, end in ends.items()}, many)
        sampled = play({name: end - 1 for name, end in ends.items()}, many)["returns"]
        absolute[team] = {"frames": 800, **best, "sampled": sampled}
        if joint:
            cut = play({name: end - 2 for name, end in ends.items()}, many)["returns"]
            absolute[team] |= {"cut": cut, "density": {team: [0.5]}}
    algorithm = {"_type_": f"algorithms.{cell.algorithm}:Config", "gamma": 0.99}
    config = {
        **({} if learning is None else {"learning": learning}),
        "task": {"_type_": "envs:Task", "name": f"toys/{cell.task}", "kwargs": {}},
        "settings": {"_type_": "marl.training.settings:Settings", **told},
        "teams": {
            team: {"_type_": "marl.training.teams:Team", "groups": [team], "algorithm": algorithm}
            for team in ends
        },
    }
    files = {
        "config.json": config,
        "random.json": play(dict.fromkeys(ends, RANDOM), few),
        "absolute.json": absolute,
        "provenance.json": {
            "commit": "0123456789abcdef", "processor": "Toy", "cores": 2, "threads": 1, "gpu": None,
        },
    }  # fmt: skip
    for name, value in files.items():
        (run / name).write_text(json.dumps(value) + "\n")
    (run / "evaluations.jsonl").write_text("".join(lines))
    (run / "timing.jsonl").write_text(
        json.dumps({"frames": told["total_frames"], "collect": 6.0, "update": 4.0}) + "\n"
    )


def rewrite(path: Path, change: Callable[[Any], Any], resum: bool = True) -> None:
    """Edits a JSON or JSONL file of a record as a hand would, the checksums too or not."""
    if path.suffix == ".jsonl":
        lines = change([json.loads(line) for line in path.read_text().splitlines()])
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        path.write_text(json.dumps(change(json.loads(path.read_text()))) + "\n")
    if resum:
        resumed(path.parent)


def resumed(folder: Path) -> None:
    """New checksums for what is there."""
    names = sorted(path.name for path in folder.iterdir() if path.name != records.SUMS)
    sums = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / records.SUMS).write_text("".join(sums))
