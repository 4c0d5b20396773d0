"""Evaluation of joint policies with and without their graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from marl.algorithm import Algorithm
from marl.env import VectorEnv
from marl.policies.bayesian import JointPolicy
from marl.training.collector import Teams
from marl.training.evaluation import Limit, evaluate
from marl.types import (
    Carry,
    Metrics,
    Observation,
    PolicyStep,
    Rollout,
)


class GraphAblation:
    """A team with a joint policy, to be evaluated: the mean density of the graphs it acted along.

    Args:
        team: with its policy.
        without_graph: it acts without them.
    """

    def __init__(self, team: Algorithm, without_graph: bool):
        assert isinstance(team.policy, JointPolicy)
        self.team, self.policy, self.without_graph = team, team.policy, without_graph
        self.densities: list[Tensor] = []

    @property
    def density(self) -> float:
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
    """Those of ``teams`` that have a joint policy."""
    return {
        name: GraphAblation(team, without_graph)
        for name, team in teams.items()
        if isinstance(team.policy, JointPolicy)
    }


def play(
    env: VectorEnv,
    teams: Teams,
    episodes: int,
    seed: int,
    explore: bool = False,
    limit: Limit | None = None,
) -> dict[str, Any]:
    """``evaluate``; where a team acts along a Bayesian network also the returns of the same
    episodes without their graphs, as ``cut``, and each such team's ``density``, the share of the
    edges there could be."""
    joint = ablations(teams)
    result: dict[str, Any] = evaluate(env, {**teams, **joint}, episodes, seed, explore, limit)
    if joint:
        result["density"] = {name: [team.density] for name, team in joint.items()}
        cut = {**teams, **ablations(teams, without_graph=True)}
        result["cut"] = evaluate(env, cut, episodes, seed, explore, limit)["returns"]
    return result
