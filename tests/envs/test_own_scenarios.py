"""VMAS scenarios of a user: named by import path or given as objects, equal to VMAS's own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from marl import UserError, check_env
from marl.envs.task import Task
from marl.envs.vmas.env import VmasEnv
from tests.helpers import own_scenarios as own
from tests.helpers.builders import CPU
from tests.helpers.vmas import assert_same, play

MODULE = "tests.helpers.own_scenarios"
FILE = f"{Path(own.__file__).parent}/../helpers/own_scenarios.py"
KWARGS = {"n_agents": 2, "shared_rew": False}


def make(scenario: Any, **options: Any) -> VmasEnv:
    if not isinstance(scenario, str):
        return VmasEnv(scenario, 3, max_steps=4, **KWARGS, **options)
    env = Task(scenario, max_steps=4, kwargs=dict(KWARGS), **options)(3, CPU)
    assert isinstance(env, VmasEnv)
    return env


@pytest.mark.parametrize(
    "scenario",
    [
        f"{MODULE}:Subclass", f"vmas/{MODULE}:WRAPPED", f"vmas/{FILE}:Subclass", own.Subclass,
        own.WRAPPED,
    ],
)  # fmt: skip
def test_an_own_scenario_equals_the_one_that_it_extends(scenario: Any) -> None:
    """Step for step, through restarts of one copy and of all, and from a state in a file."""
    env, expected = make(scenario), make("vmas/navigation")
    assert env.groups == expected.groups and env.teams == expected.teams
    first, other = env.reset(5), expected.reset(5)
    assert_same(first, other)
    for one in (env, expected):
        one._steps[0] = 2  # so that the copies do not end together
    for one, two in zip(play(env, first, 7), play(expected, other, 7), strict=True):
        assert_same(one, two)
    file = io.BytesIO()
    torch.save(env.state_dict(), file)
    file.seek(0)
    resumed = make(scenario)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for one, two in zip(play(resumed, first, 5), play(expected, other, 5), strict=True):
        assert_same(one, two)


def test_all_options_of_a_scenario_work_with_an_own_one() -> None:
    groups = {"a": ["agent_1"], "b": ["agent_0"]}
    env = Task(f"{MODULE}:Tiny", 3, groups, {"speed": 2.0}, "discrete", graph={"radius": 1})(2, CPU)
    assert list(env.groups) == ["a", "b"] and env.groups["a"].action.mask_size == 9
    check_env(env)
    assert env.reset(0).graph is not None
    assert env.render().shape == (512, 512, 3)
    options = {option.key: option.value for option in Task(f"{MODULE}:Tiny").own_options()}
    assert options == {"speed": 1.0, "n_agents": 2}
    inherited = {option.key for option in Task(f"{MODULE}:Subclass").own_options()}
    assert inherited == {option.key for option in Task("vmas/navigation").own_options()}


def test_an_object_makes_any_number_of_environments() -> None:
    """Each has a copy of it."""
    scenario = own.Tiny()
    envs = [VmasEnv(scenario, size) for size in (2, 3)]
    assert [len(env.reset(0).groups["agent"].obs) for env in envs] == [2, 3]
    assert scenario._world is None


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("Tiny", {"sped": 2}, f"unknown argument 'sped' of {MODULE}:Tiny; did you mean 'speed'"),
        ("NoAgents", {"n_agents": 2}, "has no agents to steer"),
        ("NoAgents", {"others": 2}, "unknown argument 'others'"),
        ("FloatReward", {}, r"returned a float from reward\(agent_0\), expected a tensor \[3\]"),
        ("OneObservation", {}, r"a tensor \[4\] of float32 from observation\(agent_0\), expected"),
        ("GrowingObservation", {}, r"a tensor \[3, 3\] .* expected \[3, 1\] as in its first one"),
        ("FloatEnds", {}, r"of float32 from done\(\), expected a tensor \[3\] of bool"),
        ("Arguments", {}, "cannot be made without arguments"),
    ],
)
def test_a_fault_of_an_own_scenario_is_one_sentence(name: str, kwargs: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as fault:
        check_env(Task(f"{MODULE}:{name}", kwargs=kwargs)(3, CPU))
    assert "\n" not in str(fault.value)


def test_arguments_are_not_checked_where_all_are_handed_on() -> None:
    check_env(Task(f"{MODULE}:HandsOn", kwargs={"anything": 1})(2, CPU), steps=2)
    with pytest.raises(UserError, match="3 is not a VMAS scenario"):
        VmasEnv(3, 2)


def test_the_example_keeps_the_contract() -> None:
    example = Path(__file__).parents[2] / "docs/examples/my_scenario.py"
    env = Task(f"vmas/{example}:Scenario", kwargs={"agents": 3}, max_steps=20)(3, CPU)
    check_env(env)
    assert env.groups["robot"].size == 3


def test_a_file_in_a_folder_called_vmas_is_that_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vmas").mkdir()
    Path("vmas/mine.py").touch()
    assert Task("vmas/mine.py:Scenario").name == f"{tmp_path}/vmas/mine.py:Scenario"
    assert Task("vmas/other.py:Scenario").name == f"{tmp_path}/other.py:Scenario"
    assert Task("vmas/pkg.mine:Scenario").imports() == ["pkg.mine:Scenario"]
