"""Milliseconds of an off-policy update by team size: actors together beside one after another.

usage: python docs/performance/updates_by_agents.py [--agents 3 10 30] [--pairs 9] [SETTING ...]

Native simple_spread, 64x64 networks, 256 transitions an update; the settings are `marl train`'s.
MASAC and HASAC take their updates in turn, in one process and in the same seconds. Times are the
process's own, for the machine may do other work. Prints one JSON line for each number of agents.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from marl.cli import compose
from marl.training.provenance import provenance
from marl.utils.device import keep_freed_memory


def learner(name: str, agents: int, folder: str, settings: list[str]) -> Callable[[int], float]:
    """Returns what takes so many updates and returns the milliseconds of one."""
    run = compose.composed(
        ["experiment=continuous_offpolicy", f"algorithm={name}", f"task.kwargs.N={agents}",
         "algorithm.compile=false", "algorithm.warmup=0", "replay_size=10000", "steps=20",
         "video=false", *settings]
    )  # fmt: skip
    run.directory, run.progress = f"{folder}/{name}-{agents}", False
    experiment = compose.build(run)
    rollout, _ = experiment.collector.collect()
    assert experiment.replay is not None
    experiment.replay.append(rollout)
    team: Any = next(iter(experiment.teams.values()))  # an off-policy algorithm

    def learn(count: int) -> float:
        team.frames = (team.updates + count) * team.config.frames_per_update - rollout.frames
        start = time.process_time()
        metrics = team.update(rollout)
        metrics["q"].item()  # waits for the device
        return (time.process_time() - start) / count * 1e3

    return learn


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, nargs="*", default=[3, 10, 30])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--json", help="file to append the records to")
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = [*options.settings, f"device={options.device}", f"threads={options.threads}"]
    for agents in options.agents:
        with tempfile.TemporaryDirectory() as folder, keep_freed_memory():
            together, in_turn = (
                learner(name, agents, folder, settings) for name in ("masac", "hasac")
            )
            for learn in (together, in_turn):
                learn(3)
            pairs = [
                (together(options.updates), in_turn(options.updates)) for _ in range(options.pairs)
            ]
        figures = {
            "agents": agents,
            "masac_ms": [round(a, 2) for a, _ in pairs],
            "hasac_ms": [round(b, 2) for _, b in pairs],
            "ratio": round(median(b / a for a, b in pairs), 3),
        }
        print(json.dumps(figures), flush=True)
        if options.json:
            with open(options.json, "a") as file:
                file.write(json.dumps({**figures, "settings": settings, **provenance()}) + "\n")
