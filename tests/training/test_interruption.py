"""Killed or stopped at any moment, a run continues to the very bytes of the uninterrupted one."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from marl.cli import compose
from marl.experiment import Experiment
from marl.utils.jsonl import read_jsonl
from tests.helpers.experiments import WORDS, Kill, equal, experiment, outcome
from tests.helpers.processes import start_cli, start_training

# Checkpoints are rarer than evaluations, so that killing loses some of both.
LONG: dict[str, Any] = {"total_frames": 480, "checkpoint_interval": 120}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("reference") / "run"
    experiment(directory, **LONG).run()
    return outcome(directory)


@pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2))])
def test_killed_twice_at_random_moments(tmp_path: Path, uninterrupted: dict, seed: int) -> None:
    draw, directory = random.Random(seed), tmp_path / "run"
    for resume in (False, True):
        child = start_training(directory, resume, **LONG)
        done = len(read_jsonl(directory / "metrics.jsonl"))
        child.wait_for(directory / "metrics.jsonl", done + draw.randrange(1, 5))
        time.sleep(draw.uniform(0, 0.1))
        child.kill()
        assert child.wait().code in (-signal.SIGKILL, 0)
    Experiment.load(directory).run()
    assert equal(outcome(directory), uninterrupted)


def test_killed_before_the_first_checkpoint(tmp_path: Path, uninterrupted: dict) -> None:
    directory = tmp_path / "run"
    experiment(directory, **LONG).close()  # its directory, and no more
    Experiment.load(directory).run()
    assert equal(outcome(directory), uninterrupted)


@pytest.mark.parametrize(
    ("number", "which"), [(1, signal.SIGTERM), (9, signal.SIGINT), (20, signal.SIGTERM)]
)
def test_signals_save_and_resume_exactly(
    tmp_path: Path, uninterrupted: dict, number: int, which: int
) -> None:
    directory = tmp_path / "run"
    run = experiment(directory, sinks=[Kill(number, which)], **LONG)
    run.run()
    assert run.stop.signal == which and run.frames < 480
    assert run.checkpoints.load_last(run.device)[1]["frames"] == run.frames
    Experiment.load(directory).run()
    assert equal(outcome(directory), uninterrupted)


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    experiment(tmp_path / "run").run()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run", sinks=[Kill(3, signal.SIGINT), Kill(3, signal.SIGINT)])
    with pytest.raises(KeyboardInterrupt):
        run.run()


def test_the_command_ends_with_143_and_resumes(tmp_path: Path) -> None:
    words = ["task=tests.helpers.toy_envs:identity", "video=false", *WORDS]
    words.append("total_frames=400")
    child = start_cli(tmp_path, "train", *words, "directory=stopped")
    child.wait_for(tmp_path / "stopped" / "metrics.jsonl", 2)
    child.kill(signal.SIGTERM)
    result = child.wait()
    assert result.code == 143, result
    assert "continue with: marl resume stopped" in result.out
    Experiment.load(tmp_path / "stopped").run()
    compose.build(compose.composed([*words, f"directory={tmp_path}/whole"])).run()
    assert equal(outcome(tmp_path / "stopped"), outcome(tmp_path / "whole"))


@pytest.mark.slow
def test_killed_on_a_real_task(tmp_path: Path) -> None:
    small: dict[str, Any] = {
        "total_frames": 160,
        "checkpoint_interval": 80,
        "task": "vmas/simple_spread",
    }
    experiment(tmp_path / "whole", **small).run()
    child = start_training(tmp_path / "killed", **small)
    child.wait_for(tmp_path / "killed" / "metrics.jsonl", 3)
    child.kill()
    child.wait()
    Experiment.load(tmp_path / "killed").run()
    assert equal(outcome(tmp_path / "killed"), outcome(tmp_path / "whole"))
