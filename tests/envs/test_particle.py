"""Particle worlds: parity with mpe2, the contract, and what is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from envs.particle.env import ParticleEnv, make, names
from envs.particle.matching import match
from envs.particle.scenario import State
from marl.env import check_env, random_action
from marl.errors import UserError
from marl.types import Continuous

COPIES, EPISODES, CYCLES = 3, 4, 25
# Our name and options, and mpe2's module; options are the same by the same names.
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("mpe/simple", "simple_v3", {}),
    ("mpe/collect_treasure", "collect_treasure_v1", {}),
    (
        "mpe/collect_treasure",
        "collect_treasure_v1",
        {"num_collectors": 9, "num_deposits": 3, "num_treasures": 12},
    ),
    ("mpe/simple_adversary", "simple_adversary_v3", {}),
    ("mpe/simple_adversary", "simple_adversary_v3", {"N": 3}),
    ("mpe/simple_crypto", "simple_crypto_v3", {}),
    ("mpe/simple_formation", "simple_formation_v1", {}),
    ("mpe/simple_formation", "simple_formation_v1", {"N": 7}),
    ("mpe/simple_formation", "simple_formation_v1", {"N": 1, "terminate_on_success": True}),
    ("mpe/simple_line", "simple_line_v1", {}),
    ("mpe/simple_line", "simple_line_v1", {"N": 2, "terminate_on_success": True}),
    ("mpe/simple_push", "simple_push_v3", {}),
    ("mpe/simple_reference", "simple_reference_v3", {}),
    ("mpe/simple_reference", "simple_reference_v3", {"local_ratio": 0.1}),
    ("mpe/simple_speaker_listener", "simple_speaker_listener_v4", {}),
    ("mpe/simple_spread", "simple_spread_v3", {}),
    ("mpe/simple_spread", "simple_spread_v3", {"N": 5, "local_ratio": 0.2}),
    ("mpe/simple_spread", "simple_spread_v3", {"N": 1, "terminate_on_success": True}),
    ("mpe/simple_tag", "simple_tag_v3", {}),
    ("mpe/simple_tag", "simple_tag_v3", {"num_good": 2, "num_adversaries": 2, "num_obstacles": 1}),
    ("mpe/simple_tag", "simple_tag_v3", {"num_obstacles": 0, "terminate_on_success": True}),
    ("mpe/simple_world_comm", "simple_world_comm_v3", {}),
    ("mpe/simple_world_comm", "simple_world_comm_v3", {"num_good": 3, "num_forests": 4}),
    (
        "mpe/simple_world_comm",
        "simple_world_comm_v3",
        {"num_adversaries": 2, "num_good": 1, "num_obstacles": 0, "num_forests": 0, "num_food": 1},
    ),
]


def goal(world: Any) -> list[int]:
    return [world.landmarks.index(world.agents[1].goal_a)]


def known_goals(world: Any) -> list[int]:
    return [world.landmarks.index(agent.goal_b) for agent in world.agents if agent._goal_b]


def secrets(world: Any) -> list[int]:
    key = world.agents[2].key
    keys = [index for index, landmark in enumerate(world.landmarks) if landmark.color is key]
    return [*goal(world), *keys]


def treasures(world: Any) -> list[int]:
    """Kinds, all there, nothing in any hands, no events."""
    kinds = [landmark.type for landmark in world.landmarks]
    return [*kinds, *[1] * len(kinds), *[-1] * world.num_collectors, 0]


# What an episode of mpe2's drew, as the numbers of ``State.chosen``.
CHOSEN = {
    "mpe/collect_treasure": treasures,
    "mpe/simple_adversary": goal,
    "mpe/simple_crypto": secrets,
    "mpe/simple_push": goal,
    "mpe/simple_reference": known_goals,
    "mpe/simple_speaker_listener": known_goals,
}


def raw_worlds(module: str, continuous: bool, options: dict[str, Any]) -> list[Any]:
    package = __import__(f"mpe2.{module}", fromlist=["parallel_env"])
    made = [package.parallel_env(continuous_actions=continuous, **options) for _ in range(COPIES)]
    for seed, raw in enumerate(made):
        raw.reset(seed=seed)
    return made


def copied(name: str, env: ParticleEnv, raws: list[Any]) -> State:
    """The beginning of the raw environments' episodes as a state of ours."""
    worlds = [raw.unwrapped.world for raw in raws]
    places = [[entity.state.p_pos for entity in world.entities] for world in worlds]
    fresh = env.scenario.start(torch.zeros(COPIES, env.scenario.noise_size, dtype=env.dtype))
    values = {**vars(fresh), "position": torch.tensor(np.array(places), dtype=env.dtype)}
    if name in CHOSEN:
        values["chosen"] = torch.tensor([CHOSEN[name](world) for world in worlds])
    return State(**values)


@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
@pytest.mark.parametrize(("name", "module", "options"), CASES)
def test_whole_episodes_are_mpe2s(
    name: str, module: str, options: dict[str, Any], continuous: bool
) -> None:
    """Observations, rewards and ends, from mpe2's own beginnings, in double precision."""
    env = make(name, COPIES, continuous_actions=continuous, dtype=torch.float64, **options)
    generator = torch.Generator().manual_seed(0)
    for episode in range(EPISODES):
        raws = raw_worlds(module, continuous, options)
        for seed, raw in enumerate(raws):
            raw.reset(seed=100 * episode + seed)
        env.reset(0)
        env.state = copied(name, env, raws)
        compare_start(env, raws)
        for _ in range(CYCLES):
            seen = env._observation(env.observe(env.state)).groups
            action = {n: random_action(g, seen[n], generator) for n, g in env.groups.items()}
            playing = [copy for copy, raw in enumerate(raws) if raw.agents]
            told = {copy: stepped(env, raws[copy], action, copy) for copy in playing}
            env._noise = lambda size, raws=raws: same_events(raws) if size else None
            transition = env.step(action)
            for copy in playing:
                compare_step(env, told[copy], transition, copy)
                assert transition.done[copy].item() == (not raws[copy].agents)
            if not any(raw.agents for raw in raws):
                break
        assert not any(raw.agents for raw in raws)


def same_events(raws: list[Any]) -> Tensor:
    """The noise from which treasures appear where, and of the kind that, they did in mpe2."""
    rows = []
    for raw in raws:
        world = raw.unwrapped.world
        kinds = len(world.treasure_types)
        rows.append([[*((lm.state.p_pos / 0.95 + 1) / 2), (lm.type + 0.5) / kinds]
                     for lm in world.landmarks])  # fmt: skip
    return torch.tensor(np.array(rows)).flatten(1)


def stepped(env: ParticleEnv, raw: Any, action: dict[str, Tensor], copy: int) -> Any:
    return raw.step({
        agent: action[n][copy, i].numpy().copy()  # mpe2 writes into it
        for n, g in env.groups.items() for i, agent in enumerate(g.agents)
    })  # fmt: skip


def compare_start(env: ParticleEnv, raws: list[Any]) -> None:
    seen = env.observe(env.state)
    for copy, raw in enumerate(raws):
        for n, group in env.groups.items():
            for i, agent in enumerate(group.agents):
                close(seen[n][copy, i], raw.aec_env.observe(agent))


def compare_step(env: ParticleEnv, told: Any, transition: Any, copy: int) -> None:
    raw_obs, reward, terminated, truncated, _ = told
    for n, group in env.groups.items():
        for i, agent in enumerate(group.agents):
            close(transition.next_obs.groups[n].obs[copy, i], raw_obs[agent])
            close(transition.reward[n][copy, i], reward[agent])
            assert transition.terminated[n][copy, i].item() == terminated[agent]
            assert transition.truncated[copy].item() == truncated[agent]


def close(ours: Tensor, theirs: Any) -> None:
    np.testing.assert_allclose(ours.numpy(), np.asarray(theirs), atol=1e-5, rtol=1e-5)


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


def played(env: ParticleEnv, steps: int) -> list[Tensor]:
    """The observations of steps with the same random actions."""
    generator, found = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        seen = env._observation(env.observe(env.state)).groups
        action = {n: random_action(g, seen[n], generator) for n, g in env.groups.items()}
        found += [group.obs for group in env.step(action).obs.groups.values()]
    return found


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
    env.state = State(**{**vars(env.state), "position": position})
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


# -------------------------------------------------------------------------------- physics by hand


def test_legacy_moves_with_the_new_velocity() -> None:
    """A push to the right from rest: 5 N for 0.1 s make 0.5 m/s."""
    for legacy, moved in ((False, 0.0), (True, 0.05)):
        env = make("mpe/simple", 1, legacy=legacy)
        env.reset(0)
        before = env.state.position.clone()
        env.step({"agent": torch.full((1, 1), 2)})
        way = env.state.position - before
        torch.testing.assert_close(way[0, 0], torch.tensor([moved, 0.0]), atol=1e-6, rtol=0)
        torch.testing.assert_close(env.state.velocity[0, 0], torch.tensor([0.5, 0.0]))


def test_two_agents_in_one_place_stay_finite() -> None:
    env = make("mpe/simple_spread", 1, N=2)
    env.reset(0)
    env.state = State(**{**vars(env.state), "position": torch.zeros(1, 4, 2)})
    transition = env.step({"agent": torch.zeros(1, 2, dtype=torch.int64)})
    assert torch.isfinite(transition.obs.groups["agent"].obs).all()


# --------------------------------------------------------------------------------------- measures


def test_spread_measures_by_hand() -> None:
    """Two agents in touch, one on a landmark; the other landmark 1 m from the nearer."""
    env = make("mpe/simple_spread", 1, N=2, local_ratio=0.5, max_cycles=3)
    env.reset(0)
    places = torch.tensor([[[0.0, 0.0], [0.2, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    for step in range(3):
        env.state = State(**{**vars(env.state), "position": places,
                             "velocity": torch.zeros(1, 2, 2)})  # fmt: skip
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


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mpe/simple_spraed", {}, "did you mean 'mpe/simple_spread'"),
        ("mpe/simple_spread", {"N": 0}, "N=0 must be a whole number of at least 1"),
        ("mpe/simple_spread", {"N": 2.5}, "N=2.5 must be a whole number"),
        ("mpe/simple_spread", {"local_ratio": 2}, "local_ratio=2 is out of range"),
        ("mpe/simple_spread", {"local_ration": 0.5}, "did you mean 'local_ratio'"),
        ("mpe/simple", {"max_cycles": 0}, "max_cycles=0 must be"),
        ("mpe/simple", {"legacy": "maybe"}, "legacy='maybe' must be true or false"),
        ("mpe/simple", {"dtype": "float64"}, "dtype='float64' is set from Python only"),
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
    chosen = torch.tensor([[0, 1, 1, -1, 0]])  # kind, there, held by both, events
    env.state = State(**{**vars(env.state), "position": torch.tensor([places]), "chosen": chosen})
    action = {"collector": torch.zeros(1, 2).long(), "deposit": torch.zeros(1, 2).long()}
    transition = env.step(action)
    assert env.state.chosen.tolist() == [[0, 1, -1, -1, 1]]
    away = [(1.4**2 + 1.4**2) ** 0.5, (0.4**2 + 1.4**2) ** 0.5]  # to the treasure
    expected = torch.tensor([[5 - 0.1 * distance for distance in away]])
    torch.testing.assert_close(transition.reward["collector"], expected)
