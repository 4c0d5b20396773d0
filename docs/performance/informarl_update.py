"""Milliseconds of a gradient step of InforMARL beside one of a plain MAPPO on the same minibatches.

usage: python docs/performance/informarl_update.py [--pairs 9] [--json FILE] [SETTING ...]

``experiment=informarl_target`` (three agents, 1,600 moments a minibatch), once as it is and once
with ``model=mlp`` of the same layers. The two take an update each in turn, in one process. Times
are the process's own, for the machine may do other work.
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


def learner(model: str, folder: str, settings: list[str]) -> Callable[[], float]:
    """Returns what takes an update and returns the milliseconds of one of its gradient steps."""
    run = compose.composed(
        ["experiment=informarl_target", f"model={model}", "model.hidden=[64,64]",
         "model.layer_norm=true", "model.input_norm=true", "algorithm.compile=false",
         "video=false", *settings]
    )  # fmt: skip
    run.directory, run.progress = f"{folder}/{model}", False
    experiment = compose.build(run)
    rollout, _ = experiment.collector.collect()
    team: Any = next(iter(experiment.teams.values()))  # MAPPO
    steps = team.config.epochs * rollout.frames // team.config.minibatch_size

    def learn() -> float:
        start = time.process_time()
        metrics = team.update(rollout)
        metrics["policy_loss"].item()  # waits for the device
        return (time.process_time() - start) / steps * 1e3

    return learn


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--json", help="file to append the record to")
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = [*options.settings, f"device={options.device}", f"threads={options.threads}"]
    with tempfile.TemporaryDirectory() as folder, keep_freed_memory():
        plain, informarl = (learner(model, folder, settings) for model in ("mlp", "informarl"))
        for learn in (plain, informarl):
            learn()
        pairs = [(plain(), informarl()) for _ in range(options.pairs)]
    figures = {
        "mappo_ms": [round(a, 2) for a, _ in pairs],
        "informarl_ms": [round(b, 2) for _, b in pairs],
        "ratio": round(median(b / a for a, b in pairs), 3),
    }
    print(json.dumps(figures), flush=True)
    if options.json:
        with open(options.json, "a") as file:
            file.write(json.dumps({**figures, "settings": settings, **provenance()}) + "\n")
