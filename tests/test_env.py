"""The toys, and two real tasks, keep the contract; a broken one is told in words."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from marl.env import check_env, copy_seeds
from marl.types import Transition
from tests.helpers.toy_envs import KINDS, Game, identity

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_toys_keep_the_contract(kind: str) -> None:
    check_env(KINDS[kind](5, CPU), steps=30)


@pytest.mark.parametrize("kind", KINDS)
def test_toys_continue_from_their_state(kind: str) -> None:
    env, other = KINDS[kind](3, CPU), KINDS[kind](3, CPU)
    check_env(env, steps=7)
    other.load_state_dict(env.state_dict())
    action = {
        name: torch.zeros(3, group.size, *group.action.shape, dtype=group.action.dtype)
        for name, group in env.groups.items()
    }
    for _ in range(6):
        one, two = env.step(action), other.step(action)
        assert all(torch.equal(one.reward[name], two.reward[name]) for name in env.groups)


NONE = {"left": torch.zeros(2, 2).bool(), "right": torch.zeros(2, 1).bool()}
ALL = {name: ~flag for name, flag in NONE.items()}


class Wrong(Game):
    """Breaks the contract in one field of its transitions."""

    change: dict

    def step(self, action) -> Transition:
        return dataclasses.replace(super().step(action), **self.change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"truncated": {**NONE, "left": torch.ones(2, 2)}}, "left.truncated is torch.float32"),
        ({"done": torch.zeros(3, dtype=torch.bool)}, "done has shape"),
        ({"info": {"x": torch.full((2,), torch.nan)}}, "info x is not finite"),
        ({"done": torch.ones(2).bool()}, "every agent still present must be terminated or trunc"),
        ({"truncated": ALL}, "left: an agent truncated while its episode goes on must be absent"),
        ({"truncated": ALL, "terminated": ALL}, "must not be terminated and truncated"),
    ],
)
def test_check_env_names_what_is_broken(change: dict, words: str) -> None:
    toy = identity(2, CPU, length=100, end=0.0)
    wrong = Wrong(2, CPU, {n: (g.size, g.action) for n, g in toy.groups.items()}, toy.rules)
    wrong.change = change
    with pytest.raises(AssertionError, match=words):
        check_env(wrong, steps=3)


class Forgetful(Game):
    """Observes anew, and something else, what was not the end of anything."""

    def step(self, action) -> Transition:
        transition = super().step(action)
        seen = transition.next_obs.groups["left"]
        other = dataclasses.replace(seen, obs=1 - seen.obs)
        groups = {**transition.next_obs.groups, "left": other}
        next_obs = dataclasses.replace(transition.next_obs, groups=groups)
        return dataclasses.replace(transition, next_obs=next_obs)


def test_successors_are_what_is_acted_on_next_where_nothing_ended() -> None:
    toy = identity(2, CPU, length=100, end=0.0)
    wrong = Forgetful(2, CPU, {n: (g.size, g.action) for n, g in toy.groups.items()}, toy.rules)
    with pytest.raises(AssertionError, match="obs and next_obs must be equal"):
        check_env(wrong, steps=3)


def test_training_and_evaluation_copies_never_share_a_seed() -> None:
    assert not set(copy_seeds(1000, 64)) & set(copy_seeds(1001, 64))
    assert len(set(copy_seeds(7, 64))) == 64
    assert all(0 <= seed < 2**31 for seed in copy_seeds(2**31 - 2, 8))
