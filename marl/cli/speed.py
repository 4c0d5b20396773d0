"""``marl speed``: steady frames/s of a configuration, warm-up excluded, split into its parts."""

from __future__ import annotations

import json
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from marl import collect
from marl.cli import compose
from marl.experiment import Experiment
from marl.runs import provenance
from marl.seeding import evaluation_seed


def measure(options: Namespace) -> int:
    run = compose.composed(options.settings)
    with tempfile.TemporaryDirectory() as folder:
        run.directory, run.progress = str(Path(folder) / "run"), False
        experiment = compose.build(run)
        seconds = time_parts(experiment, options.warmup, options.iterations)
        experiment.close()
    frames = options.iterations * experiment.settings.frames_per_iteration
    figures = {
        "task": run.task.name,
        "algorithm": type(run.algorithm).__name__.removesuffix("Config").lower(),
        "num_envs": run.num_envs,
        "steps": run.steps,
        "settings": options.settings,
        "frames_per_second": frames / (seconds["collect"] + seconds["update"]),
        "seconds_per_iteration": {k: v / options.iterations for k, v in seconds.items()},
        **provenance(),
    }
    show(figures)
    if options.json:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        with open(options.json, "a") as file:
            file.write(json.dumps(figures) + "\n")
    return 0


def time_parts(experiment: Experiment, warmup: int, iterations: int) -> dict[str, float]:
    """Seconds spent collecting, updating and evaluating over ``iterations``."""
    seconds = {"collect": 0.0, "update": 0.0, "evaluate": 0.0}
    for number in range(warmup + iterations):
        marks = [clock(experiment)]
        rollout, _ = experiment.collector.collect()
        marks.append(clock(experiment))
        for team in experiment.teams.values():
            team.update(rollout)
        marks.append(clock(experiment))
        episodes = experiment.settings.evaluation_episodes
        seed = evaluation_seed(0, "speed")
        collect.evaluate(experiment.evaluation_env, experiment.teams, episodes, seed)
        marks.append(clock(experiment))
        if number >= warmup:
            for name, before, after in zip(seconds, marks, marks[1:], strict=False):
                seconds[name] += after - before
    return seconds


def clock(experiment: Experiment) -> float:
    """The time when all that was asked of the device is done."""
    if experiment.device.type == "cuda":
        torch.cuda.synchronize(experiment.device)
    return time.perf_counter()


def show(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{figures['algorithm']} on {figures['task']}, {figures['threads']} threads"
    )
    for column in ("part", "s / iteration"):
        table.add_column(column, justify="right")
    for name, value in figures["seconds_per_iteration"].items():
        table.add_row(name, f"{value:.3f}")
    console = Console()
    console.print(table)
    console.print(f"{figures['frames_per_second']:,.0f} frames/s (collect and update)")
