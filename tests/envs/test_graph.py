"""Graphs given to environments that tell none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from marl.algorithms.mappo import MAPPOConfig
from marl.env import check_env
from marl.envs.graph import graph_options
from marl.envs.task import Task
from marl.errors import UserError
from marl.networks.informarl import InforMARL
from marl.training.build import build_teams
from marl.training.collector import Collector
from marl.training.teams import RunShape, Team, resolve_teams
from marl.types import EntitySpec
from tests.helpers.builders import CPU

SPREAD = {"positions": [2, 3], "velocities": [0, 1], "radius": 0.5}  # of mpe's observations


def made(name: str, graph: dict[str, Any], envs: int = 4, **kwargs: Any) -> Any:
    return Task(name, graph=graph, kwargs=kwargs, max_steps=6)(envs, CPU)


@pytest.mark.parametrize(
    ("name", "graph"),
    [("mpe/simple_spread", SPREAD), ("mpe/simple_tag", SPREAD), ("mpe2/simple_tag_v3", SPREAD),
     ("vmas/navigation", {"positions": "world"}), ("vmas/football", {"positions": "world"})],
)  # fmt: skip
def test_the_contract_holds(name: str, graph: dict[str, Any]) -> None:
    check_env(made(name, graph))


@pytest.mark.parametrize("name", ["mpe/simple_spread", "mpe/simple_tag"])
def test_places_are_those_observed(name: str) -> None:
    env, plain = made(name, SPREAD), Task(name, max_steps=6)(4, CPU)
    assert all(group.entities == EntitySpec(2, 1) for group in env.groups.values())
    obs, expected = env.reset(3), plain.reset(3)
    for _ in range(8):
        action = {n: torch.randint(0, 5, (4, g.size)) for n, g in env.groups.items()}
        for group, rows in obs.graph.ego:
            seen, at = obs.groups[group].obs, list(rows)
            assert torch.equal(obs.graph.position[:, at], seen[..., 2:4])
            assert torch.equal(obs.graph.velocity[:, at], seen[..., :2])
            assert torch.equal(seen, expected.groups[group].obs)
        assert obs.graph.radius == 0.5 and obs.graph.mask.all()
        transition, other = env.step(action), plain.step(action)
        after = transition.next_obs
        for group, rows in after.graph.ego:
            at = after.graph.position[:, list(rows)]
            assert torch.equal(at, after.groups[group].obs[..., 2:4])
        obs, expected = transition.obs, other.obs


def test_the_world_of_vmas_is_told() -> None:
    """Agents, their goals and landmarks, before and after episodes end."""
    env, plain = made("vmas/navigation", {"positions": "world", "radius": 2}), Task(
        "vmas/navigation", max_steps=6)(4, CPU)  # fmt: skip
    obs, expected = env.reset(1), plain.reset(1)
    ended = False
    for _ in range(8):
        seen = obs.groups["agent"].obs
        assert torch.equal(seen, expected.groups["agent"].obs)
        g = obs.graph
        agents = g.position.shape[1] // 2
        assert torch.equal(g.position[:, :agents], seen[..., :2])
        assert torch.equal(g.velocity[:, :agents], seen[..., 2:4])
        torch.testing.assert_close(g.position[:, :agents] - g.goal[:, :agents], seen[..., 4:6])
        assert g.kind[0].tolist() == [0] * agents + [1] * agents
        action = {"agent": torch.rand(4, agents, 2) * 2 - 1}
        transition, other = env.step(action), plain.step(action)
        last = transition.next_obs
        assert torch.equal(last.graph.position[:, :agents], last.groups["agent"].obs[..., :2])
        ended |= bool(transition.done.any())
        obs, expected = transition.obs, other.obs
    assert ended


def test_informarl_learns_in_vmas() -> None:
    env = made("vmas/navigation", {"positions": "world", "radius": 2})
    team = Team(None, MAPPOConfig(epochs=1), InforMARL(hidden=[8]))
    teams = build_teams(env, resolve_teams(env, {}, team), RunShape(4, 5, 2), 0)
    rollout, _ = Collector(env, teams, 5, 0, torch.Generator().manual_seed(0)).collect()
    for metrics in (team.update(rollout) for team in teams.values()):
        assert all(torch.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"place": [0, 1]}, "unknown option 'place' of task.graph"),
        ({"positions": "wrld"}, "positions='wrld' must be indices"),
        ({"positions": []}, "must be indices"),
        ({"positions": [0, 1], "velocities": [2]}, "as many indices as positions"),
        ({"radius": -1}, "radius=-1 must be a positive number"),
        ({"directed": 3}, "directed=3 must be true or false"),
    ],
)
def test_mistakes(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        graph_options(options)


def test_what_an_environment_does_not_have_is_told() -> None:
    with pytest.raises(UserError, match="which have no index 99"):
        made("mpe/simple_spread", {"positions": [0, 99]})
    with pytest.raises(UserError, match="works only with VMAS"):
        made("mpe/simple_spread", {"positions": "world"})
