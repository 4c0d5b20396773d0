"""Agents and groups may have any ids and names; they learn alike whatever these are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from marl.algorithms.hasac import HASACConfig
from marl.algorithms.mappo import IPPOConfig, MAPPOConfig
from marl.cli.compose import composed
from marl.envs.pettingzoo.env import PettingZooEnv
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment
from marl.networks.by_group import ByGroup
from marl.networks.perceptron import Perceptron
from marl.training.rivals import split
from marl.training.settings import Settings
from tests.helpers.awkward_envs import NAMES, Named
from tests.helpers.builders import CPU
from tests.helpers.tiny_env import Tiny

NAMED = f"{Named.__module__}:Named"


def trained(names: str, config: Any, path: Path, frames: int = 80, **options: Any) -> Experiment:
    task = Task(NAMED, kwargs={"names": names}, **options)
    settings = Settings(total_frames=frames, num_envs=4, steps=10, evaluation_episodes=2)
    run = Experiment(task, config, Perceptron([8]), settings=settings, directory=path / names)
    run.run()
    return run


def weights(run: Experiment) -> list[torch.Tensor]:
    return [x for team in run.teams.values() for x in team.policy.parameters()]  # type: ignore[attr-defined]


CONFIGS = [
    IPPOConfig(epochs=2),
    MAPPOConfig(epochs=2, critic="team"),
    HASACConfig(warmup=20, batch_size=16),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_names_change_nothing_that_is_learned(config: Any, tmp_path: Path) -> None:
    plain = trained("plain", config, tmp_path)
    for names in NAMES:
        run = trained(names, config, tmp_path / "others")
        assert run.evaluations.returns == plain.evaluations.returns
        assert all(map(torch.equal, weights(run), weights(plain)))


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ("numbers", {"agent": ("0", "1")}),
        ("places", {"agent": ("0_0", "0_1")}),
        ("tuples", {"drone": ("drone_1", "drone_2")}),
        ("dots", {"drone": ("drone.1", "drone.2")}),
        ("train", {"train": ("train_0", "train_1")}),
    ],
)
def test_groups_by_name(names: str, groups: dict[str, tuple[str, ...]]) -> None:
    env = Task(NAMED, kwargs={"names": names})(2, CPU)
    assert {name: group.agents for name, group in env.groups.items()} == groups


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("first", [0, "0"])
def test_groups_of_numbers(first: Any, workers: int) -> None:
    """By number in Python and as text on the command line; each agent gets its own action."""
    groups: Any = {"left.one": [1], "type": [first]}
    env = Task(NAMED, groups=groups, kwargs={"names": "numbers"}, workers=workers)(2, CPU)
    env.reset(0)
    one, none = torch.ones(2, 1, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int64)
    reward = env.step({"left.one": one, "type": none}).reward
    assert reward["left.one"].tolist() == [[1], [1]] and reward["type"].tolist() == [[0], [0]]
    env.close()


def test_such_groups_are_saved_and_resumed(tmp_path: Path) -> None:
    groups: Any = {"left.one": ["1"], "forward": ["0"]}
    config = MAPPOConfig(epochs=2, critic="team")
    whole = trained("numbers", config, tmp_path / "whole", 160, groups=groups)
    run = trained("numbers", config, tmp_path / "half", 80, groups=groups)
    resumed = Experiment.load(run.directory, total_frames=160)
    resumed.run()
    assert list(resumed.env.groups) == ["left.one", "forward"]
    assert all(map(torch.equal, weights(resumed), weights(whole)))


def test_two_agents_of_one_name() -> None:
    def make() -> Tiny:
        env = Tiny()
        env.possible_agents = [1, "1"]
        return env

    with pytest.raises(UserError, match="agents 1 and '1' are both '1' as text"):
        PettingZooEnv(make, 1)


def test_modules_go_by_the_groups_name() -> None:
    names = ["plain", "a.b", "train", "keys", "a%2Eb"]
    layers = {name: nn.Linear(1, 1) for name in names}
    modules = ByGroup(layers)
    assert list(modules) == list(modules.keys()) == names and len(modules) == len(names)
    assert dict(modules.items()) == layers and list(modules.values()) == list(layers.values())
    assert all(name in modules and modules[name] is layers[name] for name in names)
    state = modules.state_dict()
    assert "plain.weight" in state and len(state) == 2 * len(names)
    other = ByGroup({name: nn.Linear(1, 1) for name in names})
    other.load_state_dict(state)
    assert all(torch.equal(other[n].weight, layers[n].weight) for n in names)  # type: ignore[arg-type]


class Rivals(Named):
    def reward(self, agent: Any, action: Any) -> float:
        return 1.0 if agent == self.possible_agents[0] else -1.0


@pytest.mark.parametrize("names", ["numbers", "dots"])
def test_settings_that_part_rivals_compose(names: str) -> None:
    """What the warning of rivals in one team proposes to paste is read as it is meant."""
    env = Task(f"{__name__}:Rivals", kwargs={"names": names})(2, CPU)
    ((group, spec),) = env.groups.items()
    rewards = torch.tensor([1.0, -1.0]).expand(10, 2, 2)
    words = split([(group, agent) for agent in spec.agents], rewards, env)
    run = composed([f"task={__name__}:Rivals", f"task.kwargs.names={names}", *words])
    parted = run.task(2, CPU)
    assert [g.agents for g in parted.groups.values()] == [(a,) for a in spec.agents]
    assert [team.groups for team in run.teams.values()] == [[g] for g in parted.groups]
