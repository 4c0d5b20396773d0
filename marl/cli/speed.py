"""The command ``marl speed``: frames per second of a configuration without its warm-up, split into
its parts; or of its environment alone."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from marl.cli import compose
from marl.cli.progress import clock
from marl.env import VectorEnv, random_action
from marl.experiment import Experiment
from marl.training import evaluation
from marl.training.provenance import provenance
from marl.utils import distributed, seeding
from marl.utils.device import find_device, keep_freed_memory, use_threads
from marl.utils.places import without_places


def measure(options: Namespace) -> int:
    """Measures, prints the figures, and appends them to the file of ``--json``.

    Returns:
        The exit code.
    """
    run = compose.composed(options.settings)
    device = find_device(run.device)
    with use_threads(run.threads), keep_freed_memory(), distributed.joined(device):
        figures = {
            "task": run.task.name,
            "num_envs": run.num_envs,
            "settings": options.settings,
            **(environment(run, options) if options.environment else training(run, options)),
            "megabytes": peak_megabytes(),
            **provenance(),
        }
    figures = without_places(figures)
    show(figures)
    if options.json:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        with open(options.json, "a") as file:
            file.write(json.dumps(figures) + "\n")
    return 0


def peak_megabytes() -> int | None:
    """Returns the most memory that this process had; None on Windows, which does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10  # bytes there, KiB elsewhere


def iterations(options: Namespace) -> Iterator[int]:
    """Yields the numbers of the iterations, those to warm up below 0. What takes longer than two
    seconds is announced on stderr, with the time left."""
    start = printed = time.monotonic()
    for number in range(-options.warmup, options.iterations):
        yield number
        done, now = number + 1 + options.warmup, time.monotonic()
        left = (options.iterations - 1 - number) * (now - start) / done
        if left and now - printed > 2:
            printed = now
            what = f"timed {number + 1}" if number >= 0 else "warm-up"
            print(
                f"iteration {done}/{options.warmup + options.iterations} ({what})  "
                f"left {clock(left)}",
                file=sys.stderr,
            )


def training(run: compose.RunConfig, options: Namespace) -> dict[str, Any]:
    """Returns the figures of training.

    Args:
        run: the configuration.
        options: of the command line: ``warmup`` and ``iterations``.
    """
    with tempfile.TemporaryDirectory() as folder:
        run.directory, run.progress = str(Path(folder) / "run"), False
        experiment = compose.build(run)
        with experiment.process.use():
            seconds = time_parts(experiment, options)
        experiment.close()
    frames = options.iterations * experiment.settings.frames_per_iteration
    return {
        "algorithm": type(run.algorithm).__name__.removesuffix("Config").lower(),
        "steps": run.steps,
        "frames_per_second": frames / (seconds["collect"] + seconds["update"]),
        "seconds_per_iteration": {k: v / options.iterations for k, v in seconds.items()},
    }


def environment(run: compose.RunConfig, options: Namespace) -> dict[str, Any]:
    """Returns the figures of the environment alone, under random actions drawn beforehand.

    Args:
        run: the configuration.
        options: of the command line: ``warmup`` and ``iterations``.
    """
    device = find_device(run.device)
    env: VectorEnv = run.task(run.num_envs, device)
    random = seeding.generator(device, run.seed, "acting")
    obs = env.reset(run.seed)
    actions = [
        {name: random_action(g, obs.groups[name], random) for name, g in env.groups.items()}
        for _ in range(run.steps)
    ]
    start = 0.0
    for number in iterations(options):
        if number == 0:
            start = now(device)
        step_through(env, actions)
    seconds = (now(device) - start) / options.iterations
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
    """Steps an environment with each of the actions.

    Args:
        env: the environment.
        actions: of every step, group -> ``[B, N, A]`` or ``[B, N]``.
    """
    for action in actions:
        env.step({name: value.clone() for name, value in action.items()})


def time_parts(experiment: Experiment, options: Namespace) -> dict[str, float]:
    """Returns the seconds spent collecting, updating and evaluating in the timed iterations.

    Args:
        experiment: a new one.
        options: of the command line: ``warmup`` and ``iterations``.
    """
    seconds = {"collect": 0.0, "update": 0.0, "evaluate": 0.0}
    for number in iterations(options):
        marks = [now(experiment.device)]
        rollout, _ = experiment.collector.collect()
        marks.append(now(experiment.device))
        experiment.learn(rollout)
        marks.append(now(experiment.device))
        episodes = experiment.settings.evaluation_episodes
        seed = seeding.evaluation_seed(0, "speed")
        evaluation.evaluate(experiment.evaluations.env, experiment.teams, episodes, seed)
        marks.append(now(experiment.device))
        if number >= 0:
            for name, before, after in zip(seconds, marks, marks[1:], strict=False):
                seconds[name] += after - before
    return seconds


def now(device: torch.device) -> float:
    """Returns the time in seconds at which the device has done all its work so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table."""
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
