"""InforMARL's tasks: beginnings, rewards and metrics by hand, information, and the graph."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from marl.envs.particle.env import ParticleEnv
from marl.envs.particle.placement import CROWDED, crowding, place
from marl.envs.particle.tasks import make
from marl.errors import UserError
from tests.helpers.particle import placed, played

TASKS = ("target", "coverage", "formation", "line")
STILL, LEFT, RIGHT = 0, 1, 2


def navigation(task: str, copies: int = 1, **options: Any) -> ParticleEnv:
    env = make(f"navigation/{task}", copies, dtype=torch.float64, **options)
    env.reset(0)
    return env


def put(env: ParticleEnv, places: list[list[float]], obstacles: int) -> None:
    """Agents, goals and obstacles at rest, nobody has been anywhere."""
    size = len(env.scenario.agents)
    env.state = placed(env, places, [obstacles, *[0] * size, *range(size)])


def step(env: ParticleEnv, action: list[int]) -> tuple[Tensor, dict[str, float]]:
    transition = env.step({"agent": torch.tensor(action).expand(env.num_envs, -1)})
    return transition.reward["agent"], {k: v[0].item() for k, v in transition.info.items()}


# ------------------------------------------------------------------------------------- beginnings


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "options", [{}, {"N": 7, "num_obstacles": [0, 10]}, {"N": 9, "world_size": 5.0}]
)
def test_nothing_overlaps_at_first(task: str, options: dict[str, Any]) -> None:
    """Not agents and obstacles, nor goals and obstacles; and all lie where they should."""
    env = navigation(task, 1000, **options)
    size, half = len(env.scenario.agents), options.get("world_size", 2.0) / 2
    position, goals = env.state.position, env.scenario.targets(env.state.position)  # type: ignore[attr-defined]  # Navigation
    agents, obstacles = position[:, :size], position[:, size + env.scenario.goal_count :]  # type: ignore[attr-defined]
    for one, other in ((agents, agents), (agents, obstacles), (goals, obstacles)):
        assert closest(one, other) >= 0.1 - 1e-9
    assert closest(goals, goals) >= 0.1 - 1e-9
    there = obstacles.abs() < 1000
    assert agents.abs().max() <= half and goals.abs().max() < half
    assert obstacles[there].abs().max() <= 0.8 * half
    assert agents.abs().max() > 0.95 * half, "agents begin everywhere"


def closest(one: Tensor, other: Tensor) -> float:
    away = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    if one is other:
        away = away + torch.eye(one.shape[1], dtype=away.dtype) * 9
    return away.min().item()


def test_beginnings_are_uniform() -> None:
    """Alone in the world nobody is moved; a few keep the square's mean and variance."""
    for size, bound in ((1, 0.02), (8, 0.02)):
        env = navigation("target", 4000, N=size, num_obstacles=0)
        agents, goals = env.state.position.split(size, dim=1)
        for drawn, half in ((agents, 1.0), (goals, 0.8)):
            assert drawn.mean((0, 1)).abs().max() < bound
            assert drawn.var().item() == pytest.approx(half**2 / 3, rel=0.03)


def test_the_number_of_obstacles_is_drawn() -> None:
    env = navigation("target", 5000, num_obstacles=[2, 5])
    counts = env.state.chosen[:, 0]
    share = torch.bincount(counts, minlength=7) / 5000
    expected = torch.tensor([0, 0, 0.25, 0.25, 0.25, 0.25, 0])
    torch.testing.assert_close(share, expected, atol=0.03, rtol=0)
    graph = env.observe(env.state).graph
    assert graph is not None and torch.equal(graph.mask[:, 6:].sum(-1), counts)
    assert not graph.position[~graph.mask].any()


def test_placing_ends_and_tells_the_crowded() -> None:
    """At the limit every world finds room; beyond it the tries still end."""
    reach = torch.ones(60)
    apart = torch.full((60, 60), 0.1)
    assert crowding(reach, apart) == pytest.approx(59 * math.pi * 0.01 / 4)
    reach = reach * math.sqrt(crowding(reach, apart) / CROWDED)
    found = place(torch.rand(2000, 60, 2), reach, apart)
    assert closest(found, found) >= 0.1 - 1e-6
    assert torch.isfinite(place(torch.rand(10, 60, 2), reach * 0.1, apart)).all()


def test_given_bodies_are_kept_off() -> None:
    given = torch.zeros(500, 1, 2)
    apart = torch.tensor([[0.0, 0.7, 0.7], [0.7, 0.0, 0.0], [0.7, 0.0, 0.0]])
    found = place(torch.rand(500, 2, 2), torch.ones(2), apart, given)
    assert found.shape == (500, 2, 2) and found.norm(dim=-1).min() >= 0.7


# ---------------------------------------------------------------------------- rewards and metrics


def test_rewards_by_hand() -> None:
    """0 is at its goal; 1 and 2 touch each other, 2 two obstacles as well, which count once."""
    env = navigation("target", num_obstacles=3)
    agents = [[0.0, 0.5], [0.0, 0.0], [0.08, 0.0]]
    goals = [[0.0, 0.54], [0.0, -0.3], [0.48, 0.0]]
    put(env, [*agents, *goals, [0.17, 0.0], [0.16, 0.01], [0.0, 0.6001]], 3)
    outcome = env.scenario.outcome(env.state)
    expected = torch.tensor([[5.0, -0.3 - 5, -0.4 - 5 - 5]], dtype=torch.float64)
    torch.testing.assert_close(outcome.reward, expected)
    told = dict(zip(env.scenario.measures, outcome.measures, strict=True))
    assert told["collisions"].item() == 1 + 1, "a pair, and one at obstacles"
    assert told["distance"].item() == pytest.approx((0.04 + 0.3 + 0.4) / 3)
    assert told["in_place"].item() == pytest.approx(1 / 3)
    assert told["success"].item() == 0 and told["time"].item() == 1


def test_metrics_by_hand() -> None:
    """0 reaches its goal at the third step and leaves it, 1 stands at its own, with 2 on top."""
    env = navigation("target", N=2, num_obstacles=0, max_cycles=10)
    put(env, [[0.0, 0.0], [0.5, 0.5], [0.21, 0.0], [0.5, 0.53]], 0)
    told = []
    for number in range(10):
        action = [RIGHT if number < 6 else STILL, STILL]
        told.append((env.state.position[0, 0, 0].item(), step(env, action)[1]))
    # 5 N from rest: velocities 0.5, 0.875, 1.156; positions 0.05, 0.1375, 0.253 (m)
    assert [place for place, _ in told[1:4]] == pytest.approx([0.05, 0.1375, 0.253125])
    last = told[-1][1]
    assert last["time"] == pytest.approx((3 / 10 + 1 / 10) / 2)
    assert last["success"] == 1 and last["in_place"] == 0.5 and last["collisions"] == 0
    assert told[1][1]["success"] == 0


def test_driving_to_the_goal_succeeds() -> None:
    """Towards the goal along the longer way of the two axes, without obstacles, one agent."""
    env = navigation("target", 50, N=1, num_obstacles=0)
    done: dict[str, Tensor] = {}
    for _ in range(25):
        to_goal = env.observe(env.state).groups["agent"].obs[..., 4:6] - 0.3 * env.state.velocity
        x, y = to_goal.float().unbind(-1)
        along_x = x.abs() > y.abs()
        action = torch.where(along_x, 1 + (x > 0).long(), 3 + (y > 0).long())
        done = dict(env.step({"agent": action}).info)
    assert done["success"].mean() > 0.5, "one push moves 0.2 m, so that not all can stop there"
    assert 0.1 < done["time"].mean() < 0.9


@pytest.mark.parametrize("task", ["coverage", "formation", "line"])
def test_places_are_matched_as_scipy_does(task: str) -> None:
    env = navigation(task, 20, N=6, num_obstacles=[0, 2])
    played(env, 5)
    for one in range(20):
        position = env.state.position[one : one + 1]
        places = env.scenario.targets(position)  # type: ignore[attr-defined]  # Navigation
        cost = torch.cdist(position[:, :6], places)[0].numpy()
        rows, columns = linear_sum_assignment(cost)
        chosen = env.state.chosen[one, 7:].numpy()
        assert sorted(chosen) == list(range(6))
        assert cost[np.arange(6), chosen].sum() == pytest.approx(cost[rows, columns].sum())


def test_shapes_by_hand() -> None:
    """Four agents on the circle around (0.1, 0), the first at angle 0; three on the line."""
    env = navigation("formation", N=4, num_obstacles=0)
    agents = [[0.3, 0.0], [0.1, 0.4], [-0.1, -0.01], [0.1, -0.2]]
    places = env.scenario.targets(torch.tensor([[*agents, [0.1, 0.0]]]))  # type: ignore[attr-defined]
    expected = torch.tensor([[[0.6, 0.0], [0.1, 0.5], [-0.4, 0.0], [0.1, -0.5]]])
    torch.testing.assert_close(places, expected)
    env = navigation("line", N=3, num_obstacles=0)
    ends = [[-0.5, 0.1], [0.75, 0.1]]
    places = env.scenario.targets(torch.tensor([[*[[0.0, 0.0]] * 3, *ends]]))  # type: ignore[attr-defined]
    torch.testing.assert_close(places, torch.tensor([[[-0.5, 0.1], [0.125, 0.1], [0.75, 0.1]]]))


# ------------------------------------------------------------------------------------ information


def test_local_information() -> None:
    """Velocity, place, and way to the goal, the nearest goal, the landmark, both landmarks."""
    for task, size in zip(TASKS, (6, 6, 6, 8), strict=True):
        env = navigation(task, 5, N=4)
        obs, position = env.observe(env.state).groups["agent"].obs, env.state.position
        agents, goals = position[:, :4], position[:, 4 : 4 + env.scenario.goal_count]  # type: ignore[attr-defined]
        assert obs.shape == (5, 4, size)
        torch.testing.assert_close(obs[..., 2:4], agents.float())
        way = goals[:, None] - agents[:, :, None]  # [B, N, G, 2]
        nearest = way.norm(dim=-1).argmin(-1)[..., None, None].expand(-1, -1, 1, 2)
        expected = {
            "target": goals - agents if task == "target" else None,
            "coverage": way.gather(2, nearest).squeeze(2),
            "formation": way.flatten(2),
            "line": way.flatten(2),
        }[task]
        torch.testing.assert_close(obs[..., 4:], expected.float())


@pytest.mark.parametrize("neighbours", [1, 3, 12])
def test_neighbours_are_those_of_a_loop(neighbours: int) -> None:
    options = {"N": 4, "num_obstacles": [0, 4], "radius": 0.7, "neighbours": neighbours}
    env = navigation("target", 30, information="neighbourhood", **options)
    obs = env.observe(env.state).groups["agent"].obs
    assert obs.shape == (30, 4, 6 + 2 * neighbours)
    for b in range(30):
        count = int(env.state.chosen[b, 0])
        bodies = torch.cat([env.state.position[b, :4], env.state.position[b, 8 : 8 + count]])
        for i in range(4):
            way = [body - bodies[i] for j, body in enumerate(bodies) if j != i]
            near = sorted((w for w in way if w.norm() < 0.7), key=lambda w: float(w.norm()))
            told = torch.zeros(neighbours, 2, dtype=torch.float64)
            for slot, w in enumerate(near[:neighbours]):
                told[slot] = w
            torch.testing.assert_close(obs[b, i, 6:], told.flatten().float())


def test_global_information_tells_all_that_is_there() -> None:
    env = navigation("target", 30, N=3, num_obstacles=[0, 2], information="global")
    obs, position = env.observe(env.state).groups["agent"].obs, env.state.position
    assert obs.shape == (30, 3, 6 + 4 + 4)
    torch.testing.assert_close(obs[:, 1, 6:8], (position[:, 0] - position[:, 1]).float())
    torch.testing.assert_close(obs[:, 1, 8:10], (position[:, 2] - position[:, 1]).float())
    for b, count in enumerate(env.state.chosen[:, 0].tolist()):
        way = (position[b, 6 : 6 + count] - position[b, 1]).flatten().float()
        torch.testing.assert_close(obs[b, 1, 10 : 10 + 2 * count], way)
        assert not obs[b, :, 10 + 2 * count :].any()


def test_the_graph_holds_everything() -> None:
    env = navigation("target", 4, N=2, num_obstacles=1, radius=0.6, directed=False)
    transition = env.step({"agent": torch.full((4, 2), LEFT)})
    graph = transition.next_obs.graph
    assert graph is not None and graph.radius == 0.6 and not graph.directed
    assert graph.ego == (("agent", range(2)),) and graph.kind.tolist() == [[0, 0, 1, 1, 2]] * 4
    torch.testing.assert_close(graph.position, env.state.position.float())
    torch.testing.assert_close(graph.velocity[:, :2], env.state.velocity.float())
    assert not graph.velocity[:, 2:].any()
    torch.testing.assert_close(graph.goal[:, :2], graph.position[:, 2:4])
    torch.testing.assert_close(graph.goal[:, 2:], graph.position[:, 2:])


def test_bodies_move_with_the_new_velocity() -> None:
    """As in InforMARL's code: 5 N for 0.1 s make 0.5 m/s, and 0.05 m at once."""
    env = navigation("target", N=1, num_obstacles=0)
    before = env.state.position.clone()
    step(env, [RIGHT])
    way = (env.state.position - before)[0, 0]
    torch.testing.assert_close(way, torch.tensor([0.05, 0.0], dtype=way.dtype))


# --------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("target", {"N": 0}, "N=0 must be a whole number of at least 1"),
        ("target", {"num_obstacles": -1}, "num_obstacles=-1 must be a whole number of at least 0"),
        ("target", {"num_obstacles": [3, 1]}, "num_obstacles=1 must be .* at least 3"),
        ("target", {"num_obstacles": [1, 2, 3]}, r"num_obstacles=\[1, 2, 3\] must be"),
        ("target", {"world_size": 0}, "world_size=0 must be a positive number of metres"),
        ("target", {"radius": float("nan")}, "radius=nan must be a positive number"),
        ("target", {"information": "neighbors"}, "did you mean 'neighbourhood'"),
        ("target", {"directed": 1}, "directed=1 must be true or false"),
        ("target", {"N": 100}, "do not fit into world_size=2 without overlap; set world_size=3"),
        ("formation", {"N": 40}, "do not fit into world_size=2 .* set world_size=2.6,"),
        (
            "line",
            {"N": 30, "num_obstacles": 0},
            "world_size=2 .* set world_size=4.7,",
        ),
    ],
)
def test_mistakes_are_told(task: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        navigation(task, 2, **options)


def test_the_world_that_is_asked_for_is_large_enough() -> None:
    for task, size in (("target", 100), ("formation", 40), ("line", 30)):
        with pytest.raises(UserError) as error:
            navigation(task, 2, N=size)
        needed = float(str(error.value).split("set world_size=")[1].split(",")[0])
        env = navigation(task, 50, N=size, world_size=needed)
        agents = env.state.position[:, :size]
        assert closest(agents, agents) >= 0.1 - 1e-9


def test_pictures_show_who_senses_whom() -> None:
    """More grey, the farther one senses."""
    grey = []
    for radius in (0.11, 0.8, 3.0):
        env = make("navigation/target", 1, radius=radius)
        env.reset(0)
        picture = env.render().astype(int)
        flat = picture.max(-1) - picture.min(-1) < 12  # no colour
        grey.append(int((flat & (picture.mean(-1) > 120) & (picture.mean(-1) < 245)).sum()))
    assert grey[0] < grey[1] < grey[2]
