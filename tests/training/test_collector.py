"""Rollouts against loops over single steps."""

from __future__ import annotations

import dataclasses
import io

import pytest
import torch
from torch import Tensor

from marl.networks.perceptron import Perceptron
from marl.training.collector import Collector, split_episodes
from marl.types import tree_tensors
from tests.helpers.builders import CPU, SMALL, collector, mappo, randomly
from tests.helpers.toy_envs import Game, identity, late_metric

GRU = Perceptron(**SMALL, gru=8)


# ----------------------------------------------------------------------------------------- episodes


def naive_episodes(reward: Tensor, done: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    ended, held = torch.zeros_like(reward), before.clone()
    for t in range(reward.shape[1]):
        held += reward[:, t]
        ended[:, t] = torch.where(done[t], held, 0.0)
        held = torch.where(done[t], torch.zeros_like(held), held)
    return ended, held


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_split_episodes_equals_a_loop(chance: float) -> None:
    draw = torch.Generator().manual_seed(0)
    reward, before = torch.randn(2, 9, 5, generator=draw), torch.randn(2, 5, generator=draw)
    done = torch.rand(9, 5, generator=draw) < chance
    for got, expected in zip(
        split_episodes(reward, done, before), naive_episodes(reward, done, before), strict=True
    ):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_training_returns_run_across_rollouts() -> None:
    """Over several rollouts, the mean return is that of the episodes that ended in each."""
    algorithm = mappo("identity", steps=3)
    collect = collector("identity", algorithm, steps=3)
    held = torch.zeros(4)
    for _ in range(5):
        rollout, metrics = collect.collect()
        reward = torch.cat([rollout.reward[n] for n in ("left", "right")], -1).mean(-1)
        ended, held = naive_episodes(reward[None], rollout.done, held[None])
        held = held[0]
        assert float(metrics["episodes"]) == float(rollout.done.sum())
        if rollout.done.any():
            expected = ended.sum() / rollout.done.sum()
            torch.testing.assert_close(metrics["return/team"], expected)
        else:
            assert metrics["return/team"].isnan()


# ----------------------------------------------------------------------------------------- rollouts


def test_a_rollout_holds_what_was_seen_and_done() -> None:
    """Replays the recorded actions in a second environment."""
    algorithm = mappo("mortal", GRU)
    collect = collector("mortal", algorithm)
    env = collector("mortal", algorithm).env
    obs, start = env.reset(2), torch.ones(4, dtype=torch.bool)
    for _ in range(2):
        rollout, _ = collect.collect()
        for t in range(10):
            transition = env.step({n: rollout.action[n][t] for n in env.groups})
            expected = (obs, transition.next_obs, transition.reward, transition.terminated)
            expected = (*expected, transition.truncated, transition.done, start)
            got = (rollout.obs, rollout.next_obs, rollout.reward, rollout.terminated)
            got = (*got, rollout.truncated, rollout.done, rollout.start)
            for one, other in zip(tree_tensors(got), tree_tensors(expected), strict=True):
                assert torch.equal(one[t], other)
            obs, start = transition.obs, transition.done


def test_the_next_rollout_starts_with_the_memory_of_the_last() -> None:
    collect = collector("identity", mappo("identity", GRU))
    assert not any(memory.any() for memory in collect.collect()[0].carry.values())
    last = dict(collect.carry)
    rollout, _ = collect.collect()
    assert all(torch.equal(rollout.carry[name], last[name]) for name in last)
    assert all(memory.any() for memory in rollout.carry.values())


def test_state_round_trip_continues_identically() -> None:
    one = collector("mortal", mappo("mortal", GRU))
    one.collect()
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    other = collector("mortal", mappo("mortal", GRU))
    assert other.load_state_dict(torch.load(buffer, weights_only=True))
    (a, first), (b, second) = one.collect(), other.collect()
    for x, y in zip(tree_tensors(a), tree_tensors(b), strict=True):
        assert torch.equal(x, y)
    assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in second.items()}


class Forgetful(Game):
    def state_dict(self) -> None:  # type: ignore[override]  # as the contract allows
        return None


def test_an_environment_without_state_starts_anew() -> None:
    toy = identity(4, CPU)
    env = Forgetful(4, CPU, {n: (g.size, g.action) for n, g in toy.groups.items()}, toy.rules)
    collect = Collector(env, randomly(env), 10, 2, torch.Generator().manual_seed(1))
    collect.collect()
    state = collect.state_dict()
    fresh = Collector(env, randomly(env), 10, 2, torch.Generator())
    assert fresh.load_state_dict(state) is False
    assert fresh.start.all() and torch.equal(fresh.generator.get_state(), state["generator"])


def late(steps: int = 10) -> Collector:
    env = late_metric(4, CPU)
    return Collector(env, randomly(env), steps, 2, torch.Generator().manual_seed(1))


def test_a_metric_that_appears_late_is_0_in_the_episodes_before() -> None:
    """In the midst of the second rollout, and not again in a resumed run."""
    collect = late()
    assert "info/won" not in collect.collect()[1]
    for t in range(10):
        collect.env.resets += t == 5  # type: ignore[attr-defined]  # it tells from the second on
        collect._step(t)
    storage = collect.storage
    assert storage.rollout is not None
    done, told = storage.rollout.done, storage.info["won"]
    assert done[:5].any() and not told[:5].any() and (told[5:] == 2).all()
    metrics = collect.collect()[1]
    assert float(metrics["info/won"]) == 2
    resumed = late()
    resumed.load_state_dict(collect.state_dict())
    resumed.env.resets = 0  # type: ignore[attr-defined]  # nothing tells it yet
    metrics = resumed.collect()[1]
    assert float(metrics["episodes"]) > 0 and float(metrics["info/won"]) == 0


def test_a_rollouts_storage_is_allocated_once() -> None:
    collect = collector("identity", mappo("identity"))
    pointers = [
        [x.data_ptr() for x in tree_tensors(dataclasses.replace(collect.collect()[0], carry={}))]
        for _ in range(2)
    ]
    assert pointers[0] == pointers[1]
