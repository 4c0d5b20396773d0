"""The absent neither learn nor teach."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from algorithms.mappo import normalize
from marl.algorithm import team_alive
from marl.types import Rollout
from tests.scenes import mappo, rollout_of, weights


@pytest.mark.parametrize(
    ("reward", "critic"),
    [("own", "agent"), ("own", "team"), ("team_mean", "team"), ("team_sum", "all")],
)
def test_what_the_dead_do_changes_nothing(reward: str, critic: str) -> None:
    found = []
    for seed in (None, 1):
        algorithm = mappo("mortal", reward=reward, critic=critic, epochs=3, minibatch_size=20)
        rollout = rollout_of("mortal", algorithm)
        algorithm.update(rollout if seed is None else disturbed(rollout, seed, reward == "own"))
        found.append(torch.cat([weights(algorithm.policy), weights(algorithm.critic)]))
    assert torch.equal(*found)


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
