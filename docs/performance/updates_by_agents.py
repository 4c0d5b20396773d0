"""Seconds per 1,000 off-policy updates as the team grows: actors together beside one after another.

usage: python docs/performance/updates_by_agents.py [--device cpu] [--threads 1] [setting=value ...]

Native simple_spread, 64x64 networks, 256 transitions an update; the settings are `marl train`'s.
Prints one JSON line for each algorithm and number of agents.
"""

import argparse
import json
import tempfile
import time
from typing import Any

import torch

from marl.cli import compose
from marl.training.provenance import provenance

AGENTS = (3, 10, 30)


def seconds(name: str, agents: int, updates: int, settings: list[str]) -> float:
    """Per 1,000 updates, after a warm-up that compiles."""
    run = compose.composed(
        ["experiment=continuous_offpolicy", f"algorithm={name}", f"task.kwargs.N={agents}",
         "algorithm.compile=false", "algorithm.warmup=0", "replay_size=10000", "steps=20",
         "video=false", *settings]
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run.directory, run.progress = f"{folder}/run", False
        experiment = compose.build(run)
        rollout, _ = experiment.collector.collect()
        assert experiment.replay is not None
        experiment.replay.append(rollout)
        team: Any = next(iter(experiment.teams.values()))  # an off-policy algorithm

        def learn(count: int) -> float:
            team.frames = (team.updates + count) * team.config.frames_per_update - rollout.frames
            start = time.perf_counter()
            metrics = team.update(rollout)
            metrics["q"].item()  # waits for the device
            return time.perf_counter() - start

        learn(3)
        taken = learn(updates) / updates * 1000
        experiment.close()
    return taken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = [*options.settings, f"device={options.device}", f"threads={options.threads}"]
    for agents in AGENTS:
        for name in ("masac", "hasac"):
            taken = seconds(name, agents, options.updates, settings)
            figures = {"algorithm": name, "agents": agents, "seconds_per_1000_updates": taken}
            print(json.dumps({**figures, "settings": settings, **provenance()}), flush=True)
