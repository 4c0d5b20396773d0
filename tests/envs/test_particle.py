"""Particle worlds: the contract, physics, measures, pictures and mistakes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from marl.env import check_env
from marl.envs.particle.matching import match
from marl.envs.particle.scenario import nearest
from marl.envs.particle.tasks import make, names
from marl.errors import UserError
from marl.types import Continuous, tree_map
from tests.helpers.particle import placed, played

# ------------------------------------------------------------------------------------ the contract


@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
@pytest.mark.parametrize("name", names())
def test_the_contract(name: str, continuous: bool) -> None:
    check_env(make(name, 4, continuous_actions=continuous, max_cycles=7), steps=30)


@pytest.mark.parametrize("name", names())
def test_a_loaded_state_continues_the_same(name: str) -> None:
    env = make(name, 4, max_cycles=5)
    env.reset(0)
    played(env, 3)
    saved = env.state_dict()
    first = played(env, 9)
    other = make(name, 4, max_cycles=5)
    other.load_state_dict(saved)
    for one, two in zip(first, played(other, 9), strict=True):
        assert torch.equal(one, two)


def test_a_state_of_another_number_of_worlds_is_refused() -> None:
    saved = make("mpe/simple", 3).state_dict()
    with pytest.raises(UserError, match="of 3 environments, expected 4; set num_envs=3"):
        make("mpe/simple", 4).load_state_dict(saved)


def test_seeds_decide_the_beginnings() -> None:
    env = make("mpe/simple_spread", 4)
    first, again, other = (env.reset(seed).groups["agent"].obs for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first.unique(dim=0)) == 4, "each copy begins elsewhere"


def test_copies_end_apart() -> None:
    """Where one world ends early, the others play on, and it begins anew."""
    env = make("mpe/simple_spread", 3, N=1, terminate_on_success=True, max_cycles=10)
    env.reset(0)
    position = env.state.position.clone()
    position[1, 0] = position[1, 1]
    env.state = replace(env.state, position=position)
    transition = env.step({"agent": torch.zeros(3, 1, dtype=torch.int64)})
    assert transition.done.tolist() == [False, True, False]
    assert transition.terminated["agent"].squeeze(-1).tolist() == [False, True, False]
    assert env.state.steps.tolist() == [1, 0, 1]
    seen, after = (o.groups["agent"].obs for o in (transition.next_obs, transition.obs))
    assert torch.equal(seen[[0, 2]], after[[0, 2]]) and not torch.equal(seen[1], after[1])


def test_lines_lie_in_the_square() -> None:
    env = make("mpe/simple_line", 500)
    env.reset(0)
    first, second = env.state.position[:, 4], env.state.position[:, 5]
    torch.testing.assert_close((first - second).norm(dim=-1), torch.full((500,), 1.25))
    assert second.abs().max() < 1 and first.abs().max() < 0.25
    assert len(torch.unique(second[:, 0] > 0)) == len(torch.unique(second[:, 1] > 0)) == 2


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 9, 20])
def test_matching_is_the_best_there_is(size: int) -> None:
    """Against scipy, on random costs and on whole numbers, which have many best matches."""
    random = torch.Generator().manual_seed(size)
    cost = torch.rand(40, size, size, generator=random, dtype=torch.float64)
    cost[20:] = (cost[20:] * 4).round()
    columns = match(cost)
    assert torch.equal(columns.sort(1).values, torch.arange(size).expand(40, size))
    for one, chosen in zip(cost.numpy(), columns, strict=True):
        best = one[linear_sum_assignment(one)].sum()
        assert one[np.arange(size), chosen.numpy()].sum() == pytest.approx(best)


def test_the_nearest_come_first_and_zeros_fill_up() -> None:
    seen = torch.tensor([[[[3.0, 0.0], [1.0, 1.0], [0.0, 2.0]]]])
    away = seen.square().sum(-1)  # 9, 2 and 4
    first, second, third = seen[0, 0, 1], seen[0, 0, 2], seen[0, 0, 0]
    zero = torch.zeros(2)
    assert torch.equal(nearest(seen, away, 2)[0, 0], torch.stack([first, second]))
    assert torch.equal(nearest(seen, away, 4)[0, 0], torch.stack([first, second, third, zero]))


# -------------------------------------------------------------------------------- physics by hand


def test_two_agents_in_one_place_stay_finite() -> None:
    env = make("mpe/simple_spread", 1, N=2)
    env.reset(0)
    env.state = placed(env, torch.zeros(4, 2))
    transition = env.step({"agent": torch.zeros(1, 2, dtype=torch.int64)})
    assert torch.isfinite(transition.obs.groups["agent"].obs).all()


# --------------------------------------------------------------------------------------- measures


def test_spread_measures_by_hand() -> None:
    """Two agents in touch, one on a landmark; the other landmark 1 m from the nearer."""
    env = make("mpe/simple_spread", 1, N=2, local_ratio=0.5, max_cycles=3)
    env.reset(0)
    places = torch.tensor([[[0.0, 0.0], [0.2, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    for step in range(3):
        env.state = replace(env.state, position=places, velocity=torch.zeros(1, 2, 2))
        transition = env.step({"agent": torch.zeros(1, 2, dtype=torch.int64)})
        torch.testing.assert_close(transition.reward["agent"], torch.tensor([[-1.0, -1.0]]))
        info = {k: v.item() for k, v in transition.info.items()}
        assert info == pytest.approx({"distance": 1.0, "collisions": step + 1, "covered": 1.0})


# ------------------------------------------------------------------------------- looks and mistakes


@pytest.mark.parametrize("name", names())
def test_pictures_show_every_body(name: str) -> None:
    env = make(name, 2)
    env.reset(0)
    picture = env.render(1)
    assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5
    assert not np.array_equal(picture, env.render(0))


def test_goals_are_ringed_in_the_agents_colour() -> None:
    """Agents right and left, their goals above and below; the frame is 2.4 m wide."""
    env = make("mpe/simple_reference", 1)
    places = [[0.9, 0.0], [-0.9, 0.0], [0.0, 0.9], [0.0, -0.9], [0.0, 0.0]]
    env.state = placed(env, places, [1, 0])  # the second's goal, which the first knows, first
    assert env.scenario.goals(tree_map(lambda x: x[0], env.state)) == [(0, 0), (1, 1)]
    picture = env.render()
    ring = round((0.05 + 0.025) / 2.4 * 512) - 1  # pixels, inside its outer edge
    for row, colour in ((0.9, (0.75, 0.25, 0.25)), (-0.9, (0.25, 0.75, 0.25))):
        found = picture[round(256 - row / 2.4 * 512), 256 + ring] / 255
        np.testing.assert_allclose(found, colour, atol=0.1)


def test_a_treasure_that_is_gone_leaves_the_frame_as_it_was() -> None:
    """The collector shows what it holds, the deposit its kind."""
    env = make("mpe/collect_treasure", 1, num_collectors=1, num_deposits=2, num_treasures=1)
    places = [[0.5, 0.5], [-0.5, 0.5], [0.5, -0.5], [-999.0, -999.0]]
    env.state = placed(env, places, [0, 0, 1, 0])
    picture = env.render().astype(float)
    held, first, second = (picture[256 + y, 256 + x] for x, y in
                           ((107, -107), (-107, -107), (107, 107)))  # fmt: skip
    np.testing.assert_allclose(held, second, atol=2)
    assert np.abs(held - first).max() > 50


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mpe/simple_spraed", {}, "did you mean 'mpe/simple_spread'"),
        ("mpe/simple_spread", {"N": 0}, "N=0 must be a whole number of at least 1"),
        ("mpe/simple_spread", {"N": 2.5}, "N=2.5 must be a whole number"),
        ("mpe/simple_spread", {"local_ratio": 2}, "local_ratio=2 is out of range"),
        ("mpe/simple_spread", {"local_ration": 0.5}, "did you mean 'local_ratio'"),
        ("mpe/simple_spread", {"num_agent_neighbors": 0}, "num_agent_neighbors=0 must be a whole"),
        ("mpe/simple_tag", {"num_landmark_neighbors": 1.5}, "num_landmark_neighbors=1.5 must be"),
        ("mpe/simple_spread", {"curriculum_stage": 2}, "=2 is out of range; expected 0 to 1"),
        ("mpe/simple_tag", {"curriculum_stage": -1}, "curriculum_stage=-1 must be a whole"),
        ("mpe/simple_reference", {"local_ratio": 0.1, "legacy": True}, "=0.1 has no effect"),
        ("mpe/simple", {"max_cycles": 0}, "max_cycles=0 must be"),
        ("mpe/simple", {"legacy": "maybe"}, "legacy='maybe' must be true or false"),
        ("mpe/simple", {"dtype": "float64"}, "dtype='float64' can be set from Python only"),
    ],
)
def test_mistakes_are_told(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(name, 2, **options)


@pytest.mark.slow
@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
@pytest.mark.parametrize("name", names())
def test_compiled_steps_equal_eager_ones(name: str, continuous: bool) -> None:
    torch._dynamo.reset()  # so many worlds in one process are more than it wants to compile
    pair = [
        make(name, 4, max_cycles=5, continuous_actions=continuous, compile=compiled)
        for compiled in (False, True)
    ]
    found = []
    for env in pair:
        env.reset(0)
        env.load_state_dict(pair[0].state_dict() if env is pair[1] else env.state_dict())
        saved = env.state_dict()
        found.append(played(env, 4))
        pair[0].load_state_dict(saved)
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_actions_beyond_their_bounds_are_clipped() -> None:
    found = []
    for scale in (1.0, 7.0):
        env = make("mpe/simple", 1, continuous_actions=True)
        assert isinstance(env.groups["agent"].action, Continuous)
        env.reset(0)
        found.append(env.step({"agent": scale * torch.ones(1, 1, 5).tril()}).obs)
    assert torch.equal(*(obs.groups["agent"].obs for obs in found))


def test_a_treasure_is_brought_home() -> None:
    """Collector 0 holds kind 1 and stands at deposit 1: delivered, 5 for everyone."""
    env = make("mpe/collect_treasure", 1, num_collectors=2, num_deposits=2, num_treasures=1)
    env.reset(0)
    places = [[-0.9, 0.9], [0.9, 0.9], [0.0, 0.0], [-0.9, 0.9], [0.5, -0.5]]
    env.state = placed(env, places, [0, 1, 1, -1, 0])  # kind, there, held by both, events
    action = {"collector": torch.zeros(1, 2).long(), "deposit": torch.zeros(1, 2).long()}
    transition = env.step(action)
    assert env.state.chosen.tolist() == [[0, 1, -1, -1, 1]]
    away = [(1.4**2 + 1.4**2) ** 0.5, (0.4**2 + 1.4**2) ** 0.5]  # to the treasure
    expected = torch.tensor([[5 - 0.1 * distance for distance in away]])
    torch.testing.assert_close(transition.reward["collector"], expected)
