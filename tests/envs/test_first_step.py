"""A user's batched environment is checked at its first reset and step, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from marl.envs.drawing import NO_RENDER
from marl.envs.first_step import FirstStepCheck
from marl.envs.task import Task
from marl.errors import UserError
from marl.types import Discrete, Transition
from tests.helpers.builders import CPU
from tests.helpers.cli import called
from tests.helpers.experiments import WORDS
from tests.helpers.toy_envs import PAIR, Game, identity
from tests.helpers.toy_game import Rules


class Wrong(Game):
    """Breaks the contract in one field of its transitions."""

    def __init__(self, num_envs: int, device: torch.device, field: str):
        super().__init__(num_envs, device, PAIR, Rules())
        self.field = field

    def step(self, action: Any) -> Transition:
        transition = super().step(action)
        flags = dict.fromkeys(self.groups, transition.done)  # [B], not [B, N]
        changes: dict[str, Any] = {
            "truncated": flags,
            "reward": {n: x.double() for n, x in transition.reward.items()},
            "terminated": {"left": transition.terminated["left"]},
            "done": transition.done.numpy(),
        }
        return replace(transition, **{self.field: changes[self.field]})


def wrong(num_envs: int, device: torch.device, field: str) -> Wrong:
    return Wrong(num_envs, device, field)


def nothing(num_envs: int, device: torch.device) -> object:
    return object()


def fewer(num_envs: int, device: torch.device) -> Game:
    return identity(1, device)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("truncated", r"left.truncated has shape \(3,\), expected \(3, 2\)"),
        ("reward", "left.reward is torch.float64, expected torch.float32"),
        ("terminated", r"terminated must be a dict of the groups \['left', 'right'\], not"),
        ("done", "done is a ndarray, expected a tensor"),
    ],
)
def test_the_first_step_is_refused_in_a_sentence(field: str, words: str) -> None:
    env = Task(f"{__name__}:wrong", kwargs={"field": field})(3, CPU)
    env.reset(0)
    action = {"left": torch.zeros(3, 2).long(), "right": torch.zeros(3, 1).long()}
    with pytest.raises(UserError, match=f"task '{__name__}:wrong' breaks .* first step: {words}"):
        env.step(action)


def test_what_is_no_batched_environment_is_refused() -> None:
    with pytest.raises(
        UserError, match="gave an object of type 'object' without num_envs, device, groups"
    ):
        Task(f"{__name__}:nothing")(3, CPU)
    with pytest.raises(UserError, match="num_envs is 1, expected 3"):
        Task(f"{__name__}:fewer")(3, CPU)


def empty(num_envs: int, device: torch.device, members: int = 0) -> Game:
    return Game(num_envs, device, {"left": (members, Discrete(3))}, Rules())


def plain_actions(num_envs: int, device: torch.device) -> Game:
    game = identity(num_envs, device)
    game.groups = {n: replace(group, action=3) for n, group in game.groups.items()}  # pyright: ignore
    return game


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("empty", {}, "group 'left' has no agents, expected at least one"),
        ("plain_actions", {}, "the actions of group 'left' are 3, expected a marl.Discrete"),
        ("empty", {"member": 1}, "unknown option 'member' of task '.*'; did you mean 'members'"),
        ("plain_actions", {"n": 1}, "unknown option 'n' of task .* none exists to choose from"),
    ],
)
def test_what_a_factory_makes_is_checked(name: str, kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Task(f"{__name__}:{name}", kwargs=kwargs)(3, CPU)


def test_training_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"task={__name__}:wrong", "task.kwargs.field=truncated", *WORDS]
    code, _, err = called(capsys, "train", *words)
    assert code == 2 and err.count("\n") == 1 and "left.truncated has shape" in err, err


def test_later_steps_pass_unchecked_and_unchanged() -> None:
    """The numbers are those of the bare environment, and so are its other attributes."""
    checked, bare = FirstStepCheck(identity(3, CPU), "toy", 3), identity(3, CPU)
    assert checked.rules == bare.rules and checked.cannot_draw() in ("", NO_RENDER)
    for env in (checked, bare):
        env.reset(0)
    action = {"left": torch.zeros(3, 2).long(), "right": torch.zeros(3, 1).long()}
    for _ in range(9):
        one, two = checked.step(action), bare.step(action)
        assert all(torch.equal(one.reward[name], two.reward[name]) for name in bare.groups)
    checked.env = Wrong(3, CPU, "truncated")
    assert checked.step(action).truncated["left"].shape == (3,)
