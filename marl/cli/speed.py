"""``marl speed``: steady frames/s of a configuration, warm-up excluded, split into its parts; or of
its environment alone."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from marl.cli import compose
from marl.env import VectorEnv, random_action
from marl.experiment import Experiment
from marl.training import evaluation
from marl.training.provenance import provenance
from marl.utils import distributed, seeding
from marl.utils.device import find_device, keep_freed_memory, use_threads
from marl.utils.places import without_places


def measure(options: Namespace) -> int:
    run = compose.composed(options.settings)
    device = find_device(run.device)
    with use_threads(run.threads), keep_freed_memory(), distributed.joined(device):
        figures = {
            "task": run.task.name,
            "num_envs": run.num_envs,
            "settings": options.settings,
            **(environment(run, options) if options.environment else whole(run, options)),
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            **provenance(),
        }
    figures = without_places(figures)
    show(figures)
    if options.json:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        with open(options.json, "a") as file:
            file.write(json.dumps(figures) + "\n")
    return 0


def whole(run: compose.RunConfig, options: Namespace) -> dict[str, Any]:
    """The figures of learning."""
    with tempfile.TemporaryDirectory() as folder:
        run.directory, run.progress = str(Path(folder) / "run"), False
        experiment = compose.build(run)
        with experiment.process.use():
            seconds = time_parts(experiment, options.warmup, options.iterations)
        experiment.close()
    frames = options.iterations * experiment.settings.frames_per_iteration
    return {
        "algorithm": type(run.algorithm).__name__.removesuffix("Config").lower(),
        "steps": run.steps,
        "frames_per_second": frames / (seconds["collect"] + seconds["update"]),
        "seconds_per_iteration": {k: v / options.iterations for k, v in seconds.items()},
    }


def environment(run: compose.RunConfig, options: Namespace) -> dict[str, Any]:
    """The figures of the environment alone, under random actions that were drawn before."""
    device = find_device(run.device)
    env: VectorEnv = run.task(run.num_envs, device)
    random = seeding.generator(device, run.seed, "acting")
    obs = env.reset(run.seed)
    actions = [
        {name: random_action(g, obs.groups[name], random) for name, g in env.groups.items()}
        for _ in range(run.steps)
    ]
    for _ in range(options.warmup):
        step_through(env, actions)
    began = clock(device)
    for _ in range(options.iterations):
        step_through(env, actions)
    seconds = (clock(device) - began) / options.iterations
    agents = sum(group.size for group in env.groups.values())
    env.close()
    return {
        "algorithm": "environment alone",
        "agents": agents,
        "steps": run.steps,
        "frames_per_second": run.steps * run.num_envs / seconds,
        "seconds_per_iteration": {"step": seconds},
    }


def step_through(env: VectorEnv, actions: list[dict[str, torch.Tensor]]) -> None:
    for action in actions:
        env.step({name: value.clone() for name, value in action.items()})


def time_parts(experiment: Experiment, warmup: int, iterations: int) -> dict[str, float]:
    """Seconds spent collecting, updating and evaluating over ``iterations``."""
    seconds = {"collect": 0.0, "update": 0.0, "evaluate": 0.0}
    for number in range(warmup + iterations):
        marks = [clock(experiment.device)]
        rollout, _ = experiment.collector.collect()
        marks.append(clock(experiment.device))
        experiment.learn(rollout)
        marks.append(clock(experiment.device))
        episodes = experiment.settings.evaluation_episodes
        seed = seeding.evaluation_seed(0, "speed")
        evaluation.evaluate(experiment.evaluations.env, experiment.teams, episodes, seed)
        marks.append(clock(experiment.device))
        if number >= warmup:
            for name, before, after in zip(seconds, marks, marks[1:], strict=False):
                seconds[name] += after - before
    return seconds


def clock(device: torch.device) -> float:
    """The time when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
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
    parts = "steps of the environment" if "agents" in figures else "collect and update"
    console.print(f"{figures['frames_per_second']:,.0f} frames/s ({parts})")
