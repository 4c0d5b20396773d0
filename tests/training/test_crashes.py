"""Killed at any operation on its files, a run goes on to what the uninterrupted one leaves."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from marl.algorithms.hasac import MASACConfig
from marl.envs.task import Task
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from tests.helpers.crashes import CLOCKS, Files, Snapshots, files, restore, watching
from tests.helpers.experiments import SHORT, experiment

# Four iterations; a checkpoint at each, and at the evaluations which have the best so far.
TINY: dict[str, Any] = {
    "total_frames": 160, "evaluation_interval": 80, "checkpoint_interval": 40, "video": False,
    "absolute_episodes": 4, "evaluation_episodes": 2,
}  # fmt: skip


def on_policy(directory: Path) -> Experiment:
    return experiment(directory, **TINY)


def off_policy(directory: Path) -> Experiment:
    """With a replay that is full before the end, and updates from the second iteration on."""
    return Experiment(
        Task("tests.helpers.toy_envs:identity"),
        MASACConfig(warmup=40, batch_size=8, frames_per_update=20),
        Perceptron([8]),
        settings=Settings(**{**SHORT, **TINY, "replay_size": 100}),
        directory=directory,
    )


def late(directory: Path) -> Experiment:
    """Its only checkpoint is at the end."""
    rare = {"evaluation_interval": 0, "checkpoint_interval": 1000, "total_frames": 80}
    return experiment(directory, **{**TINY, **rare})


def results(state: Files) -> Files:
    """All that two equal runs have in common: everything but clocks, and how long their records
    are."""
    common = {n: d for n, d in state.items() if n not in (*CLOCKS, ".lock")}
    for name, data in common.items():
        if name.endswith(".sha256"):
            common[name] = b""
        elif name.endswith(".pt"):
            common[name] = without_clocks(data)
    return common


def without_clocks(checkpoint: bytes) -> bytes:
    saved = torch.load(io.BytesIO(checkpoint), weights_only=True)
    del saved["log"]["timing"]
    return repr(plain(saved)).encode()


def plain(value: Any) -> Any:
    """Nested values with the bytes of their tensors, by which equal ones can be told."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.numpy().tobytes()
    return value


def goes_on(make: Callable[[Path], Experiment], state: Files, directory: Path) -> Files:
    """What a run whose process left ``state`` comes to."""
    restore(state, directory)
    begun = "config.json" in state and make is not extended
    (Experiment.load if begun else make)(directory).run()
    return results(files(directory))


def watched(make: Any, directory: Path, monkeypatch: Any) -> tuple[Sequence[Files], Files]:
    """What kills would leave, and what the run leaves that nobody kills."""
    seen = Snapshots(directory)
    if make is extended:
        experiment(directory, **{**TINY, "total_frames": 80}).run()
    with watching(monkeypatch, seen.look):
        make(directory).run()
    return list(seen.states.values()), results(files(directory))


def extended(directory: Path) -> Experiment:
    """More frames of a finished run."""
    return Experiment.load(directory, total_frames=160)


def check(make: Any, tmp_path: Path, monkeypatch: Any, some: slice) -> None:
    states, whole = watched(make, tmp_path / "run", monkeypatch)
    for number, state in list(enumerate(states))[some]:
        found = goes_on(make, state, tmp_path / f"killed-{number}" / "run")
        assert found.keys() == whole.keys(), (number, set(found) ^ set(whole), set(state))
        assert found == whole, (number, [n for n in whole if found[n] != whole[n]])


MAKES = pytest.mark.parametrize("make", [on_policy, off_policy, late, extended])


@MAKES
def test_killed_at_some_operations(make: Any, tmp_path: Path, monkeypatch: Any) -> None:
    check(make, tmp_path, monkeypatch, slice(0, None, 20))


@pytest.mark.slow
@MAKES
def test_killed_at_every_operation(make: Any, tmp_path: Path, monkeypatch: Any) -> None:
    check(make, tmp_path, monkeypatch, slice(None))
