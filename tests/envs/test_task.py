"""Tasks by name: who makes them, and which options each reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from marl.algorithms.mappo import MAPPOConfig
from marl.cli.compose import changed
from marl.env import check_env
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment
from marl.networks.perceptron import Perceptron
from marl.training.settings import Settings
from tests.helpers.builders import CPU
from tests.helpers.tiny_env import Tiny

POSITIONS = {"positions": [0, 1]}
DEAD = [  # a task, and options that would change nothing in it
    ("mpe/simple_spread", {"workers": 4}),
    ("mpe/simple_spread", {"state": True}),
    ("navigation/target", {"actions": "discrete"}),
    ("games/climbing", {"graph": POSITIONS}),
    ("games/climbing", {"workers": 1}),
    ("vmas/balance", {"workers": 1}),
    ("vmas/balance", {"state": True}),
    ("mpe2/simple_spread_v3", {"actions": "discrete"}),
    ("pettingzoo/classic/rps-v2", {"actions": "discrete"}),
    ("tests.helpers.tiny_env:Tiny", {"actions": "discrete"}),
    ("tests.helpers.toy_envs:identity", {"max_steps": 3}),
    ("tests.helpers.toy_envs:identity", {"groups": {"a": ["agent_0"]}}),
    ("tests.helpers.toy_envs:identity", {"workers": 2}),
]


@pytest.mark.parametrize(("name", "options"), DEAD)
def test_an_option_that_is_not_read_is_refused(name: str, options: dict[str, Any]) -> None:
    (option,) = options
    with pytest.raises(UserError, match=rf"task\.{option}=.* changes nothing in '{name}': only "):
        Task(name, **options)(2, CPU)


def test_the_refusal_says_who_reads_it() -> None:
    words = "only mpe2/…, pettingzoo/…, aec/…, gymnasium/…, import paths of PettingZoo env"
    with pytest.raises(UserError, match=words):
        Task("mpe/simple_spread", workers=4)(2, CPU)
    with pytest.raises(UserError, match="only vmas/… read it"):
        Task("mpe/simple_spread", actions="discrete")(2, CPU)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mpe/simple_spread", {"max_steps": 3, "graph": POSITIONS}),
        ("vmas/balance", {"actions": "discrete", "max_steps": 3}),
        ("mpe2/simple_spread_v3", {"workers": 1, "state": True, "max_steps": 3}),
        (
            "tests.helpers.tiny_env:Tiny",
            {"workers": 1, "max_steps": 3, "groups": {"b": ["a_1", "a_0"]}},
        ),
        ("tests.helpers.toy_envs:identity", {}),
    ],
)
def test_options_that_are_read(name: str, options: dict[str, Any]) -> None:
    env = Task(name, **options)(2, CPU)
    check_env(env, steps=4)
    env.close()


def test_a_run_of_before_goes_on_without_what_it_ignored(tmp_path: Path) -> None:
    run = Experiment(
        Task("games/climbing"), MAPPOConfig(), Perceptron([4]), directory=tmp_path / "run",
        settings=Settings(total_frames=80, num_envs=4, steps=10, evaluation_episodes=2),
    )  # fmt: skip
    run.run()
    path = run.directory / "config.json"
    config = json.loads(path.read_text())
    config["task"] |= {"workers": 2, "state": True, "max_steps": 10}
    path.write_text(json.dumps(config))
    loaded = Experiment.load(run.directory, total_frames=160)
    assert loaded.task == Task("games/climbing", max_steps=10)
    loaded.run()
    with pytest.raises(UserError, match=r"task\.workers=3 changes nothing"):
        changed(loaded.task, ["task.workers=3"])(2, CPU)


@pytest.mark.parametrize(
    ("name", "option", "setting"),
    [
        ("mpe/simple_spread", "max_steps", "task.max_steps"),
        ("games/climbing", "device", "device"),
        ("vmas/balance", "actions", "task.actions"),
        ("tests.helpers.own_scenarios:Tiny", "num_envs", "num_envs"),
        ("tests.helpers.toy_envs:identity", "num_envs", "num_envs"),
    ],
)
def test_kwargs_do_not_set_what_the_task_or_run_sets(name: str, option: str, setting: str) -> None:
    words = rf"task\.kwargs\.{option} is no option of the environment .*; set {setting}=3 instead"
    with pytest.raises(UserError, match=words):
        Task(name, kwargs={option: 3})(2, CPU)


class Lengthy(Tiny):
    """Has options of the names of the task's."""

    def __init__(self, max_steps: int, device: str, name: str, path: str) -> None:
        super().__init__()
        self.length = max_steps


def test_a_pettingzoo_environment_may_have_options_of_any_name() -> None:
    kwargs = {"max_steps": 2, "device": "mine", "name": "a", "path": "b"}
    env = Task("tests.envs.test_task:Lengthy", kwargs=kwargs)(2, CPU)
    env.reset(0)
    action = {"a": torch.zeros(2, 2, dtype=torch.int64)}
    assert [bool(env.step(action).done.all()) for _ in range(4)] == [False, True, False, True]


def test_what_vmas_itself_takes_is_no_option_of_a_scenario() -> None:
    with pytest.raises(UserError, match="seed=3 is an argument of VMAS's environment, not of"):
        Task("vmas/balance", kwargs={"seed": 3})(2, CPU)
