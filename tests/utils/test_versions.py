"""A run names the version that it learns by; one of an older version plays, and goes on only where
nothing that it uses has changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from marl.algorithms.hasac import HASACConfig
from marl.algorithms.mappo import IPPOConfig, MAPPOConfig
from marl.algorithms.scripted import RandomConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.training import checkpoint
from marl.training.selfplay import check_images
from marl.training.teams import Team
from marl.types import AgentGroup, Discrete, TensorSpec
from marl.utils import trust
from marl.utils.versions import (
    LEARNING,
    check_resumable,
    learning,
    learning_of,
    observed_group,
    same_in_1_and_2,
)
from tests.helpers.builders import CPU
from tests.helpers.cli import called
from tests.helpers.experiments import SHORT, equal, experiment, outcome
from tests.helpers.tiny_env import Tiny

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
    with trust.accept_all(), pytest.raises(UserError, match="learns by version 1"):
        Experiment(
            run.task, None, teams=dict(run.specs), settings=run.settings,
            directory=tmp_path / "run", resume=True,
        )  # fmt: skip


class Pictures(Tiny):
    """Two agents see noise from 0 to 1."""

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(0, 1, (40, 40, 3), np.float32)

    def observe(self, agent: str) -> np.ndarray:
        return self.rng.random((40, 40, 3), np.float32)


def pictures() -> Pictures:
    return Pictures()


def test_images_of_an_old_run_are_read_as_they_were(capsys, tmp_path: Path) -> None:
    """Floats were flattened; from 0 to 1 that is what version 2 does where it is asked to."""
    run = Experiment(
        Task("tests.utils.test_versions:pictures"),
        MAPPOConfig(epochs=1),
        Perceptron(hidden=[8], images="flatten"),
        settings=Settings(**{**SHORT, "total_frames": 40}),
        directory=tmp_path / "run",
    )
    run.run()
    words = ("evaluate", str(tmp_path / "run"), "--json", "--sample")
    before = called(capsys, *words)
    make_old(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"images": "flatten", ', ""))  # that there was not
    assert called(capsys, *words, "--trust") == before and before[0] == 0


def test_how_version_1_read_images() -> None:
    def group(spec: TensorSpec) -> AgentGroup:
        return AgentGroup("a", ("a_0",), spec, Discrete(2))

    ten = group(TensorSpec((8, 8, 1), torch.uint8, (0,), (10,)))
    assert observed_group(ten, 2) == ten
    assert observed_group(ten, 1).observation.high == (255,)
    byte = group(TensorSpec((8, 8, 1), torch.uint8))
    floats = group(TensorSpec((8, 8, 1), torch.float32, (0,), (1,)))
    assert observed_group(byte, 1) == byte and not observed_group(floats, 1).observation.is_image
    check_images({"a": ten}, {"learning": 2}, Path("run"))
    check_images({"a": byte}, {}, Path("run"))
    with pytest.raises(UserError, match="'run' learned from images in other units"):
        check_images({"a": byte, "b": ten}, {}, Path("run"))


@pytest.mark.parametrize(
    ("task", "algorithm", "same"),
    [
        ("games/climbing", PLAIN, True),
        ("vmas/balance", IPPOConfig(normalize_value=False), True),
        ("vmas/football", PLAIN, False),  # not known to act in [-1, 1]
        ("mpe/simple_spread", MAPPOConfig(), False),  # normalises values
        ("mpe2/simple_spread_v3", PLAIN, False),  # agents may leave
        ("my_tasks:mine", PLAIN, False),  # it is not known
        ("games/climbing", HASACConfig(), False),
        ("games/climbing", RandomConfig(), False),
    ],
)
def test_what_version_2_left_alone(task: str, algorithm: Any, same: bool) -> None:
    team = Team(["agents"], algorithm)
    in_other_units = Task(task, kwargs={"continuous_actions": True})
    assert same_in_1_and_2({"task": in_other_units, "teams": {"a": team}}) is False
    assert same_in_1_and_2({"task": Task(task), "teams": {"a": team}}) is same
    changed = replace(team, algorithm=MAPPOConfig())
    teams = {"a": team, "b": changed}
    assert same_in_1_and_2({"task": Task(task), "teams": teams}) is False
    assert same_in_1_and_2({"task": None, "teams": {"a": team}}) is False
