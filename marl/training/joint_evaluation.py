"""Evaluation of policies that act along a graph, with the graph and without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from marl.algorithm import Algorithm
from marl.env import VectorEnv
from marl.policies.kinds import GraphPolicy, graph_policy
from marl.training.collector import Teams
from marl.training.evaluation import Limit, evaluate
from marl.types import Carry, Metrics, Observation, PolicyStep, Rollout


class GraphAblation:
    """A team that acts with or without its graph, and measures the density of the graph.

    It is an ``Algorithm`` in place of the team's own.

    Args:
        team: the algorithm of the team.
        policy: its policy.
        without_graph: True leaves out all edges of the graph.
    """

    def __init__(self, team: Algorithm, policy: GraphPolicy, without_graph: bool):
        self.team, self.policy, self.without_graph = team, policy, without_graph
        self.densities: list[Tensor] = []

    @property
    def density(self) -> float:
        """Mean share of the possible edges in the graphs of all steps so far."""
        return float(torch.stack(self.densities).mean())

    @torch.no_grad()
    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        self.policy.without_graph = self.without_graph
        try:
            step = self.team.act(obs, carry, start, generator, explore)
            self.densities.append(self.policy.density(obs, step.aux).mean())
        finally:
            self.policy.without_graph = False
        return step

    def update(self, rollout: Rollout) -> Metrics:
        return self.team.update(rollout)

    def state_dict(self) -> dict[str, Any]:
        return self.team.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.team.load_state_dict(state)


def ablations(
    teams: Mapping[str, Algorithm], without_graph: bool = False
) -> dict[str, GraphAblation]:
    """Returns the ablations of those teams that act along a graph.

    Args:
        teams: algorithms by team.
        without_graph: True for teams that act without their graph.
    """
    return {
        name: GraphAblation(team, policy, without_graph)
        for name, team in teams.items()
        if (policy := graph_policy(team.policy)) is not None
    }


def play(
    env: VectorEnv,
    teams: Teams,
    episodes: int,
    seed: int,
    explore: bool = False,
    limit: Limit | None = None,
    on_round: Callable[[int], None] = lambda episodes: None,
) -> dict[str, Any]:
    """Plays episodes as ``evaluate`` does, and again without the graphs of teams that have one.

    Args:
        env: environment to play in.
        teams: algorithms by team.
        episodes: number of episodes.
        seed: seed of the episodes.
        explore: False for greedy actions.
        limit: longest episode.
        on_round: called after each round of episodes with their number.

    Returns:
        What ``evaluate`` returns. If a team acts along a graph, also ``cut``, the returns of the
        same episodes without graphs, and ``density``, by such team the mean share of the possible
        edges in its graphs.

    Raises:
        EndlessEpisode: an episode is longer than ``limit`` allows.
    """
    with_graph = ablations(teams)
    options = episodes, seed, explore, limit, on_round
    result: dict[str, Any] = evaluate(env, {**teams, **with_graph}, *options)
    if with_graph:
        result["density"] = {name: [team.density] for name, team in with_graph.items()}
        without_graph = {**teams, **ablations(teams, without_graph=True)}
        result["cut"] = evaluate(env, without_graph, *options)["returns"]
    return result
