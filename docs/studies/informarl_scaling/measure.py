"""Runs a policy trained with a few agents with many: quality, time and memory.

usage: python docs/studies/informarl_scaling/measure.py RUN... [--agents 3 7] [--equal-density]

Every line is one run and number of agents, in a process of its own. By default the world stays as
it was and has 0 to 10 obstacles, as in the paper's table; with --equal-density it grows with the
number of agents, with as many obstacles as agents, and its episodes with its side.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

TRAINED = 3  # agents in a world of 2 m
STEPS = 25  # an episode there


def measure(run: str, agents: int, episodes: int, dense: bool, queue: Any) -> None:
    """Puts the figures of one run and number of agents into ``queue``."""
    import torch

    from marl.training import build, loading, run_directory
    from marl.training.collector import act, initial_carry
    from marl.training.evaluation import evaluate
    from marl.utils.seeding import evaluation_seed, generator

    torch.set_num_threads(1)
    device = torch.device("cpu")
    directory, path, state = loading.load_checkpoint(Path(run), device)
    config = run_directory.read_config(directory)
    options: dict[str, Any] = {"N": agents, "num_obstacles": [0, 10]}
    task = config["task"]
    if dense:
        side = 2 * (agents / TRAINED) ** 0.5
        options = {"N": agents, "num_obstacles": agents, "world_size": side}
        task = replace(task, max_steps=round(STEPS * side / 2))
    task = replace(task, kwargs={**task.kwargs, **options})
    env = task(min(32, episodes), device)
    teams = build.load_teams(env, config["teams"], state["teams"], path)
    evaluation = evaluate(env, teams, episodes, evaluation_seed(0, "scaling", agents))

    alone = task(1, device)
    teams = build.load_teams(alone, config["teams"], state["teams"], path)
    obs, carry = alone.reset(0), initial_carry(teams, 1)
    random, start = generator(device, 0, "scaling"), torch.ones(1, dtype=torch.bool)
    seconds = {"act": [], "step": []}
    for _ in range(10):
        start_time = time.perf_counter()
        step = act(teams, obs, carry, start, random, explore=False)
        acted = time.perf_counter()
        transition = alone.step(step.action)
        seconds["act"].append(acted - start_time)
        seconds["step"].append(time.perf_counter() - acted)
        obs, carry, start = transition.obs, step.carry, transition.done
    mean = {name: statistics.fmean(values) for name, values in evaluation["metrics"].items()}
    queue.put({
        "run": directory.name, "frames": state["frames"], "agents": agents, "episodes": episodes,
        "equal_density": dense,
        "reward_per_agent": statistics.fmean(evaluation["returns"]["team"]),
        "T": mean["time"], "collisions_per_agent": mean["collisions"] / agents,
        "success": mean["success"],
        "seconds_acting": statistics.median(seconds["act"]),
        "seconds_stepping": statistics.median(seconds["step"]),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    })  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--agents", type=int, nargs="+", default=[3, 7, 10, 15])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--equal-density", action="store_true")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for run in options.runs:
        for agents in options.agents:
            queue = context.SimpleQueue()
            count = (
                options.episodes if agents <= 30 else max(4, options.episodes * 30 // agents // 4)
            )
            arguments = (run, agents, count, options.equal_density, queue)
            process = context.Process(target=measure, args=arguments)
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{run} with {agents} agents failed")
            print(json.dumps(queue.get()), flush=True)


if __name__ == "__main__":
    main()
