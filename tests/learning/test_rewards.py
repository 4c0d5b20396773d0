"""How a team is paid, against loops over every step, copy and agent."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from marl.learning.rewards import REWARDS, remove_agents
from marl.types import AgentGroup, EntityGraph, GroupObservation, Observation, Rollout
from tests.helpers.builders import CPU, mappo, rollout_of
from tests.helpers.toy_envs import identity

BOTH = identity(4, CPU).groups  # left, two agents, and right, one
LEFT = {"left": BOTH["left"]}
TEAMS = pytest.mark.parametrize("team", [BOTH, LEFT], ids=["both", "left"])


@pytest.fixture(scope="module")
def rollout() -> Rollout:
    """One in which agents die and are cut off alone, and episodes end either way."""
    rollout = rollout_of("mortal", mappo("mortal"))
    alone = rollout.truncated["left"] & ~rollout.done.unsqueeze(-1)
    died = rollout.terminated["left"] & ~rollout.done.unsqueeze(-1)
    cut = torch.cat(list(rollout.truncated.values()), -1).any(-1) & rollout.done
    assert alone.any() and died.any() and cut.any() and rollout.done.any()
    assert all((value != value[0, 0, 0]).any() for value in rollout.reward.values())
    return rollout


def agents(values: dict[str, Tensor], team: dict[str, AgentGroup], t: int, b: int) -> list[float]:
    """One number for each agent of the team, at one step of one copy."""
    return [float(values[name][t, b, row]) for name in team for row in range(team[name].size)]


def naive(word: str, rollout: Rollout, team: dict[str, AgentGroup], t: int, b: int) -> tuple:
    """Rewards, and where returns end for good and traces stop."""
    reward, ended, cut = (
        agents(values, team, t, b)  # type: ignore[arg-type]  # mappings
        for values in (rollout.reward, rollout.terminated, rollout.truncated)
    )
    done = bool(rollout.done[t, b])
    if word == "own":
        return reward, [bool(end) for end in ended], [done or bool(one) for one in cut]
    total = sum(reward) / (len(reward) if word == "team_mean" else 1)
    return [total], [done and not any(cut)], [done]


@TEAMS
@pytest.mark.parametrize("word", REWARDS)
def test_rewards_and_ends(word: str, team: dict[str, AgentGroup], rollout: Rollout) -> None:
    scheme = REWARDS[word]
    reward, terminated, done = (
        read(rollout, team) for read in (scheme.reward, scheme.terminated, scheme.done)
    )
    assert (
        reward.shape == terminated.shape == done.shape == (*rollout.done.shape, scheme.heads(team))
    )
    for t in range(rollout.steps):
        for b in range(rollout.done.shape[1]):
            expected = naive(word, rollout, team, t, b)
            assert reward[t, b].tolist() == pytest.approx(expected[0], abs=1e-6)
            assert (terminated[t, b].tolist(), done[t, b].tolist()) == expected[1:]


@TEAMS
@pytest.mark.parametrize("word", REWARDS)
def test_a_successor_shows_only_those_whose_return_is_cut(
    word: str, team: dict[str, AgentGroup], rollout: Rollout
) -> None:
    """Who was cut off alone is absent, but for the team's own agents under their own rewards."""
    after = REWARDS[word].successor(rollout, team)
    for name, before in rollout.next_obs.groups.items():
        group, gone = after.groups[name], rollout.truncated[name] & ~rollout.done.unsqueeze(-1)
        assert gone.any() and before.alive is not None and before.alive[gone].all()
        if word == "own" and name in team:
            assert group is before
            continue
        assert group.alive is not None
        assert not group.alive[gone].any() and not group.obs[gone].any()
        assert torch.equal(group.obs[~gone], before.obs[~gone])
        assert torch.equal(group.alive[~gone], before.alive[~gone])


@pytest.mark.parametrize(("word", "heads"), [("own", 3), ("team_sum", 1), ("team_mean", 1)])
def test_critics_learn_from_the_living_where_returns_are_theirs(word: str, heads: int) -> None:
    scheme, alive = REWARDS[word], torch.tensor([[1.0, 0.0, 1.0]])
    assert scheme.heads(BOTH) == heads and scheme.per_agent == (heads > 1)
    assert scheme.mask(alive) is (alive if word == "own" else None)
    assert scheme.mask(None) is None


def test_the_absent_stand_in_no_graph() -> None:
    positions = torch.ones(2, 3, 1)
    graph = EntityGraph(positions, positions, positions, torch.zeros(2, 3).long(),
                  torch.ones(2, 3).bool(), ego=(("a", range(1)), ("b", range(1, 3))))  # fmt: skip
    seen = GroupObservation(torch.ones(2, 2, 4), None, torch.ones(2, 2).bool())
    gone = torch.tensor([[True, False], [False, False]])
    after = remove_agents(Observation({"a": seen, "b": seen}, graph=graph), {"b": gone})
    assert after.graph is not None and graph.mask.all()
    assert after.graph.mask.tolist() == [[True, False, True], [True, True, True]]
