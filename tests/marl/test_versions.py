"""A run names the version that it learns by; one of an older version plays, and goes on only where
nothing that it uses has changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from algorithms.hasac import HASACConfig
from algorithms.mappo import IPPOConfig, MAPPOConfig
from algorithms.scripted import RandomConfig
from envs import Task
from marl import checkpoint
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks import Perceptron
from marl.teams import Team
from marl.versions import LEARNING, check_resumable, learning, learning_of, same_in_1_and_2
from tests.runs import SHORT, equal, experiment, outcome
from tests.scenes import CPU
from tests.words import called

PLAIN = MAPPOConfig(epochs=1, normalize_value=False)


def climbing(directory: Path, algorithm: Any = PLAIN, **settings: Any) -> Experiment:
    return Experiment(
        Task("games/climbing"),
        algorithm,
        Perceptron(hidden=[8]),
        settings=Settings(**{**SHORT, **settings}),
        directory=directory,
    )


def make_old(directory: Path) -> None:
    """Takes the version away, as it was before there were any."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    del config["learning"]
    path.write_text(json.dumps(config))
    for path in (directory / "checkpoints").glob("*.pt"):
        state = checkpoint.load(path, CPU)
        del state["learning"]
        torch.save(state, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        checkpoint.checksum_of(path).write_text(digest + "\n")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_a_run_and_its_checkpoints_name_their_version(tmp_path: Path) -> None:
    climbing(tmp_path / "run").run()
    assert LEARNING == 2
    assert json.loads((tmp_path / "run/config.json").read_text())["learning"] == 2
    assert learning_of(tmp_path / "run") == 2
    paths = list((tmp_path / "run/checkpoints").glob("*.pt"))
    assert len(paths) == 3 and {learning(checkpoint.load(p, CPU)) for p in paths} == {2}


def test_without_the_key_it_is_1(tmp_path: Path) -> None:
    assert learning({}) == learning({"learning": 1}) == 1
    (tmp_path / "config.json").write_text('{"settings": {}}')
    assert learning_of(tmp_path) == 1
    (tmp_path / "config.json").write_text("no JSON")  # is told by whoever reads it
    assert learning_of(tmp_path) == LEARNING == learning_of(tmp_path / "none")


def test_an_old_run_that_would_learn_otherwise_is_refused_and_plays(capsys, tmp_path: Path) -> None:
    climbing(tmp_path / "run", MAPPOConfig(epochs=1)).run()
    words = ("evaluate", str(tmp_path / "run"), "--json", "--episodes", "5")
    before = called(capsys, *words)
    make_old(tmp_path / "run")
    files = contents(tmp_path)
    code, _, err = called(capsys, "resume", str(tmp_path / "run"), "total_frames=400")
    assert code == 2 and err.count("\n") == 1
    assert "learns by version 1 and this is version 2" in err and "commit a3ab744" in err
    assert called(capsys, *words) == before and before[0] == 0
    assert contents(tmp_path) == files


def test_an_old_run_that_uses_nothing_changed_goes_on_exactly(tmp_path: Path) -> None:
    climbing(tmp_path / "whole").run()
    climbing(tmp_path / "cut", total_frames=120).run()
    make_old(tmp_path / "cut")
    run = Experiment.load(tmp_path / "cut", total_frames=240)
    run.run()
    kept = outcome(tmp_path / "cut")
    whole = outcome(tmp_path / "whole")
    for name in ("teams", "random", "metrics"):
        assert equal({name: kept[name]}, {name: whole[name]}), name
    assert learning_of(tmp_path / "cut") == 1  # it remains what it began as


def test_a_newer_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"version 7 .* version 2.*; update marl"):
        check_resumable(tmp_path, 7, {"task": Task("games/climbing"), "teams": {}})


def test_resuming_from_python_asks_too(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run")
    run.run()
    make_old(tmp_path / "run")
    with pytest.raises(UserError, match="learns by version 1"):
        Experiment(
            run.task, None, teams=dict(run.specs), settings=run.settings,
            directory=tmp_path / "run", resume=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("task", "algorithm", "same"),
    [
        ("games/climbing", PLAIN, True),
        ("vmas/balance", IPPOConfig(normalize_value=False), True),
        ("mpe/simple_spread", MAPPOConfig(), False),  # normalises values
        ("mpe2/simple_spread_v3", PLAIN, False),  # agents may leave
        ("my_tasks:mine", PLAIN, False),  # it is not known
        ("games/climbing", HASACConfig(), False),
        ("games/climbing", RandomConfig(), False),
    ],
)
def test_what_version_2_left_alone(task: str, algorithm: Any, same: bool) -> None:
    team = Team(["agents"], algorithm)
    assert same_in_1_and_2({"task": Task(task), "teams": {"a": team}}) is same
    changed = replace(team, algorithm=MAPPOConfig())
    teams = {"a": team, "b": changed}
    assert same_in_1_and_2({"task": Task(task), "teams": teams}) is False
    assert same_in_1_and_2({"task": None, "teams": {"a": team}}) is False
