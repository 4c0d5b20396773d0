"""``marl check TASK``: what it prints of environments whose answers are known, and their faults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from marl.cli import check_task
from marl.env import checked_steps
from marl.envs import survey, trials
from marl.envs.task import Task
from marl.types import Transition
from tests.helpers.builders import CPU
from tests.helpers.cli import called
from tests.helpers.toy_envs import PAIR, mortal
from tests.helpers.toy_game import Game, Rules

HERE = "tests.cli.test_check_task"


class Forgetful(Game):
    """Its saved state lacks its random numbers."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Timeless(Game):
    """Its saved state lacks the time of its episodes, which matters at their end only."""

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"time": torch.zeros_like(self.time)}


class Broken(Game):
    """Ends episodes without an end of its agents, or fails, from the second step on."""

    fails = False
    steps = 0

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        self.steps += 1
        transition = super().step(action)
        if self.steps > 1:
            if self.fails:
                raise ValueError("of my own")
            transition.done.fill_(True)
        return transition


def forgetful(num_envs: int, device: torch.device) -> Game:
    return Forgetful(num_envs, device, PAIR, Rules())


def timeless(num_envs: int, device: torch.device) -> Game:
    return Timeless(num_envs, device, PAIR, Rules(length=25, end=0.0))


def broken(num_envs: int, device: torch.device, fails: bool = False) -> Game:
    game = Broken(num_envs, device, PAIR, Rules())
    game.fails = fails
    return game


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trials, "SECONDS", 0.01)
    monkeypatch.setattr(check_task, "SPEED_COPIES", (1, 2))
    monkeypatch.chdir(tmp_path)


def test_counts_are_those_of_a_loop() -> None:
    played = survey.play(mortal(5, CPU), 60, 3)
    deaths = cuts = ended = died = 0
    rewards: list[float] = []
    for _, _, step in checked_steps(mortal(5, CPU), 60, 3):
        for b in range(5):
            terminated = [bool(x) for t in step.terminated.values() for x in t[b]]
            truncated = [bool(x) for t in step.truncated.values() for x in t[b]]
            rewards += [float(x) for x in step.reward["left"][b]]
            if step.done[b]:
                ended += 1
                died += not any(truncated)
            else:
                deaths += sum(terminated)
                cuts += sum(truncated)
    assert (played.deaths, played.cuts) == (deaths, cuts) and min(deaths, cuts) > 0
    assert (len(played.lengths), played.terminated) == (ended, died) and 0 < died < ended
    assert played.metrics["length"] == pytest.approx(fmean(played.lengths))
    found = played.rewards()
    assert found.mean["left"] == pytest.approx(fmean(rewards))
    assert (found.least["left"], found.largest["left"]) == (min(rewards), max(rewards))
    assert 0 < played.allowed["left"] < 1


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["pettingzoo/classic/rps-v2", "task.max_steps=4", "--copies", "3"],
            ["player: 2 agents (player_0, player_1)", "cancels in every step (zero-sum): one team",
             "4 steps each: 0 by a termination", "state    not saved"],
        ),
        (
            ["task=games/climbing"],
            ["one of 3 choices", "team team: the same for all its agents", "1 step each: 192 by a",
             "reward   agent: from -30 to 11", "state    saved", "equal seeds play equal"],
        ),
        (
            ["tests.helpers.own_scenarios:Tiny", "task.max_steps=3", "task.kwargs.n_agents=3"],
            ["agent: 3 agents", "2 numbers in [-1, 1]", "3 steps each: 0 by a termination, 64 by",
             "picture  check-tests_helpers_own_scenarios_Tiny.png"],
        ),
        (
            ["tests.helpers.toy_envs:mortal", "task.wrappers=[{reward_scale: 0.5}]"],
            ["reward   left: from 0 to 0.5", "died while their episode", "of the choices are"],
        ),
    ],
)  # fmt: skip
def test_it_prints_what_an_environment_does(capsys, words: list[str], lines: list[str]) -> None:
    code, out, err = called(capsys, "check", *words, "--steps", "6")
    assert code == 0, err
    assert not [line for line in lines if line not in out], out
    assert re.search(r"speed    [\d,]+ with 1 and [\d,]+ with 2 copies", out)
    picture = re.search(r"picture  (check-.*)", out)
    if picture:
        assert np.asarray(Image.open(picture[1])).ndim == 3


def test_random_play_that_earns_nothing_asks_for_exploration() -> None:
    def lines(payoff: float) -> str:
        env = Task("games/matrix", kwargs={"payoff": [[0, 0], [0, payoff]]})(3, CPU)
        return "\n".join(text for _, text in check_task._behaviour(survey.play(env, 40, 0)))

    hint = "random play earned nothing in 120 episodes: agents learn only after they come upon"
    assert hint in lines(0.0) and "epsilon_frames" in lines(0.0)
    assert "earned nothing" not in lines(-1.0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no task is named; expected one, as in: marl check vmas/balance"),
        (["vmas/balence"], "unknown task 'vmas/balence'; did you mean 'vmas/balance'?"),
        (["vmas/balance", "seed=3"], "'seed=3' is not a setting of the task; expected task.KEY"),
        (["vmas/balance", "--copis", "3"], "unknown flag '--copis'; did you mean"),
        (
            [f"{HERE}:forgetful"],
            "goes on otherwise from a saved state than before; state_dict must",
        ),
        ([f"{HERE}:timeless"], "goes on otherwise from a saved state than before"),
        (
            [f"{HERE}:broken"],
            "breaks the contract of environments in random play: left: where an ep",
        ),
        (
            [f"{HERE}:broken", "task.kwargs.fails=true"],
            f"failed in random play: ValueError: of my own ({__file__}, line ",
        ),
        (["tests.helpers.own_scenarios:FloatReward"], "returned a float from reward(agent_0)"),
    ],
)
def test_a_fault_is_one_sentence(capsys, words: list[str], sentence: str) -> None:
    code, _, err = called(capsys, "check", *words, *(["--steps", "3"] if words else []))
    assert code == 2 and sentence in err and err.count("\n") == 1, err


def test_unequal_episodes_of_one_seed_are_told(capsys) -> None:
    code, out, _ = called(capsys, "check", "tests.helpers.faulty_envs:Unseeded", "--steps", "3")
    assert code == 0 and "EQUAL SEEDS PLAY DIFFERENT EPISODES" in out
    assert trials.repeats(Task("games/climbing"), CPU, 0)
