"""Foraging: the contract, rules apart from the package's, beginnings, pictures and mistakes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from marl.env import check_env
from marl.envs.foraging.env import POOL, ForagingEnv
from marl.envs.foraging.room import most_foods
from marl.envs.foraging.tasks import make, names
from marl.envs.task import Task
from marl.errors import UserError
from marl.types import Transition, tree_tensors
from tests.helpers.builders import CPU
from tests.helpers.foraging import begin

CASES: list[tuple[str, dict[str, Any]]] = [
    ("foraging/8x8-2p-2f-coop", {}),
    ("foraging/2s-5x9-5p-4f", {"action_mask": True, "collisions": "exclusive"}),
    ("foraging/6x6-4p-3f", {
        "max_player_level": [1, 2, 3, 3], "max_food_level": 5, "observe_agent_levels": False,
        "groups": {"back": ["agent_3", "agent_1"], "front": ["agent_0", "agent_2"]},
    }),
]  # fmt: skip


def played(env: ForagingEnv, steps: int) -> Iterator[Transition]:
    generator = torch.Generator().manual_seed(0)
    shape = {name: (env.num_envs, group.size) for name, group in env.groups.items()}
    for _ in range(steps):
        yield env.step({n: torch.randint(6, s, generator=generator) for n, s in shape.items()})


def same(one: Any, two: Any) -> bool:
    return all(map(torch.equal, tree_tensors(one), tree_tensors(two)))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_contract_and_exact_states(name: str, options: dict[str, Any]) -> None:
    """Also where the pool of beginnings is drawn anew."""
    env, other = (make(name, POOL + 3, max_steps=7, **options) for _ in range(2))
    check_env(env, steps=17)
    saved = env.state_dict()
    other.load_state_dict(saved)
    assert np.array_equal(env.render(1), other.render(1))
    first = list(played(env, 10))
    env.load_state_dict(saved)  # which those steps have not changed
    assert same(first, list(played(other, 10))) and same(first, list(played(env, 10)))
    with pytest.raises(UserError, match=f"of {POOL + 3} environments, expected 2"):
        make(name, 2, **options).load_state_dict(saved)
    with pytest.raises(UserError, match="not one of foraging/9x9-2p-7f"):
        make("foraging/9x9-2p-7f", POOL + 3).load_state_dict(saved)


@pytest.mark.parametrize("at_once", [False, True])
def test_restarts_are_of_those_that_ended(at_once: bool) -> None:
    """From a pool, as on a CPU, and all at once, as on a GPU."""
    env = make("foraging/5x5-4p-2f", 50)
    env._checks_ends = not at_once
    env.reset(0)
    ended = torch.zeros(50, dtype=torch.bool)
    for step in played(env, 49):
        old, new = env.last_state, env.state
        assert torch.equal(step.done, old.food_level.sum(0) == 0)
        assert torch.equal(new.values[:, ~step.done], old.values[:, ~step.done])
        assert not new.steps[step.done].any() and (new.food_level[:, step.done] > 0).any(0).all()
        ended |= step.done
        same_obs = (step.obs.groups["agent"].obs == step.next_obs.groups["agent"].obs).flatten(1)
        assert torch.equal(same_obs.all(1), ~step.done)
    assert 5 < ended.sum() < 50


def test_groups_in_any_order_play_the_same_game() -> None:
    groups = {"back": ["agent_3", "agent_1"], "front": ["agent_0", "agent_2"]}
    plain, split = (make("foraging/5x5-4p-2f", 30, groups=g) for g in (None, groups))
    action = torch.randint(6, (20, 30, 4), generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        plain.reset(3).groups["agent"].obs[:, [3, 1]], split.reset(3).groups["back"].obs
    )
    paid = 0.0
    for joint in action:
        one = plain.step({"agent": joint})
        two = split.step({"front": joint[:, [0, 2]], "back": joint[:, [3, 1]]})
        assert torch.equal(one.reward["agent"][:, [3, 1]], two.reward["back"])
        assert torch.equal(one.obs.groups["agent"].obs[:, [0, 2]], two.obs.groups["front"].obs)
        paid += one.reward["agent"].sum().item()
    assert paid > 0


# ------------------------------------------------------------------------------------------- rules

NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)


def moved(collisions: str, places: list[list[int]], *action: int) -> list[list[int]]:
    """Where players are after one step, on a board with one food in its middle."""
    env = make(f"foraging/5x5-{len(places)}p-1f", 1, collisions=collisions)
    begin(env, [places], [[1] * len(places)], [[[2, 2, 3]]])
    env.step({"agent": torch.tensor([action])})
    return env.last_state.player[..., 0].t().tolist()


@pytest.mark.parametrize("collisions", ["package", "exclusive"])
def test_who_stays_where_players_meet(collisions: str) -> None:
    def after(places: list[list[int]], *action: int) -> list[list[int]]:
        return moved(collisions, places, *action)

    assert after([[0, 0], [0, 2]], EAST, WEST) == [[0, 0], [0, 2]], "to one cell"
    assert after([[0, 0], [0, 1]], EAST, WEST) == [[0, 1], [0, 0]], "they change places"
    assert after([[0, 0], [0, 1], [0, 2]], EAST, EAST, EAST) == [[0, 1], [0, 2], [0, 3]], "in a row"
    assert after([[0, 0], [0, 1]], EAST, NONE) == [[0, 0], [0, 1]], "one stays by itself"
    assert after([[1, 1], [1, 2]], EAST, LOAD) == [[1, 1], [1, 2]], "or loads"
    assert after([[0, 4], [1, 2]], EAST, SOUTH) == [[0, 4], [1, 2]], "a wall, and food"
    behind = after([[0, 0], [0, 1], [0, 2]], EAST, EAST, NONE)
    assert behind == [[0, 1 if collisions == "package" else 0], [0, 1], [0, 2]]


def loads(levels: list[int], food: int, **options: Any) -> tuple[list[float], Any]:
    """Rewards where all players load at one food of a board with another of level 4 far away."""
    around = [[2, 1], [1, 2], [2, 3], [3, 2]][: len(levels)]
    env = make(f"foraging/9x9-{len(levels)}p-2f", 1, **options)
    begin(env, [around], [levels], [[[2, 2, food], [7, 7, 4]]])
    step = env.step({"agent": torch.full((1, len(levels)), LOAD)})
    return step.reward["agent"][0].tolist(), step


def test_rewards_by_hand() -> None:
    assert loads([1, 2], 3)[0] == pytest.approx([3 / 7 / 3, 3 / 7 * 2 / 3])
    assert loads([2, 2, 2], 4, normalize_reward=False)[0] == [8.0, 8.0, 8.0]
    paid, step = loads([1, 2], 3, common_reward=True)
    assert paid == pytest.approx([3 / 7, 3 / 7])
    assert step.info["collected"].item() == pytest.approx(3 / 7)
    paid, step = loads([1, 1], 3, penalty=0.5)
    assert paid == [-0.5, -0.5] and step.info["failed_loads"].item() == 2
    assert step.info["length"].item() == 1


def test_all_that_a_common_reward_pays_is_one() -> None:
    env = make("foraging/5x5-4p-2f", 40, common_reward=True)
    env.reset(0)
    total, best = torch.zeros(40), 0.0
    for step in played(env, 150):
        total += step.reward["agent"][:, 0]
        assert torch.allclose(total[step.done], step.info["collected"][step.done], atol=1e-5)
        best = max(best, total.max().item())
        total[step.done] = 0
    assert best == pytest.approx(1)


# -------------------------------------------------------------------------------------- beginnings


def chances(side: int) -> dict[tuple[int, int], Fraction]:
    """The exact probabilities of the cells of two foods, with two players: the second is -1 where
    there was no room."""
    cells = [(row, column) for row in range(side) for column in range(side)]
    inner = [place for place in cells if min(place) > 0 and max(place) < side - 1]

    def near(one: tuple[int, int], two: tuple[int, int]) -> bool:
        rows, columns = abs(one[0] - two[0]), abs(one[1] - two[1])
        return max(rows, columns) < 2 or rows + columns < 3

    found: dict[tuple[int, int], Fraction] = defaultdict(Fraction)
    pairs = list(permutations(cells, 2))
    for players in pairs:
        first = [place for place in inner if place not in players]
        for one in first:
            rest = [place for place in first if not near(one, place)]
            share = Fraction(1, len(pairs) * len(first))
            if not rest:
                found[cells.index(one), -1] += share
            for two in rest:
                found[cells.index(one), cells.index(two)] += share / len(rest)
    return found


def test_foods_lie_everywhere_as_often_as_they_should() -> None:
    env = make("foraging/5x5-2p-2f", 30_000)
    env.reset(0)
    state = env.state
    cell = state.food[0] * 5 + state.food[1]
    first, second = cell[0].tolist(), torch.where(state.food_level[1] > 0, cell[1], -1).tolist()
    drawn = Counter(zip(first, second, strict=True))
    expected = chances(5)
    assert set(drawn) <= set(expected) and sum(expected.values()) == 1
    off = {key: (drawn[key] - 30_000 * float(p)) for key, p in expected.items()}
    chi_square = sum(off[key] ** 2 / (30_000 * float(p)) for key, p in expected.items())
    freedom = len(expected) - 1
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5
    assert (second.count(-1) > 0) and (state.food_level[0] > 0).all()


@pytest.mark.parametrize("board", ["5x5", "5x6", "6x6", "4x8", "7x7"])
def test_the_most_foods_lie_on_some_board_and_one_more_on_none(board: str) -> None:
    rows, columns = map(int, board.split("x"))
    most = most_foods(rows - 2, columns - 2)
    env = make(f"foraging/{board}-1p-{most}f", 3000)
    env.reset(0)
    assert (env.state.food_level > 0).all(0).any()
    with pytest.raises(UserError, match=f"expected 1 to {most}, or a larger board"):
        make(f"foraging/{board}-1p-{most + 1}f", 1)


def frequencies(values: Tensor) -> dict[int, float]:
    kinds, count = values.unique(return_counts=True)
    return {k: n / values.numel() for k, n in zip(kinds.tolist(), count.tolist(), strict=True)}


def test_players_begin_anywhere_with_any_level() -> None:
    env = make("foraging/3x4-3p-1f", 20_000)
    env.reset(0)
    cell = env.state.player[0] * 4 + env.state.player[1]
    assert frequencies(env.state.level) == pytest.approx({1: 0.5, 2: 0.5}, abs=0.01)
    for one, two in ((0, 1), (0, 2), (1, 2)):
        pairs = frequencies((cell[one] * 12 + cell[two])[cell[one] != cell[two]])
        assert len(pairs) == 12 * 11 and max(pairs.values()) < 1.5 / (12 * 11)
        assert (cell[one] != cell[two]).all()


def test_foods_are_as_heavy_as_the_three_weakest_players() -> None:
    env = make("foraging/9x9-5p-2f-coop", 200, max_player_level=5)
    env.reset(0)
    weakest = env.state.level.sort(0).values[:3].sum(0)
    assert (env.state.food_level == weakest).all()


def test_every_episode_begins_anew() -> None:
    env = make("foraging/9x9-2p-2f", 2, max_steps=1)
    begun = torch.cat([env.reset(0).groups["agent"].obs[:, 0]])
    for step in played(env, POOL + 1):
        begun = torch.cat([begun, step.obs.groups["agent"].obs[:, 0]])
    assert len(begun.unique(dim=0)) == len(begun) == 2 * POOL + 4


@pytest.mark.parametrize(
    ("rules", "coop", "expected"),
    [
        ("v3", "", {1: 1 / 3, 2: 1 / 3, 3: 1 / 3}),
        ("v2", "", {1: 1 / 2, 2: 1 / 2}),
        ("v1", "", {1: 1 / 2, 2: 1 / 2}),
        ("v2", "-coop", {3: 1}),
        ("v3", "-coop", {3: 1}),
    ],
)
def test_levels_of_food_by_version(rules: str, coop: str, expected: dict[int, float]) -> None:
    """Of two players, of levels 1 and 2, the ranges permuted."""
    env = make(
        f"foraging/6x6-2p-1f{coop}", 6000, rules=rules, min_player_level=[1, 2],
        max_player_level=[1, 2],
    )  # fmt: skip
    env.reset(0)
    state = env.state
    assert frequencies(state.food_level) == pytest.approx(expected, abs=0.03)
    assert frequencies(state.level[0]) == pytest.approx({1: 0.5, 2: 0.5}, abs=0.03)
    assert (state.level.sum(0) == 3).all() and torch.equal(state.spawned, state.food_level[0])
    assert state.player.max() == (4 if rules == "v1" else 5)


# --------------------------------------------------------------- tasks, compiling, pictures, errors


def test_names() -> None:
    for name in names():
        env = Task(name, max_steps=9)(2, CPU)
        assert env.state_size and env.teams == {"team": ("agent",)}
    narrow = make("foraging/2s-8x8-2p-2f", 1), make("foraging/8x8-2p-2f", 1, sight=2)
    assert same(narrow[0].reset(0), narrow[1].reset(0))
    assert not same(narrow[0].reset(0), make("foraging/8x8-2p-2f", 1).reset(0))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES[:2])
def test_compiled_steps_equal_eager_ones(name: str, options: dict[str, Any]) -> None:
    torch._dynamo.reset()
    eager, compiled = (make(name, 40, compile=value, **options) for value in (False, True))
    assert same(eager.reset(0), compiled.reset(0))
    for one, two in zip(played(eager, 120), played(compiled, 120), strict=True):
        for x, y in zip(tree_tensors(one), tree_tensors(two), strict=True):
            torch.testing.assert_close(x, y)


def test_pictures_show_the_step() -> None:
    env = make("foraging/8x8-2p-2f-coop", 2)
    begin(env, [[[2, 3], [3, 2]]] * 2, [[1, 2]] * 2, [[[3, 3, 3], [5, 6, 2]]] * 2)
    before = env.render(0)
    env.step({"agent": torch.tensor([[LOAD, LOAD], [LOAD, NONE]])})
    loaded, in_vain = env.render(0), env.render(1)
    assert loaded.shape == (512, 512, 3) and loaded.dtype == np.uint8
    green, red = (46, 145, 82), (205, 58, 52)

    def shows(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
        return bool((picture == colour).all(-1).any())

    assert [shows(x, green) for x in (before, loaded, in_vain)] == [False, True, False]
    assert [shows(x, red) for x in (before, loaded, in_vain)] == [False, False, True]
    with pytest.raises(UserError, match="no environment 2 to render"):
        env.render(2)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("foraging/8x8-2p", {}, "unknown task"),
        ("foraging/8x2-2p-1f", {}, "at least 3 rows and columns"),
        ("foraging/3x3-9p-1f", {}, "9 players and 1 food on 9 cells; expected 1 to 8 players"),
        ("foraging/5x5-0p-2f", {}, "expected 1 to 23 players"),
        ("foraging/5x5-15p-2f", {"rules": "v1"}, "on 16 cells; expected 1 to 14 players"),
        ("foraging/0s-8x8-2p-1f", {}, "at least 1 cell far"),
        ("foraging/2s-8x8-2p-1f", {"sight": 3}, "contradicts"),
        ("foraging/8x8-2p-0f", {}, "0 foods on 36 cells .* expected 1 to 8"),
        ("foraging/8x8-2p-9f", {}, "expected 1 to 8"),
        ("foraging/900x900-2p-2f", {}, "expected 65536 at most"),
        ("foraging/8x8-2p-2f-coop", {"min_food_level": 2}, "leave it out, or set max_food_level"),
        ("foraging/8x8-2p-2f", {"rules": "v4"}, "unknown rules 'v4'"),
        ("foraging/8x8-2p-2f", {"collisions": "none"}, "unknown collisions"),
        ("foraging/8x8-2p-2f", {"min_player_level": 3}, "min_player_level=3 is above"),
        ("foraging/8x8-2p-2f", {"max_player_level": [1, 2, 3]}, "holds 3 levels, expected 2"),
        ("foraging/8x8-2p-2f", {"min_food_level": 3}, "above 2, the sum of the lowest levels"),
        ("foraging/8x8-2p-2f", {"max_food_level": [2, 0]}, "at least 1"),
        ("foraging/8x8-2p-2f", {"penalty": -1.0}, "nearest allowed is 0"),
        ("foraging/8x8-2p-2f", {"common_reward": 1}, "must be true or false"),
        ("foraging/8x8-2p-2f", {"sigth": 2}, "sight"),
        ("foraging/8x8-2p-2f", {"max_steps": 0}, "at least 1"),
        ("foraging/8x8-2p-2f", {"max_episode_steps": 20}, "set task.max_steps"),
    ],
)
def test_mistakes_end_in_a_sentence(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(name, 2, **options)
