"""Compiled runs are eager ones up to rounding: in float64 to 1e-8 after ten iterations."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.happo import HAPPOConfig
from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import IPPOConfig, MAPPOConfig
from marl.algorithms.qmix import QMIXConfig
from marl.envs.task import Task
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.types import tree_tensors
from tests.helpers.doubles import Doubles, default_doubles
from tests.helpers.experiments import Kill, equal, outcome

# A step of Adam multiplies differences of small gradients by lr / eps: by 50 with the default.
CALM: dict[str, Any] = {"adam_eps": 1e-2}
REPLAY: dict[str, Any] = {"warmup": 32, "frames_per_update": 16, "batch_size": 8, **CALM}
ONE: dict[str, Any] = {"epochs": 1, "chunk_length": 2, **CALM}


@pytest.fixture
def doubles() -> Iterator[None]:
    with default_doubles():
        yield


def run(
    folder: Path,
    word: str,
    name: str,
    algorithm: Any,
    gru: int,
    steps: int = 2,
    sinks: Any = None,
    **options: Any,
) -> Experiment:
    task: Any = Task(name, kwargs=options)
    if torch.get_default_dtype() == torch.float64:
        task = Doubles(task)
    settings = Settings(
        num_envs=8, steps=steps, total_frames=160, evaluation_episodes=1, execution=word,
        video=False, progress=False, replay_size=160,
    )  # fmt: skip
    model = Perceptron(hidden=[4], gru=gru)
    place = folder / word
    return Experiment(task, algorithm, model, settings=settings, directory=place, sinks=sinks)


def iterations(run: Experiment) -> list[list[Tensor]]:
    """Ten rollouts, and the state of the teams after them."""
    tensors = []
    with run.process.use():
        for _ in range(10):
            rollout, _ = run.collector.collect()
            tensors.append([x.clone() for x in tree_tensors(rollout)])
            run.learn(rollout)
    return [*tensors, [x for team in run.teams.values() for x in tree_tensors(team.state_dict())]]


def follow(folder: Path, name: str, *parts: Any, **options: Any) -> None:
    """Compares ten iterations; particle worlds round what agents observe and earn to float32."""
    tolerance = 1e-8 if name.startswith(("games/", "foraging/")) else 1e-4
    runs = [run(folder, word, name, *parts, **options) for word in ("eager", "compiled")]
    for one, other in zip(*map(iterations, runs), strict=True):
        close(one, other, tolerance)


def close(one: list[Tensor], other: list[Tensor], tolerance: float = 1e-8) -> None:
    for x, y in zip(one, other, strict=True):
        if x.dtype == torch.float64:
            torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)
        else:
            assert torch.equal(x, y)


def test_a_compiled_rollout_is_the_eager_one(tmp_path: Path, doubles: None) -> None:
    """Of the smallest game; learning is compiled in the slow tests."""
    smallest = "games/climbing", MAPPOConfig(**ONE), 0, 1
    one, other = (run(tmp_path, word, *smallest) for word in ("eager", "compiled"))
    for _ in range(2):
        (first, _), (second, _) = (each.collector.collect() for each in (one, other))
        close(tree_tensors(first), tree_tensors(second))


SPREAD = "mpe/simple_spread"
CELLS: dict[str, Any] = {
    "smallest": ("games/climbing", MAPPOConfig(**ONE), 0),
    "memory": (SPREAD, IPPOConfig(**ONE), 4),
    "vectors": (SPREAD, HAPPOConfig(**ONE), 0, {"continuous_actions": True}),
    "two teams": ("mpe/simple_tag", MAPPOConfig(**ONE), 0),
    "messages": ("mpe/simple_speaker_listener", HAPPOConfig(**ONE), 0),
    "foraging": ("foraging/8x8-2p-2f", MAPPOConfig(**ONE), 0),
    "navigation": ("navigation/target", MAPPOConfig(**ONE), 0, {"N": 2}),
    "replay": (SPREAD, MADDPGConfig(**REPLAY), 0),
    "sequences": ("games/cue", QMIXConfig(sequence_length=2, burn_in=0, **REPLAY), 4),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cell", CELLS)
def test_every_compiled_run_is_an_eager_one(cell: str, tmp_path: Path, doubles: None) -> None:
    name, algorithm, gru, *options = CELLS[cell]
    follow(tmp_path, name, algorithm, gru, **(options[0] if options else {}))


def weights(run: Experiment) -> Tensor:
    policies: list[Any] = [team.policy for team in run.teams.values()]
    return torch.cat([x.detach().flatten() for p in policies for x in p.parameters()])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cell", CELLS)
def test_a_compiled_step_of_learning_is_the_eager_one_in_float32(cell: str, tmp_path: Path) -> None:
    """To 5e-3 of its length, from the same rollouts; off policy the first ones fill the replay."""
    name, algorithm, gru, *options = CELLS[cell]
    parts = name, algorithm, gru
    more: dict[str, Any] = options[0] if options else {}
    one, other = (run(tmp_path, word, *parts, **more) for word in ("eager", "compiled"))
    before = weights(one)
    assert torch.equal(before, weights(other))
    with one.process.use():
        for _ in range(4):
            rollout, _ = one.collector.collect()
            one.learn(rollout)
            other.learn(rollout)
            if not torch.equal(weights(one), before):
                break
    step = weights(one) - before
    assert step.norm() > 0
    assert (weights(other) - weights(one)).norm() < 5e-3 * step.norm()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cell", ["smallest", "replay"])
def test_a_compiled_run_resumes_exactly(cell: str, tmp_path: Path) -> None:
    name, algorithm, gru, *_ = CELLS[cell]
    parts = "compiled", name, algorithm, gru
    run(tmp_path / "whole", *parts).run()
    stopped = run(tmp_path / "stopped", *parts, sinks=[Kill(9, signal.SIGTERM)])
    stopped.run()
    assert 0 < stopped.frames < 160
    again = Experiment.load(tmp_path / "stopped" / "compiled")
    assert again.execution == "compiled"
    again.run()
    ends = [outcome(tmp_path / folder / "compiled") for folder in ("whole", "stopped")]
    assert equal(*ends)
