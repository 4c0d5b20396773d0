"""Small games: the contract, pictures and mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from marl.env import check_env, random_action
from marl.envs.games.env import GameEnv
from marl.envs.games.tasks import make, names
from marl.envs.task import Task, task_names
from marl.errors import UserError
from marl.types import tree_tensors
from tests.helpers.games import always, joint, play

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in names()),
    ("games/random", {"agents": 4, "actions": 2, "seed": 3}),
    ("games/matrix", {"payoff": [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]}),
    ("games/coordination", {"N": 10}),
    ("games/aloha", {"rows": 1, "columns": 1}),
    ("games/byzantine", {"history": False}),
    ("games/spectrum", {"N": 4, "K": 3, "primary": True, "snr_weighted": True}),
]
DRAWS = ("games/coordination", "games/byzantine", "games/cue")  # begin by chance


@pytest.mark.parametrize(("name", "options"), CASES)
def test_games_keep_the_contract(name: str, options: dict[str, Any]) -> None:
    env = make(name, 5, **options)
    check_env(env, steps=2 * env.max_steps + 1)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_games_continue_from_their_state(name: str, options: dict[str, Any]) -> None:
    env, other = make(name, 3, **options), make(name, 3, **options)
    check_env(env, steps=env.max_steps + 3)
    other.load_state_dict(env.state_dict())
    assert np.array_equal(env.render(1), other.render(1))
    generator = torch.Generator().manual_seed(5)
    for _ in range(env.max_steps + 1):
        action = random_actions(env, generator)
        assert same(env.step(action), other.step(action))


def same(one: Any, two: Any) -> bool:
    return all(map(torch.equal, tree_tensors(one), tree_tensors(two)))


def random_actions(env: GameEnv, generator: torch.Generator) -> dict[str, Tensor]:
    seen = env._observation(env.play).groups
    return {n: random_action(g, seen[n], generator) for n, g in env.groups.items()}


def test_a_saved_state_is_of_its_own_time() -> None:
    """What was saved does not change with later steps."""
    env = make("games/aloha", 2)
    env.reset(0)
    saved = env.state_dict()
    env.step(joint(env, torch.ones(2, 10).long()))
    assert saved["now"]["steps"].tolist() == [0, 0] and env.play.steps.tolist() == [1, 1]


def test_states_of_others_are_refused() -> None:
    env = make("games/coordination", 3)
    with pytest.raises(UserError, match=r"of 2 environments, expected 3; set num_envs=2"):
        env.load_state_dict(make("games/coordination", 2).state_dict())
    with pytest.raises(UserError, match="not one of games/coordination"):
        env.load_state_dict(make("games/aloha", 3).state_dict())
    with pytest.raises(UserError, match="with other options"):
        env.load_state_dict(make("games/coordination", 3, N=5).state_dict())


@pytest.mark.parametrize("name", DRAWS)
def test_seeds_decide_the_beginnings(name: str) -> None:
    env = make(name, 64)
    first, again, other = (env.reset(seed).groups["agent"].obs for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first.unique(dim=0)) > 1, "copies begin apart"


def test_new_episodes_are_drawn_and_forget() -> None:
    env = make("games/spectrum", 40, primary=True, snr_weighted=True, max_steps=3)
    play(env, always(1, 1, 2))
    assert (env.last_play.state.successes.sum(-1) > 0).any() and not env.play.state.successes.any()
    assert not torch.equal(env.last_play.state.rate, env.play.state.rate)
    assert (env.play.steps == 0).all() and (env.play.totals == 0).all()


def test_groups_in_any_order_play_the_same_game() -> None:
    groups = {"back": ["user_3", "user_1"], "front": ["user_0", "user_2"]}
    plain, split = make("games/spectrum", 50, N=4), make("games/spectrum", 50, groups=groups, N=4)
    for env in (plain, split):
        env.reset(0)
    action = torch.randint(3, (50, 4), generator=torch.Generator().manual_seed(0))
    one, two = plain.step({"user": action}), split.step(joint(split, action))
    assert torch.equal(one.reward["user"][:, [3, 1]], two.reward["back"])
    assert torch.equal(one.obs.groups["user"].obs[:, [0, 2]], two.obs.groups["front"].obs)
    assert one.reward["user"].std() > 0


def test_a_game_of_one_shot_terminates_and_a_repeated_one_is_cut_off() -> None:
    once, twice = make("games/climbing", 2), make("games/climbing", 2, max_steps=2)
    for env, truncated in ((once, [False]), (twice, [False, True])):
        env.reset(0)
        ends = [env.step(joint(env, torch.zeros(2, 2).long())) for _ in truncated]
        assert [end.truncated["agent"].tolist() for end in ends] == [
            [[cut] * 2] * 2 for cut in truncated
        ]
        assert ends[-1].terminated["agent"].all().item() == (env is once)
        assert ends[-1].done.all()
    coordination = make("games/coordination", 2)
    play(coordination, always(0, 0, 0))
    assert coordination.max_steps == 25


@pytest.mark.parametrize(("name", "options"), CASES)
def test_pictures_show_what_happened(name: str, options: dict[str, Any]) -> None:
    env = make(name, 2, **options)
    env.reset(0)
    before = env.render(1)
    env.step(random_actions(env, torch.Generator().manual_seed(0)))
    after = env.render(1)
    for picture in (before, after):
        assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8
        assert len(np.unique(picture @ [65536, 256, 1])) > 5, "colours"
    assert not np.array_equal(before, after)


def test_tasks_know_the_games() -> None:
    assert set(names()) < set(task_names())
    env = Task("games/coordination", max_steps=7, kwargs={"N": 5})(3, torch.device("cpu"))
    assert isinstance(env, GameEnv) and env.max_steps == 7 and env.groups["agent"].size == 5


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("games/climbin", {}, "did you mean 'games/climbing'"),
        ("games/climbing", {"penalty": 1}, "unknown option 'penalty' of games/climbing"),
        ("games/penalty", {"penlty": 1}, "did you mean 'penalty'"),
        ("games/penalty", {"penalty": 3}, "penalty=3 is out of range; the nearest .* is 0"),
        ("games/penalty", {"penalty": "low"}, "penalty='low' must be a number"),
        ("games/matrix", {"payoff": [[1, 2], [3]]}, "nested lists of numbers"),
        ("games/matrix", {"payoff": "high"}, "nested lists of numbers"),
        ("games/matrix", {"payoff": 3}, "at least one list"),
        ("games/matrix", {"payoff": [[1.0, float("nan")]]}, "finite numbers"),
        ("games/random", {"agents": 0}, "agents=0 must be a whole number of at least 1"),
        ("games/random", {"agents": 30}, "at most 14 agents can have as many"),
        ("games/random", {"seed": -1}, "seed=-1 must be a whole number of at least 0"),
        ("games/coordination", {"N": 1}, "N=1 must be a whole number of at least 2"),
        ("games/coordination", {"N": 3, "l": 3}, "l=3 must be less than N=3"),
        ("games/cue", {"cues": 1}, "cues=1 must be a whole number of at least 2"),
        ("games/two_step", {"length": 3}, "unknown option .length. of games/two_step"),
        ("games/coordination", {"slip": 0.7}, "slip=0.7 is out of range; .* is 0.5"),
        ("games/aloha", {"arrival": -0.1}, "arrival=-0.1 is out of range; .* is 0"),
        ("games/aloha", {"wrap": 1}, "wrap=1 must be true or false"),
        ("games/aloha", {"capacity": 2.5}, "capacity=2.5 must be a whole number"),
        ("games/byzantine", {"history": "yes"}, "history='yes' must be true or false"),
        ("games/spectrum", {"N": 0}, "N=0 must be"),
        ("games/spectrum", {"leave": 0}, "leave=0 is out of range"),
        ("games/spectrum", {"max_steps": 0}, "max_steps=0 must be"),
        ("games/spectrum", {"num_envs": 0}, "num_envs=0 must be"),
        ("games/spectrum", {"groups": {"a": ["user_0"]}}, "must name each agent once"),
    ],
)
def test_mistakes_are_told(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(name, **{"num_envs": 2, **options})


def test_no_copy_beyond_the_last_is_drawn() -> None:
    with pytest.raises(UserError, match="no environment 2 to render; expected 0 to 1"):
        make("games/climbing", 2).render(2)
