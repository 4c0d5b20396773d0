"""The sweep files that come with the package: their points train, and log what they compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from marl.cli import compose
from marl.cli.sweep import FOLDER, names
from marl.launch import sweep
from marl.launch.search_space import Parameter
from tests.helpers.processes import cli
from tests.helpers.wandb_offline import wandb_records

# What makes a run of each file take a second.
TINY = {
    "total_frames": 100, "num_envs": 2, "steps": 25, "evaluation_interval": 0, "replay_size": 200,
    "evaluation_episodes": 2, "algorithm.compile": False, "video": False, "progress": False,
}  # fmt: skip
ONPOLICY = {"algorithm.minibatch_size": 0, "algorithm.epochs": 1}
OFFPOLICY = {"algorithm.warmup": 50, "algorithm.batch_size": 8}


def extremes(one: Parameter) -> list[Any]:
    """All values of a choice, both ends of a range."""
    if "min" in one.spec:
        return [one.spec["min"], one.spec["max"]]
    return one.spec.get("values", [one.spec.get("value")])


def words(found: sweep.Sweep, point: dict[str, Any], **more: Any) -> list[str]:
    off_policy = {"algorithm.batch_size", "algorithm.td_lambda"} & set(point)
    fitting = OFFPOLICY if off_policy else ONPOLICY
    return found.settings({**point, **TINY, **fitting, "wandb": False, **more})


def test_there_is_one_for_each_family() -> None:
    assert names() == ["bayes", "hasac", "informarl", "maddpg", "mappo", "value"]
    methods = {sweep.load(FOLDER / f"{name}.yaml").method for name in names()}
    assert methods == {"random", "bayes"}


@pytest.mark.parametrize("name", names())
def test_every_value_is_taken_by_the_command_line(name: str) -> None:
    """Points that together have every listed value and both ends of every range."""
    found = sweep.load(FOLDER / f"{name}.yaml")
    assert found.early_terminate is not None and found.run_cap is not None
    values = {one.name: extremes(one) for one in found.parameters}
    for number in range(max(len(some) for some in values.values())):
        point = {key: some[number % len(some)] for key, some in values.items()}
        run = compose.composed(found.settings(point))
        for key in found.varied:
            part: Any = run
            for attribute in key.split("."):
                part = getattr(part, attribute)
            assert part == point[key], key
        assert run.wandb and run.wandb_group == f"sweep-{name}"
        # The bands lie within the run, and the first one after a tenth of it.
        evaluations = 1 + run.total_frames // run.evaluation_interval
        bands = found.early_terminate.bands(evaluations)
        assert len(bands) >= 2 and bands[0] >= evaluations / 10


@pytest.mark.parametrize("name", names())
def test_the_metric_is_logged(tmp_path: Path, name: str) -> None:
    found = sweep.load(FOLDER / f"{name}.yaml")
    point = found.points(1)[0]
    compose.build(compose.composed(words(found, point, directory=tmp_path / "run"))).run()
    assert sweep.history(tmp_path / "run", found.metric)[-1][0] == 100
    assert sweep.missing(tmp_path / "run", found.metric, done=True) is None


def test_a_tiny_run_under_an_agent_is_read_back(tmp_path: Path, monkeypatch) -> None:
    """The command that ``wandb agent`` makes of a point, in the environment that it makes."""
    found = sweep.load(FOLDER / "bayes.yaml")
    point = {**found.points(1)[0], **TINY, **ONPOLICY}
    told = tmp_path / "config-one.yaml"
    told.write_text(
        yaml.safe_dump({"wandb_version": 1, **{k: {"value": v} for k, v in point.items()}})
    )
    for key, value in (("SWEEP_ID", "s1"), ("RUN_ID", "one"), ("SWEEP_PARAM_PATH", str(told))):
        monkeypatch.setenv(f"WANDB_{key}", value)
    env, marl, *rest = sweep.render(found.command, point)
    assert (env, marl) == ("/usr/bin/env", "marl")
    result = cli(tmp_path, *rest)
    assert result.code == 0, result
    run, history = wandb_records(tmp_path / "runs")
    assert (run["sweep_id"], run["run_id"], run["run_group"]) == ("s1", "one", "sweep-bayes")
    for name in found.varied:
        assert run["config"]["update"][name] == point[name]
    learned = run["config"]["update"]["teams"]["team"]["algorithm"]["actor_lr"]
    assert learned == point["algorithm.actor_lr"]
    logged = [row[found.metric] for row in history if found.metric in row]
    (directory,) = (tmp_path / "runs").iterdir()
    assert logged == pytest.approx([value for _, value in sweep.history(directory, found.metric)])
