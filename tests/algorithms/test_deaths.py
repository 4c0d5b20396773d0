"""The absent neither learn nor teach."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.registry import ALGORITHMS
from marl.learning.on_policy import normalize
from marl.learning.rewards import team_alive
from marl.networks.perceptron import Perceptron
from marl.policies.dag import BayesianNetworkConfig
from marl.types import Rollout, tree_tensors
from marl.utils.capabilities import needs_replay
from tests.helpers.builders import mappo, rollout_of, weights
from tests.helpers.off_policy import FAST, FAST_VALUE, VALUE, Play
from tests.helpers.toy_envs import mortal

OFF_POLICY: dict[str, Any] = {**FAST, "warmup": 128, "batch_size": 32}
VALUE_BASED = {**FAST_VALUE, "warmup": 128, "batch_size": 32, "frames_per_update": 16}


SCOPES: list[dict[str, Any]] = [
    {"reward": "own", "critic": "agent"},
    {"reward": "own", "critic": "team"},
    {"reward": "team_mean", "critic": "team"},
    {"reward": "team_sum", "critic": "all"},
]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("mappo", {"joint": BayesianNetworkConfig("full")}),
    ("masac", {"joint": BayesianNetworkConfig("full")}),
    ("maddpg", {"joint": BayesianNetworkConfig("learned")}),
    ("hasac", {"exact": True}),
    ("masac", {"exact": True}),
    ("masac", {"n_step": 3, "reward": "own"}),
    ("maddpg", {"ensemble": 2}),
    ("maddpg", {"others": "current"}),
    ("maddpg", {"gumbel": "soft"}),
    ("maddpg", {"inference": True}),
    ("maddpg", {"inference": True, "reward": "own", "critic": "team"}),
    ("iql", {"reward": "own"}),
    ("iql", {"reward": "team_mean"}),
    ("vdn", {"reward": "team_sum"}),
    ("qmix", {"critic": "all", "td_lambda": 0.5}),
    ("qplex", {"importance_layers": 1}),
    ("cwqmix", {}),
]
LEARNERS = [name for name in ALGORITHMS if name not in ("random", "scripted", "frozen", *VALUE)]
ON_POLICY: dict[str, Any] = {"epochs": 3, "minibatch_size": 64, "chunk_length": 4}


@pytest.mark.parametrize("options", SCOPES, ids=lambda x: "-".join(x.values()))
@pytest.mark.parametrize("name", LEARNERS)
def test_what_the_dead_do_changes_nothing(name: str, options: dict[str, Any]) -> None:
    check_the_dead(name, options)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_what_the_dead_do_changes_nothing_either(name: str, options: dict[str, Any]) -> None:
    check_the_dead(name, options)


def check_the_dead(name: str, options: dict[str, Any]) -> None:
    """Three iterations, with and without other actions of the dead: the same weights, moments and
    metrics, bit by bit, where the replay draws the same and so do the policies."""
    found = []
    for seed in (None, 1):
        config: Any = ALGORITHMS[name]
        off = needs_replay(config)
        base = ON_POLICY if not off else VALUE_BASED if name in VALUE else OFF_POLICY
        play = Play(mortal, config(**base, **options), Perceptron([16]), 16)
        metrics: Any = {}
        for _ in range(3):
            rollout, _ = play.collector.collect()
            if seed is not None:
                own = play.first.config.reward == "own"
                rollout = disturbed(rollout, seed, own)
            play.replay.append(rollout)
            metrics = play.first.update(rollout)
        found.append(tree_tensors([play.first.state_dict(), metrics]))
        assert (metrics and not off) or play.first.updates > 5
    assert len(found[0]) > 20
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def disturbed(rollout: Rollout, seed: int, own: bool) -> Rollout:
    """Other actions and probabilities of the dead; other rewards too, where they are their own."""
    random = torch.Generator().manual_seed(seed)
    changed: dict[str, dict[str, Tensor]] = {"action": {}, "log_prob": {}, "reward": {}}
    count = 0
    for name, seen in rollout.obs.groups.items():
        assert seen.alive is not None
        dead, count = ~seen.alive, count + int((~seen.alive).sum())
        noise = 5 * torch.rand(dead.shape, generator=random)
        changed["action"][name] = torch.where(dead, 2 - rollout.action[name].clamp(max=2),
                                              rollout.action[name])  # fmt: skip
        changed["log_prob"][name] = rollout.log_prob[name] - noise * dead
        changed["reward"][name] = rollout.reward[name] + noise * dead * own
    assert count > 5
    return dataclasses.replace(rollout, **changed)


def test_what_the_living_do_changes_something() -> None:
    """The test above would pass if actions had no influence at all."""
    algorithm, other = mappo("mortal"), mappo("mortal")
    rollout = rollout_of("mortal", algorithm)
    algorithm.update(rollout)
    left = rollout.action["left"].flip(0)
    other.update(dataclasses.replace(rollout, action={**rollout.action, "left": left}))
    assert not torch.equal(weights(algorithm.policy), weights(other.policy))


def test_alive_of_mixed_groups() -> None:
    algorithm = mappo("mortal")
    rollout = rollout_of("mortal", algorithm)
    alive = team_alive(rollout.obs, algorithm.team)
    assert alive is not None and alive.shape == (10, 4, 3)
    dead = rollout.obs.groups["right"].alive
    assert dead is not None and torch.equal(alive[..., 2:].bool(), dead)
    immortal = dataclasses.replace(algorithm.team["right"], mortal=False)
    seen = dataclasses.replace(rollout.obs.groups["right"], alive=None)
    obs = dataclasses.replace(rollout.obs, groups={**rollout.obs.groups, "right": seen})
    alive = team_alive(obs, {**algorithm.team, "right": immortal})
    assert alive is not None and alive[..., 2].all() and not alive[..., :2].all()
    assert team_alive(obs, {"right": immortal}) is None


def test_advantages_are_normalised_over_the_living() -> None:
    advantage = torch.tensor([1.0, 3.0, 500.0])
    got = normalize(advantage, torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(got[:2], torch.tensor([-1.0, 1.0]), atol=1e-4, rtol=0)
