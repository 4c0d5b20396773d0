"""Tasks by name: who makes them, and which options each reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marl.algorithms.mappo import MAPPOConfig
from marl.cli.compose import changed
from marl.env import check_env
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment
from marl.networks.perceptron import Perceptron
from marl.training.settings import Settings
from tests.helpers.builders import CPU

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
