"""Short training runs on the toys, and what to compare of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from marl.algorithms.mappo import MAPPOConfig
from marl.envs.task import Task
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.training.checkpoint import Checkpoints
from marl.types import tree_tensors
from marl.utils import distributed
from tests.helpers.builders import CPU, SMALL

# Six iterations of 40 frames; evaluations and checkpoints do not fall together.
SHORT: dict[str, Any] = {
    "total_frames": 240, "num_envs": 4, "steps": 10, "evaluation_interval": 80,
    "evaluation_episodes": 3, "checkpoint_interval": 120, "progress": False,
}  # fmt: skip
# The same as words of the command line.
WORDS = [
    *(f"{name}={value}" for name, value in SHORT.items()),
    "algorithm.epochs=1", "model.hidden=[8]",
]  # fmt: skip


def experiment(
    directory: Path, task: str = "identity", sinks: Any = None, teams: Any = None, **settings: Any
) -> Experiment:
    """A run with a memory, several minibatches and everything else that must be restored."""
    name = task if ":" in task or "/" in task else f"tests.helpers.toy_envs:{task}"
    return Experiment(
        Task(name),
        MAPPOConfig(epochs=1, minibatch_size=20, chunk_length=5, anneal_lr=True),
        Perceptron(**SMALL, gru=8),
        teams=teams,
        settings=Settings(**{**SHORT, **settings}),
        directory=directory,
        sinks=sinks,
    )


class Kill:
    """A sink that signals its own process at the ``number``-th record."""

    def __init__(self, number: int, which: int = signal.SIGTERM):
        self.left, self.which = number, which

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.which)

    def close(self) -> None: ...


def train(directory: Path, resume: bool, settings: dict[str, Any]) -> None:
    with distributed.joined(CPU):
        run = Experiment.load(directory) if resume else experiment(directory, **settings)
        run.run()


def outcome(directory: Path) -> dict[str, Any]:
    """All that two equal runs have in common: their records, and the whole of their last state."""
    checkpoints = Checkpoints(directory / "checkpoints")
    _, state = checkpoints.load_last(CPU)
    best = sorted(p.name for p in checkpoints.folder.glob("best-*.pt"))
    names = ("teams", "collector", "random", "replay")
    parts = {name: tree_tensors(state.get(name)) for name in names}
    records = {
        name: (directory / f"{name}.jsonl").read_bytes() for name in ("metrics", "evaluations")
    }
    numbers = {"frames": state["frames"], "evaluated": str(state["evaluations"])}
    return {**records, **numbers, **parts, "file": " ".join(best)}


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Compares outcomes, tensors bit by bit."""
    return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, list):
        return one == other
    return len(one) == len(other) and all(_bits(a, b) for a, b in zip(one, other, strict=True))


def _bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
