"""Collects the values that runs learned, and lets time limits end episodes.

usage: python docs/studies/value_decomposition/measure.py LABEL=RUN... > data/runs.jsonl

Every line is one run, under its label: the mean value Q of the batches, about 30 times in the run,
and the returns of the evaluations. ``LimitsEnd`` is a wrapper for ``task.wrappers``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from marl.envs.wrappers import Wrapper
from marl.types import Transition

POINTS = 30  # of a curve


class LimitsEnd(Wrapper):
    """Ends episodes at the time limit, as EPyMARL does, so that no value is bootstrapped there."""

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        step = self.env.step(action)
        terminated = {name: step.terminated[name] | step.truncated[name] for name in self.groups}
        truncated = {name: torch.zeros_like(flag) for name, flag in step.truncated.items()}
        return replace(step, terminated=terminated, truncated=truncated)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def measure(label: str, run: Path) -> dict[str, Any]:
    """Returns the line of one run."""
    config = json.loads((run / "config.json").read_text())
    provenance = json.loads((run / "provenance.json").read_text())
    learned = [line for line in lines(run / "metrics.jsonl") if line.get("q/team") is not None]
    points = learned[:: max(1, len(learned) // POINTS)]
    evaluations = lines(run / "evaluations.jsonl")
    algorithm = config["teams"]["team"]["algorithm"]
    return {
        "label": label,
        "task": config["task"]["name"],
        "algorithm": algorithm["_type_"].split(":")[1].removesuffix("Config"),
        "gamma": algorithm["gamma"],
        "td_lambda": algorithm["td_lambda"],
        "tau": algorithm["tau"],
        "seed": config["settings"]["seed"],
        "commit": provenance["commit"],
        "frames": [line["frames"] for line in points],
        "q": [round(line["q/team"], 3) for line in points],
        "evaluated": [line["frames"] for line in evaluations],
        "returns": [line["returns"]["team"] for line in evaluations],
    }


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        name, _, path = argument.rpartition("=")
        print(json.dumps(measure(name, Path(path))))
