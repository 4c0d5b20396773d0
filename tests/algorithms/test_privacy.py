"""What a team learns from: its own, and of others only what its critic is declared to see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.learning.replay import Replay
from marl.training.build import build_teams
from marl.training.collector import Collector
from marl.training.teams import RunShape, Team, resolve_teams
from marl.types import Observation, Rollout, tree_map
from tests.algorithms.test_contract import LEARNERS, MODELS, configured
from tests.helpers.builders import CPU
from tests.helpers.toy_envs import rivals


def other(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Something else for the group on the right."""
    right = tensors["right"]
    changed = ~right if right.dtype == torch.bool else (right + 1) % 3
    return {**tensors, "right": changed}


def seen_otherwise(obs: Observation) -> Observation:
    right = obs.groups["right"]
    return replace(obs, groups={**obs.groups, "right": replace(right, obs=1 - right.obs)})


def unseen(rollout: Rollout) -> Rollout:
    """Other rewards of the right team: nobody's concern but its own."""
    return replace(rollout, reward=other(rollout.reward))


def hidden(rollout: Rollout) -> Rollout:
    """The right team saw, did and earned something else."""
    return replace(
        unseen(rollout),
        obs=seen_otherwise(rollout.obs),
        next_obs=seen_otherwise(rollout.next_obs),
        action=other(rollout.action),
        terminated=other(rollout.terminated),
    )


def learned(config: Any, change: Any) -> list[Tensor]:
    """The left team's policy after updates from rollouts of which ``change`` made something
    else."""
    env = rivals(8, CPU)
    torch.manual_seed(0)
    specs = resolve_teams(env, {}, Team(None, config, MODELS["mlp"]))
    replay = Replay(1000, 8, CPU)
    built = build_teams(env, specs, RunShape(8, 10, 10), seed=0, replay=replay)
    collector = Collector(env, built, 10, 0, torch.Generator().manual_seed(0))
    rollouts = [change(tree_map(torch.clone, collector.collect()[0])) for _ in range(2)]
    torch.manual_seed(0)
    for rollout in rollouts:
        replay.append(rollout)
        built["left"].update(rollout)
    policy = built["left"].policy
    assert isinstance(policy, torch.nn.Module)
    return [parameter.clone() for parameter in policy.parameters()]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def as_it_was(rollout: Rollout) -> Rollout:
    return rollout


@pytest.mark.parametrize("name", LEARNERS)
def test_a_team_learns_from_no_more_than_it_says(name: str) -> None:
    config = configured(name)
    scopes = ["agent"] if name in ("isac", "iddpg") else ["team", "all"]
    for scope in scopes if hasattr(config, "critic") else ["none"]:
        config.critic = scope
        truth = learned(config, as_it_was)
        assert same(truth, learned(config, as_it_was)) and same(truth, learned(config, unseen))
        assert same(truth, learned(config, hidden)) == (scope != "all"), scope
