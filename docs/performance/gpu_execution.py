"""Times eager beside captured runs on a GPU, in the same call, part by part.

    python docs/performance/gpu_execution.py [--json FILE] [--only REGEX] [--limit SECONDS]

from the root of the tree. Every part is a process of its own with a time limit, in the order of its
worth; none begins after the limit (440 s). A line for each part and word: milliseconds of
collecting and of updating, frames per second, seconds of the first two iterations (which capture),
peak memory, and how far captured weights are from eager ones after three iterations from equal
random numbers. ``--device cpu`` tries the script where there is no GPU, in tiny sizes, with a
recording that calls the function again.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from marl.cli import compose
from marl.env import pure_env, random_action
from marl.envs.task import Task
from marl.experiment import Experiment
from marl.stacked_run import StackedRun
from marl.training import execution
from marl.training.provenance import provenance
from marl.training.rollout_program import RolloutProgram
from marl.types import tree_map, tree_tensors
from marl.utils import capture, programs
from marl.utils.programs import TreeFunction

SPREAD = "task=mpe/simple_spread steps=25"
#: Settings of each part, and those of a try without a GPU.
RUNS = {
    "mappo": (f"{SPREAD} algorithm=mappo num_envs=4096", "num_envs=8"),
    "r1": ("experiment=speed_r1 algorithm.compile=false", "num_envs=2 steps=10 algorithm.epochs=1"),
    "ippo-65536": (
        f"{SPREAD} algorithm=ippo num_envs=65536 algorithm.epochs=2 memory_gib=64",
        "num_envs=8",
    ),
    "ippo-gru": ("task=mpe/simple_spread algorithm=ippo model=gru num_envs=1024 steps=20",
                 "num_envs=8"),
    "happo": (f"{SPREAD} algorithm=happo num_envs=4096", "num_envs=8"),
    "foraging": ("task=foraging/8x8-2p-2f algorithm=mappo num_envs=4096 steps=50", "num_envs=8"),
    "aloha": ("experiment=bayes_aloha num_envs=1024 algorithm.joint.graph=learned", "num_envs=8"),
    "informarl": (
        "experiment=informarl_target num_envs=1024 algorithm.minibatch_size=6400 "
        "algorithm.compile=false",
        "num_envs=8 algorithm.minibatch_size=100",
    ),
    "maddpg": (
        f"{SPREAD} algorithm=maddpg num_envs=64 algorithm.warmup=100", "num_envs=4",
    ),
    "hasac": (f"{SPREAD} algorithm=hasac num_envs=64 algorithm.warmup=100", "num_envs=4"),
}  # fmt: skip
#: Settings whose single seed is timed beside eight stacked ones.
STACKS = {"stack": (f"{SPREAD} algorithm=mappo num_envs=512", "num_envs=4")}
WORLDS = {"worlds-1024": 1024, "worlds-65536": 65536, "worlds-16384": 16384}
ORDER = ("mappo", "worlds-1024", "worlds-65536", "r1", "ippo-gru", "happo", "foraging", "stack",
         "hasac", "ippo-65536", "aloha", "informarl", "maddpg", "worlds-16384")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json")
    parser.add_argument("--only", default=".", help="regular expression of the parts to time")
    parser.add_argument("--limit", type=float, default=440.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        if options.device == "cpu":
            pretend()
        measure(options.part, torch.device(options.device), options.json)
        return
    began = time.monotonic()
    for part in filter(re.compile(options.only).search, ORDER):
        left = options.limit - (time.monotonic() - began)
        if left > 0:
            words = [sys.executable, __file__, *sys.argv[1:], "--part", part]
            try:
                subprocess.run(words, timeout=min(75.0, left + 30), check=False)
            except subprocess.TimeoutExpired:
                print(f"{part}: took longer than its time", flush=True)
        else:
            print(f"{part}: left out", flush=True)


def measure(part: str, device: torch.device, file: str | None) -> None:
    """Times a part under both words, prints the figures, and appends them to a file."""
    kind = worlds if part in WORLDS else stacked if part in STACKS else learning
    figures = kind(part, device)
    for record in figures:
        print(json.dumps(record), flush=True)
        if file:
            with open(file, "a") as lines:
                lines.write(json.dumps({**record, **provenance()}) + "\n")


# ------------------------------------------------------------------------------------ learning


def learning(part: str, device: torch.device) -> list[dict[str, Any]]:
    words = " ".join(RUNS[part][: 1 + (device.type == "cpu")])
    records, weights = [], []
    for word in ("eager", "captured"):
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        run = build(words, word, device)
        with run.process.use():
            if word == "eager" and (env := pure_env(run.env)) is not None:
                teams: Any = run.teams  # random numbers are drawn ahead, as when captured
                run.collector.program = RolloutProgram(
                    env, teams, run.settings.steps, programs.eager, print
                )
            began, first = now(device), 0.0
            for number in range(3):
                iterate(run)
                if number == 1:
                    first = now(device) - began
            weights.append([x.clone() for t in run.teams.values() for x in floats(t.state_dict())])
            if word == "eager":
                run.collector.program = None
            seconds = [iterate(run) for _ in range(3 if device.type == "cpu" else 5)]
        run.close()
        collect, update = (sorted(each)[len(each) // 2] for each in zip(*seconds, strict=True))
        records.append(
            {
                "part": part, "execution": word, "collect_ms": 1e3 * collect,
                "update_ms": 1e3 * update, "first_s": first,
                "frames_per_second": run.settings.frames_per_iteration / (collect + update),
                "peak_mb": peak(device),
            }
        )  # fmt: skip
    gaps = [float((x - y).norm() / (x.norm() + 1e-12)) for x, y in zip(*weights, strict=True)]
    records[-1]["largest_gap"] = max(gaps)
    return records


def stacked(part: str, device: torch.device, seeds: int = 8) -> list[dict[str, Any]]:
    """Times an iteration of one seed, and of several in one stack."""
    words = " ".join(STACKS[part][: 1 + (device.type == "cpu")])
    records = []
    for word in ("eager", "captured"):
        one = build(words, word, device)
        stack = StackedRun([build(f"{words} seed={n}", word, device) for n in range(seeds)])

        def iterate_all(stack: StackedRun = stack) -> tuple[float, float]:
            began = now(device)
            _, rollout = stack.collector.collect()
            between = now(device)
            for team in stack.teams.values():
                team.update(rollout, 0)
            return between - began, now(device) - between

        for name, step in {"one": lambda one=one: iterate(one), "stack": iterate_all}.items():
            step()
            step()
            collect, update = map(statistics.median, zip(*(step() for _ in range(5)), strict=True))
            records.append({
                "part": part, "execution": word, "seeds": name, "collect_ms": 1e3 * collect,
                "update_ms": 1e3 * update, "peak_mb": peak(device),
            })  # fmt: skip
    return records


def build(words: str, word: str, device: torch.device) -> Experiment:
    folder = tempfile.mkdtemp()
    given = f"device={device} execution={word} evaluation_episodes=1 video=false progress=false"
    return compose.build(
        compose.composed([*words.split(), *given.split(), f"directory={folder}/run"])
    )


def iterate(run: Experiment) -> tuple[float, float]:
    """Plays and learns; returns the seconds of both."""
    began = now(run.device)
    rollout, _ = run.collector.collect()
    between = now(run.device)
    run.learn(rollout)
    return between - began, now(run.device) - between


# -------------------------------------------------------------------------------------- worlds


def worlds(part: str, device: torch.device, steps: int = 25) -> list[dict[str, Any]]:
    """Times the steps of simple_spread alone, by fixed actions."""
    copies = WORLDS[part] if device.type == "cuda" else 16
    env = pure_env(Task("mpe/simple_spread")(copies, device))
    assert env is not None
    obs, random = env.reset(0), torch.Generator(device).manual_seed(1)
    drawn = [
        {n: random_action(g, obs.groups[n], random) for n, g in env.groups.items()}
        for _ in range(steps)
    ]
    actions = tree_map(lambda *values: torch.stack(values), *drawn)

    def block(state: Any, actions: Any, chance: Any) -> tuple[Any, Tensor]:
        total = torch.zeros((), device=device)
        for k in range(steps):
            action, luck = tree_map(lambda x, k=k: x[k], (actions, chance))
            state, transition = env.pure_step(state, action, luck)
            total = total + sum(x.sum() for x in transition.reward.values())
        return state, total

    records = []
    for word, prepare in {"eager": programs.eager, "captured": programs.captured}.items():
        with torch.no_grad():
            function = TreeFunction(block, (env.pure_state, actions, env.draw_ahead(steps)))
            function.prepare(prepare)
            seconds = [play(function, env, actions, steps, device) for _ in range(7)]
        typical = sorted(seconds)[len(seconds) // 2]
        records.append({
            "part": part, "execution": word, "ms": 1e3 * typical,
            "frames_per_second": steps * copies / typical, "peak_mb": peak(device),
        })  # fmt: skip
    return records


def play(function: Callable[..., Any], env: Any, actions: Any, steps: int, device: Any) -> float:
    """Plays the steps; returns their seconds, those of drawing random numbers among them."""
    began = now(device)
    with torch.no_grad():
        function(pytree.tree_leaves((env.pure_state, actions, env.draw_ahead(steps))))
    return now(device) - began


# --------------------------------------------------------------------------------------- tools


def floats(state: Any) -> list[Tensor]:
    return [x for x in tree_tensors(state) if x.dtype.is_floating_point]


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0


def pretend() -> None:
    """Lets a CPU capture, by calls of the function in place of a graph."""

    def again(function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        results = [None if x is None else x.clone() for x in function()]

        def replay() -> None:
            for old, new in zip(results, function(), strict=True):
                if old is not None:
                    old.data.copy_(new)

        return replay, results

    capture.cuda_graph = again
    execution.resolve = lambda word, env: word


main()
