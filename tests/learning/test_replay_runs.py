"""The replay in a run: filled once per iteration, kept exactly, refused before anything is made."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.scripted import RandomConfig
from marl.cli import commands
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.training import checkpoint
from marl.training.build import build_replay
from marl.training.loading import load_checkpoint
from marl.training.teams import Team
from marl.utils.jsonl import read_jsonl
from tests.helpers.builders import CPU
from tests.helpers.experiments import SHORT, Kill, equal, outcome
from tests.helpers.processes import cli
from tests.helpers.replay import LookingConfig, looking

LONG: dict[str, Any] = {"total_frames": 480, "checkpoint_interval": 120}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("reference") / "run"
    looking(directory, **LONG).run()
    return outcome(directory)


def test_every_rollout_is_stored_once(tmp_path: Path) -> None:
    run = looking(tmp_path / "run")
    run.run()
    records = read_jsonl(run.directory / "metrics.jsonl")
    assert [record["stored/team"] for record in records] == [40, 80, 100, 100, 100, 100]


@pytest.mark.parametrize("number", [2, 9, 20])
def test_a_stopped_run_resumes_exactly(tmp_path: Path, uninterrupted: dict, number: int) -> None:
    run = looking(tmp_path / "run", sinks=[Kill(number)], **LONG)
    run.run()
    assert run.stop.signal == signal.SIGTERM and run.frames < 480
    again = Experiment.load(run.directory)
    assert again.replay is not None and again.replay.stored_frames == min(run.frames, 100)
    again.run()
    assert equal(outcome(run.directory), uninterrupted)


def test_a_lost_iteration_is_repeated_exactly(tmp_path: Path, uninterrupted: dict) -> None:
    """As after SIGKILL: records and a collector that are ahead of the last checkpoint."""
    run = looking(tmp_path / "run", **LONG)
    for _ in range(5):
        if run.frames == 120:
            run.save()
        run._iterate()
    run.log.close()
    again = Experiment.load(run.directory)
    assert again.frames == 120
    again.run()
    mine, theirs = outcome(run.directory), dict(uninterrupted)
    assert mine["metrics"] == theirs["metrics"]
    assert equal({"replay": mine["replay"]}, {"replay": theirs["replay"]})


def test_a_longer_run_continues(tmp_path: Path, uninterrupted: dict) -> None:
    looking(tmp_path / "run", **{**LONG, "total_frames": 240}).run()
    Experiment.load(tmp_path / "run", total_frames=480).run()
    assert outcome(tmp_path / "run")["metrics"] == uninterrupted["metrics"]


def test_without_the_replay_resuming_is_not_exact_and_says_so(
    tmp_path: Path, uninterrupted: dict, capsys
) -> None:
    run = looking(tmp_path / "run", sinks=[Kill(9)], replay_checkpoint=False, **LONG)
    assert commands.run(run) == 128 + signal.SIGTERM
    assert "so that resuming is not exact" in capsys.readouterr().out
    again = Experiment.load(run.directory)
    commands.run(again)
    assert "replay   starts empty" in capsys.readouterr().out
    assert outcome(run.directory)["metrics"] != uninterrupted["metrics"]


def test_only_checkpoints_to_continue_from_hold_it(tmp_path: Path) -> None:
    run = looking(tmp_path / "run")
    run.save(["team"])
    run.run()
    _, last, state = load_checkpoint(run.directory, CPU)
    _, best, without = load_checkpoint(run.directory, CPU, best="")
    assert state["replay"]["steps"] == 25 and "replay" not in without
    assert last.name.startswith("frames") and best.name.startswith("best")
    looking(tmp_path / "lean", replay_checkpoint=False).run()
    assert "replay" not in load_checkpoint(tmp_path / "lean", CPU)[2]


def test_the_start_says_what_it_weighs(tmp_path: Path) -> None:
    words = [f"{name}={value}" for name, value in SHORT.items()]
    words += [
        "task=tests.helpers.toy_envs:identity",
        "algorithm=tests.helpers.replay:LookingConfig",
    ]
    result = cli(tmp_path, "train", *words, "video=false", "replay_size=30000", "directory=run")
    assert result.code == 0, result
    size = "2.4 MiB (short episodes: up to 3.5 MiB)"
    assert f"replay   30,000 frames, {size}; saved in each checkpoint" in result.out
    played = cli(tmp_path, "evaluate", "run", "--episodes", "2")
    assert played.code == 0 and "frames-" in played.out


def test_teams_share_one(tmp_path: Path) -> None:
    run = looking(tmp_path / "run", task="rivals")
    teams: Any = run.teams
    assert teams["left"].context.replay is teams["right"].context.replay is run.replay
    run.close()
    mixed = Experiment(
        Task("tests.helpers.toy_envs:rivals"),
        RandomConfig(),
        teams={"left": Team(None, LookingConfig())},
        settings=Settings(**SHORT),
        directory=tmp_path / "mixed",
    )
    assert mixed.replay is not None and mixed.replay.capacity_frames == 1_000_000
    mixed.run()


def test_who_does_not_ask_gets_none(tmp_path: Path) -> None:
    run = Experiment(
        Task("tests.helpers.toy_envs:identity"), RandomConfig(), settings=Settings(**SHORT),
        directory=tmp_path / "run",
    )  # fmt: skip
    assert run.replay is None
    run.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"replay_size": 10**9, "replay_gib": 1.0}, r"1,000,000,000 frames weighs .*replay_size="),
        ({"replay_size": 39}, r"cannot hold one rollout; .* = 40$"),
        ({"replay_size": 0}, "replay_size=0 is out of range"),
        ({"replay_gib": -1.0}, "replay_gib=-1.0 is out of range"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, settings: dict, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        looking(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_replay_is_refused() -> None:
    teams = {"a": Team(["left"], LookingConfig()), "b": Team(["right"], MADDPGConfig())}
    settings = Settings(num_envs=4, steps=10, replay_size=200)
    with pytest.raises(UserError, match=r"team 'b' draws batch_size=256 .* replay of 200 frames"):
        build_replay(teams, settings, CPU)
    assert build_replay(teams, replace(settings, replay_size=256), CPU) is not None


def test_a_large_checkpoint_is_read_as_it_is_used(tmp_path: Path) -> None:
    """The replay's tensors are the file's own pages; the rest is copied, and outlives the file."""
    run = looking(tmp_path / "run")
    run.run()
    path = run.checkpoints.last()
    assert path is not None
    state = checkpoint.load(path, CPU)
    assert f" {path}" in Path("/proc/self/maps").read_text()
    del state
    assert f" {path}" not in Path("/proc/self/maps").read_text()
