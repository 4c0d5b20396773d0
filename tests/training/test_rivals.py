"""Rivals in one team are told before training, with the settings that part them; nobody else is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from marl.algorithms.mappo import MAPPOConfig
from marl.cli import compose
from marl.envs.task import Task
from marl.experiment import Experiment
from marl.networks.perceptron import Perceptron
from marl.training import cautions, rivals
from marl.training.settings import Settings
from marl.training.teams import Team, resolve_teams
from tests.helpers.builders import CPU
from tests.helpers.experiments import SHORT, equal, experiment, outcome
from tests.helpers.tiny_env import Tiny


class Paid(Tiny):
    """Agents are paid by ``pay``, from who chose 1 (1.0) and who did not (0.0)."""

    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        return dict(good)

    def step(self, actions: dict) -> Any:
        observations, _, *rest = super().step(actions)
        return observations, self.pay({a: float(x == 1) for a, x in actions.items()}), *rest


class Rivals(Paid):
    """What one gains the other loses; 1 is the right choice of five."""

    names = ("player_0", "player_1")

    def action_space(self, agent: Any) -> spaces.Space:
        return spaces.Discrete(5)

    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        return {a: len(good) * g - sum(good.values()) for a, g in good.items()}


class Odd(Rivals):
    names = ("left wing", "right wing")


class Constant(Rivals):
    """They share one point at every step."""

    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        first, second = good.values()
        share = 0.5 + (first - second) / 2
        return dict(zip(good, (share, 1 - share), strict=True))


class Rounded(Rivals):
    """Three, whose rewards add up to 0 but for what a float32 makes of them."""

    names = ("a_0", "a_1", "a_2")

    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        drawn = self.rng.normal(size=3)
        return dict(zip(good, 100 * (drawn - drawn.mean()), strict=True))


class Pairs(Paid):
    """Two against two, all of one kind: the even ones against the odd ones."""

    names = ("player_0", "player_1", "player_2", "player_3")

    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        lead = sum(g if i % 2 == 0 else -g for i, g in enumerate(good.values()))
        return {a: lead if i % 2 == 0 else -lead for i, a in enumerate(good)}


class Many(Rivals):
    names = tuple(f"a_{i}" for i in range(8))


class Hunt(Paid):
    """Two hunters, each paid for its own catch, against one who pays for both."""

    names = ("hunter_0", "hunter_1", "hare_0")

    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        *hunters, _ = good.values()
        return dict(zip(good, (*hunters, -sum(hunters)), strict=True))


class Nothing(Paid):
    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        return dict.fromkeys(good, 0.0)


class Alike(Paid):
    """All are paid the same."""

    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        return dict.fromkeys(good, sum(good.values()))


class Costs(Paid):
    """The same cost for all, always."""

    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        return dict.fromkeys(good, -0.1)


class Late(Rivals):
    """Rivals but for one step in twenty, in which there is something to share."""

    length = 20

    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        more = float(self.t == 20)
        return {a: r + more for a, r in super().pay(good).items()}


def said(name: str, reward: str = "team_mean", clock: Any = lambda: 0.0) -> list[str]:
    env = Task(f"{__name__}:{name}")(8, CPU)
    default = Team(None, MAPPOConfig(reward=reward), Perceptron([4]))
    return rivals.warnings(resolve_teams(env, {}, default), env, 0, clock)


def settings_of(sentence: str) -> list[str]:
    """What the sentence tells to paste."""
    return shlex.split(sentence.splitlines()[1])


def split(sentence: str, name: str) -> dict[str, list[str]]:
    """Team -> agents, with those settings on the command line."""
    words = [f"task={__name__}:{name}", "algorithm=mappo", *settings_of(sentence)]
    run = compose.composed(words)
    env = run.task(1, CPU)
    teams = resolve_teams(env, run.teams, Team(None, run.algorithm, run.model))
    return {n: [a for g in t.groups or () for a in env.groups[g].agents] for n, t in teams.items()}


@pytest.mark.parametrize(
    ("name", "teams"),
    [
        ("Rivals", {"player_0": ["player_0"], "player_1": ["player_1"]}),
        ("Odd", {"side_1": ["left wing"], "side_2": ["right wing"]}),
        ("Constant", {"player_0": ["player_0"], "player_1": ["player_1"]}),
        ("Rounded", {"a_0": ["a_0"], "a_1": ["a_1"], "a_2": ["a_2"]}),
        ("Pairs", {"side_1": ["player_0", "player_2"], "side_2": ["player_1", "player_3"]}),
        ("Many", {"side_1": ["a_0", "a_1", "a_2", "a_3"], "side_2": ["a_4", "a_5", "a_6", "a_7"]}),
        ("Hunt", {"hunter": ["hunter_0", "hunter_1"], "hare": ["hare_0"]}),
    ],
)
@pytest.mark.parametrize("reward", ["team_mean", "team_sum"])
def test_rivals_are_told_and_parted(name: str, teams: dict[str, list[str]], reward: str) -> None:
    (sentence,) = said(name, reward)
    assert "team 'team' has nothing to learn" in sentence and reward in sentence
    assert f"added up to {1 if name == 'Constant' else 0}," in sentence
    assert "algorithm.reward=own" in sentence
    assert split(sentence, name) == teams
    assert ("task.groups" in sentence) is (name not in ("Hunt", "Odd"))


@pytest.mark.parametrize("name", ["Paid", "Nothing", "Alike", "Costs", "Late"])
def test_a_team_that_can_learn_is_left_alone(name: str) -> None:
    assert said(name) == []


def test_own_rewards_and_teams_of_one_are_left_alone() -> None:
    assert said("Rivals", "own") == []
    env = Task(f"{__name__}:Rivals", groups={"a": ["player_0"], "b": ["player_1"]})(2, CPU)
    teams = resolve_teams(env, {"a": Team(["a"])}, Team(None, MAPPOConfig(), Perceptron()))
    assert len(teams) == 2 and rivals.warnings(teams, env, 0) == []


def test_a_slow_environment_is_asked_less() -> None:
    hours = iter(range(0, 100 * 3600, 3600))
    (sentence,) = said("Rivals", clock=lambda: float(next(hours)))
    assert " in 8 random steps" in sentence


class Careless(Paid):
    """Draws what it pays with everybody's numbers."""

    def pay(self, good: Mapping[str, float]) -> dict[str, float]:
        return {a: g * np.random.rand() for a, g in good.items()}  # noqa: NPY002  # as it may


@pytest.mark.parametrize("name", ["Careless", "Rivals"])
def test_a_run_is_the_same_bytes_with_and_without(tmp_path: Path, monkeypatch, name: str) -> None:
    found = []
    for folder in ("with", "without"):
        experiment(tmp_path / folder, f"{__name__}:{name}").run()
        found.append(outcome(tmp_path / folder))
        monkeypatch.setattr(cautions, "print_warnings", lambda *_: None)
    assert equal(*found)


def test_a_run_tells_before_it_trains_and_learns_as_it_is_told(tmp_path: Path, capsys) -> None:
    settings = Settings(**{**SHORT, "total_frames": 6000, "num_envs": 20, "steps": 25})

    def run(folder: str, words: list[str]) -> Experiment:
        chosen = compose.composed([f"task={__name__}:Rivals", "algorithm=mappo", *words])
        made = Experiment(
            chosen.task, MAPPOConfig(actor_lr=3e-3), chosen.model, teams=chosen.teams,
            settings=settings, directory=tmp_path / folder,
        )  # fmt: skip
        made.run()
        return made

    run("one", [])
    words = settings_of(capsys.readouterr().err)
    parted = run("two", words)
    assert "marl: warning" not in capsys.readouterr().err
    for team in parted.teams.values():
        policy: Any = team.policy
        for logits in policy.distribution_params(parted.evaluations.env.reset(1)).values():
            assert torch.softmax(logits, -1)[..., 1].min() > 0.9
