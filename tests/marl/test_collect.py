"""Rollouts against loops over single steps."""

from __future__ import annotations

import dataclasses
import io

import pytest
import torch
from torch import Tensor

from marl.learning.rewards import team_done, team_reward, team_successor, team_terminated, without
from marl.networks.perceptron import Perceptron
from marl.training.collector import Collector, split_episodes
from marl.types import Graph, GroupObservation, Observation, tree_tensors
from tests.scenes import CPU, SMALL, collector, mappo, randomly, rollout_of
from tests.toys import Game, identity, late_metric

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
    assert collect.storage is not None
    done, told = collect.storage.done, collect.info["won"]
    assert done[:5].any() and not told[:5].any() and (told[5:] == 2).all()
    metrics = collect.collect()[1]
    assert float(metrics["info/won"]) == 2
    resumed = late()
    resumed.load_state_dict(collect.state_dict())
    resumed.env.resets = 0  # type: ignore[attr-defined]  # nothing tells it yet
    metrics = resumed.collect()[1]
    assert float(metrics["episodes"]) > 0 and float(metrics["info/won"]) == 0


# --------------------------------------------------------------------------------- a team's rewards


def test_rewards_of_a_team() -> None:
    rollout = rollout_of("identity", mappo("identity"))
    groups = identity(4, CPU).groups
    own = torch.cat([rollout.reward["left"], rollout.reward["right"]], -1)
    assert torch.equal(team_reward(rollout, groups, "own"), own)
    torch.testing.assert_close(team_reward(rollout, groups, "team_sum")[..., 0], own.sum(-1))
    torch.testing.assert_close(team_reward(rollout, groups, "team_mean")[..., 0], own.mean(-1))


def test_where_a_teams_returns_end() -> None:
    """At a death for rewards of one's own; for a team's at the end of the episode, unless it cut
    one of the team off."""
    rollout = rollout_of("mortal", mappo("mortal"))
    groups = {"left": identity(4, CPU).groups["left"]}
    assert torch.equal(team_terminated(rollout, groups, "own"), rollout.terminated["left"])
    ends = team_terminated(rollout, groups, "team_mean").squeeze(-1)
    assert torch.equal(ends, rollout.done & ~rollout.truncated["left"].any(-1))
    assert (ends != rollout.done).any() and (ends != rollout.terminated["left"].any(-1)).any()


def test_where_a_teams_traces_stop() -> None:
    rollout = rollout_of("mortal", mappo("mortal"))
    groups, done = identity(4, CPU).groups, rollout.done.unsqueeze(-1)
    cut = torch.cat([rollout.truncated[name] for name in groups], dim=-1)
    assert (cut & ~done).any()
    assert torch.equal(team_done(rollout, groups, "own"), done | cut)
    assert torch.equal(team_done(rollout, groups, "team_sum"), done)


@pytest.mark.parametrize("reward", ["own", "team_mean"])
def test_a_successor_shows_only_those_whose_return_is_cut(reward: str) -> None:
    """Of a team of the left agents: the right one, cut off alone, is always absent."""
    rollout = rollout_of("mortal", mappo("mortal"))
    team = {"left": identity(4, CPU).groups["left"]}
    after = team_successor(rollout, team, reward)
    for name, seen in rollout.next_obs.groups.items():
        found, gone = after.groups[name], rollout.truncated[name] & ~rollout.done.unsqueeze(-1)
        assert gone.any() and seen.alive is not None and seen.alive[gone].all()
        if reward == "own" and name == "left":
            assert found is seen
            continue
        assert found.alive is not None
        assert not found.alive[gone].any() and not found.obs[gone].any()
        assert torch.equal(found.obs[~gone], seen.obs[~gone])
        assert torch.equal(found.alive[~gone], seen.alive[~gone])


def test_the_absent_stand_in_no_graph() -> None:
    positions = torch.ones(2, 3, 1)
    graph = Graph(positions, positions, positions, torch.zeros(2, 3).long(),
                  torch.ones(2, 3).bool(), ego=(("a", range(1)), ("b", range(1, 3))))  # fmt: skip
    seen = GroupObservation(torch.ones(2, 2, 4), None, torch.ones(2, 2).bool())
    gone = torch.tensor([[True, False], [False, False]])
    after = without(Observation({"a": seen, "b": seen}, graph=graph), {"b": gone})
    assert after.graph is not None and graph.mask.all()
    assert after.graph.mask.tolist() == [[True, False, True], [True, True, True]]


def test_a_rollouts_storage_is_allocated_once() -> None:
    collect = collector("identity", mappo("identity"))
    pointers = [
        [x.data_ptr() for x in tree_tensors(dataclasses.replace(collect.collect()[0], carry={}))]
        for _ in range(2)
    ]
    assert pointers[0] == pointers[1]
