"""Suites and sweep files of somebody else run nothing that they name."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import yaml

from marl.cli import benchmark, sweep
from marl.errors import UserError
from marl.launch import file_settings
from marl.launch.job import Job
from marl.launch.sweep import load
from marl.utils import trust
from tests.helpers.processes import cli

# Each of these would have `marl train` import something from elsewhere, or find settings there.
HOSTILE: list[tuple[str, Any]] = [
    ("task", "stranger:task"),
    ("task", "./stranger.py:task"),
    ("+task.name", "stranger:task"),
    ("algorithm", "mappo,stranger:Config"),
    ("teams.agent.algorithm.function", "stranger:still"),
    ("++teams.agent", {"algorithm": {"function": "stranger:still"}}),
    ("teams", "{agent:{algorithm:{function:stranger:still}}}"),
    ("task.kwargs", {"deep": [{"x": "a:b"}]}),
    ("task.kwargs", {"stranger:task": 1}),
    ("task.name", "${oc.env:HOME}"),
    ("task.name", "${wandb_name}"),
    ("experiment", "../../theirs/experiment"),
    ("experiment", "/tmp/theirs"),
    ("wandb_name", "stranger:task"),
    ("device", "stranger:task"),
    ("hydra.searchpath", "[theirs]"),
    ("hydra/launcher", "theirs"),
    ("+hydra.launcher._target_", "os.system"),
    ("--config-dir", "theirs"),
    ("-m", ""),
    ("task", "mine/duel"),
]
HARMLESS: list[tuple[str, Any]] = [
    ("task", "mpe/simple_spread"),
    ("algorithm.actor_lr", 0.001),
    ("task.kwargs.N", 3),
    ("task.groups", {"left": ["player_0"], "right": ["player_1"]}),
    ("task.kwargs.num_obstacles", "[0, 10]"),
    ("model.hidden", [64, 64]),
    ("device", "cuda:1"),
    ("device", ["cuda:0", "cuda:1"]),
    ("total_frames", "1e6"),
    ("algorithm.entropy", "-1e-3"),
    ("critic_model", None),
    ("video", False),
    ("teams.agent.frozen", "../runs/earlier"),
    ("selfplay.runs", ["/home/me/runs/earlier"]),
    ("task", "vmas/balance"),
]


@pytest.fixture
def installed(monkeypatch) -> None:
    """A package gives a task a short name."""
    given = EntryPoint("mine/duel", "stranger:task", "marl.tasks")
    real = importlib.metadata.entry_points

    def entry_points(**asked: Any) -> EntryPoints:
        return EntryPoints([given]).select(**asked) or real(**asked)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


def check(setting: tuple[str, Any]) -> None:
    file_settings.check(Path("theirs.yaml"), sweep.FOLDER, [setting])


@pytest.mark.parametrize("setting", HOSTILE, ids=str)
def test_what_may_import_asks_for_trust(installed: None, setting: tuple[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^'theirs.yaml' sets .* --trust$"):
        check(setting)
    with trust.accept_all():
        check(setting)


@pytest.mark.parametrize("setting", HARMLESS, ids=str)
def test_other_settings_do_not(installed: None, setting: tuple[str, Any]) -> None:
    check(setting)


def suite(**more: Any) -> dict[str, Any]:
    return {
        "tasks": {"a": {"task": "games/climbing"}, "b": {"task": "games/penalty"}},
        "algorithms": {"m": {"algorithm": "mappo"}},
        "seeds": 1,
        **more,
    }


def searched(**more: Any) -> dict[str, Any]:
    return {
        "method": "grid",
        "metric": {"name": "evaluation/return/team", "goal": "maximize"},
        "parameters": {"algorithm.clip": {"values": [0.1, 0.2]}},
        "command": ["marl", "train", "${args_no_hyphens}"],
        **more,
    }


SUITES = {
    "settings": {"settings": {"task": "stranger:task"}},
    "tasks": {"tasks": {"a": {"task": "stranger:task"}}},
    "algorithms": {"algorithms": {"m": {"algorithm": "stranger:Config"}}},
    "cells": {"cells": {"b/m": {"algorithm": "stranger:Config"}, "a/m": None}},
}
SWEEPS = {
    "value": {"parameters": {"task": {"value": "stranger:task"}}},
    "values": {"parameters": {"task": {"values": ["games/climbing", "stranger:task"]}}},
    "word": {"command": ["marl", "train", "task=stranger:task", "${args_no_hyphens}"]},
    "flag": {"command": ["marl", "train", "--config-dir=theirs", "${args_no_hyphens}"]},
}


@pytest.mark.parametrize("part", SUITES)
def test_every_part_of_a_suite_is_looked_at(tmp_path: Path, part: str) -> None:
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(suite(**SUITES[part])))
    with pytest.raises(UserError, match=r"sets (task|algorithm)=stranger:\w+, which may import"):
        benchmark.find(str(tmp_path / "theirs.yaml"))
    with trust.accept_all():
        benchmark.find(str(tmp_path / "theirs.yaml"))


@pytest.mark.parametrize("part", SWEEPS)
def test_every_part_of_a_sweep_is_looked_at(tmp_path: Path, part: str) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text(yaml.safe_dump(searched(**SWEEPS[part])))
    with pytest.raises(UserError, match="which may import code from elsewhere"):
        file_settings.check(path, sweep.FOLDER, load(path).all_settings())


def test_the_packages_own_files_need_no_trust() -> None:
    for name in benchmark.names():
        file_settings.check(Path("x.yaml"), Path("elsewhere"), benchmark.find(name).all_settings())
    for name in sweep.names():
        settings = load(sweep.find(name)).all_settings()
        file_settings.check(Path("x.yaml"), Path("elsewhere"), settings)


def test_the_command_line(tmp_path: Path) -> None:
    """Somebody's module is imported with --trust only; what is typed is trusted."""
    (tmp_path / "stranger.py").write_text(
        "from pathlib import Path\nPath('imported').touch()\n"
        "from tests.helpers.toy_envs import identity\n"
    )
    task = {"task": {"value": "stranger:identity"}}
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(searched(parameters=task)))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(searched()))
    refused = cli(tmp_path, "sweep", "theirs.yaml", "--dry-run")
    assert refused.code == 2 and "sets task=stranger:identity" in refused.err, refused
    assert not (tmp_path / "imported").exists()
    assert cli(tmp_path, "sweep", "theirs.yaml", "--dry-run", "--trust").code == 0
    typed = cli(tmp_path, "sweep", "mine.yaml", "task=tests.helpers.toy_envs:identity", "--dry-run")
    assert typed.code == 0, typed


def test_runs_of_a_trusted_file_trust_runs(tmp_path: Path) -> None:
    job = Job("one", ("seed=0",), tmp_path / "run", trust=True)
    assert job.command()[-1] == "--trust"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"learning": 99}')
    assert "resume" in job.command() and job.command()[-1] == "--trust"
    assert "--trust" not in Job("one", ("seed=0",), tmp_path / "other").command()
