"""``legacy=true``: OpenAI MPE's movement and rewards, against formulas and numbers by hand."""

from __future__ import annotations

import pytest
import torch

from marl.envs.particle.env import ParticleEnv
from marl.envs.particle.tasks import make, names
from tests.helpers.particle import placed, random_steps

STEPS = 25


def both(name: str, worlds: int = 1) -> list[ParticleEnv]:
    """mpe2's and OpenAI's."""
    made = [make(name, worlds, legacy=old, dtype=torch.float64) for old in (False, True)]
    for env in made:
        env.reset(0)
    return made


def rewards(name: str, places: object, chosen: list[int] | None = None) -> list[list[float]]:
    """What all agents earn for standing there: in mpe2, in OpenAI's MPE."""
    envs = both(name)
    return [env.scenario.outcome(placed(env, places, chosen)).reward[0].tolist() for env in envs]


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


@pytest.mark.parametrize("legacy", [False, True], ids=["mpe2", "legacy"])
def test_returns_of_spread_follow_from_distance_and_collisions(legacy: bool) -> None:
    """Of an episode: R_O = -75 D - 75 - 2 p for each agent, or R_3 = -37.5 D - p for all."""
    env = make("mpe/simple_spread", 200, legacy=legacy)
    env.reset(0)
    steps = random_steps(env, STEPS)
    earned = torch.stack([step.reward["agent"] for step in steps]).sum(0)
    distance, pairs = (steps[-1].info[name] for name in ("distance", "collisions"))
    assert steps[-1].truncated["agent"].all()
    assert pairs.max() > 0
    if legacy:
        each = -75 * distance - 75 - 2 * pairs
        torch.testing.assert_close(earned, each.unsqueeze(-1).expand(-1, 3), atol=1e-3, rtol=0)
    else:
        torch.testing.assert_close(earned.sum(-1), -37.5 * distance - pairs, atol=1e-3, rtol=0)


def test_returns_of_spread_in_both_units() -> None:
    """R_O / 2 + 37.5 = R_3 for the same states, here 25 crowded ones."""
    new, old = both("mpe/simple_spread", STEPS)
    crowded = new.state.position * 0.3
    mpe2, openai = (env.scenario.outcome(placed(env, crowded)).reward for env in (new, old))
    for agent in range(3):
        torch.testing.assert_close(openai[:, agent].sum() / 2 + 37.5, mpe2.sum())


def test_spread_by_hand() -> None:
    """D = 0 + 0.2 + 1; the first two touch."""
    places = [[0.0, 0.0], [0.2, 0.0], [0.9, 0.0], [0.0, 0.0], [0.2, 0.2], [0.9, 1.0]]
    mpe2, openai = rewards("mpe/simple_spread", places)
    assert mpe2 == pytest.approx([-0.6 - 0.5, -0.6 - 0.5, -0.6])
    assert openai == pytest.approx([-3 * 1.2 - 3 - 2] * 3)


def test_spread_without_a_penalty_has_none_in_legacy_either() -> None:
    env = make("mpe/simple_spread", 1, legacy=True, N=2, curriculum_stage=0)
    places = [[0.0, 0.0], [0.0, 0.1], [0.0, 0.0], [0.0, 1.1]]
    reward = env.scenario.outcome(placed(env, places)).reward
    torch.testing.assert_close(reward, torch.full((1, 2), -2.0))


def test_reference_by_hand() -> None:
    """The first is 3 m from its goal, landmark 2, the second 1 m from its, landmark 0."""
    places = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.1, 0.1], [0.0, 3.0]]
    mpe2, openai = rewards("mpe/simple_reference", places, [0, 2])
    assert mpe2 == pytest.approx([-0.5 * 2 - 0.5 * 1, -0.5 * 2 - 0.5 * 3])
    assert openai == pytest.approx([-(9 + 1)] * 2)


def test_adversary_by_hand() -> None:
    """It is 3 m from the goal, the agents 2 and 4 m: squared is its own reward alone."""
    places = [[3.0, 0.0], [0.0, 2.0], [0.0, -4.0], [9.0, 9.0], [0.0, 0.0]]
    mpe2, openai = rewards("mpe/simple_adversary", places, [1])
    assert mpe2 == pytest.approx([-3, 3 - 2, 3 - 2])
    assert openai == pytest.approx([-9, 3 - 2, 3 - 2])


def test_success_is_within_its_radius() -> None:
    """The adversary is 0.3 m from the goal, the nearer agent 0.1 m."""
    places = [[0.3, 0.0], [0.0, 0.1], [0.0, -4.0], [9.0, 9.0], [0.0, 0.0]]
    for radius, expected in ((0.16, [0.0, 1.0]), (0.4, [1.0, 1.0])):
        env = make("mpe/simple_adversary", 1, success_radius=radius)
        env.reset(0)
        measures = env.scenario.outcome(placed(env, places, [1])).measures
        assert [measure.item() for measure in measures[2:]] == expected


def test_speaker_listener_by_hand() -> None:
    """The listener is 2 m from its landmark."""
    places = [[5.0, 5.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [7.0, 7.0]]
    mpe2, openai = rewards("mpe/simple_speaker_listener", places, [1])
    assert mpe2 == pytest.approx([-4, -4])
    assert openai == pytest.approx([-8, -8])


def test_world_comm_by_hand() -> None:
    """Prey 0.5 m from the nearest food: mpe2 takes a twentieth of that, OpenAI gave it."""
    far = [[-0.8, -0.8]] * 4
    prey, things = [[0.0, 0.0], [0.0, 0.0]], [[0.8, -0.8], [0.3, 0.4], [0.8, 0.8]]
    mpe2, openai = rewards("mpe/simple_world_comm", [*far, *prey, *things, *far[:2]])
    assert mpe2[4:] == pytest.approx([-0.025, -0.025])
    assert openai[4:] == pytest.approx([0.025, 0.025])
    assert mpe2[:4] == openai[:4]


@pytest.mark.parametrize("name", names())
def test_what_is_seen_is_the_same(name: str) -> None:
    """From one beginning, for every scenario; the rewards of those not named above too."""
    new, old = both(name, 4)
    assert new.groups == old.groups
    one, two = (env.observe(new.state) for env in (new, old))
    for group in new.groups:
        assert torch.equal(one.groups[group].obs, two.groups[group].obs)
    first, second = (env.scenario.outcome(new.state).reward for env in (new, old))
    assert first.shape == second.shape
    if name in SAME:
        assert torch.equal(first, second)


SAME = (
    "mpe/collect_treasure",
    "mpe/simple",
    "mpe/simple_crypto",
    "mpe/simple_formation",
    "mpe/simple_line",
    "mpe/simple_push",
    "mpe/simple_tag",
)
