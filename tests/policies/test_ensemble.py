"""Sub-policies: one an episode, each learning from what it played."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from marl.algorithms.haddpg import HADDPGConfig
from marl.algorithms.maddpg import MADDPG, MADDPGConfig
from marl.errors import UserError
from marl.learning.replay import Replay
from marl.networks.layers import StackedLinear
from marl.networks.perceptron import Perceptron
from marl.policies.deterministic import deterministic
from marl.policies.ensemble import SUB_POLICY, EnsemblePolicy
from marl.training.build import build_teams
from marl.training.teams import RunShape, Team, resolve_teams
from tests.helpers.builders import CPU
from tests.helpers.off_policy import FAST, Play
from tests.helpers.toy_envs import continuous, identity, rivals


def ensemble(env: Any, size: int = 3) -> EnsemblePolicy:
    torch.manual_seed(0)
    return EnsemblePolicy(env.groups, Perceptron([16]), deterministic, size)


def test_one_is_drawn_where_an_episode_starts_and_kept() -> None:
    env = identity(400, CPU, end=0.3)
    policy, generator = ensemble(env), torch.Generator().manual_seed(0)
    obs, start, carry = env.reset(0), torch.ones(400, dtype=torch.bool), {}
    changed, seen = 0, []
    for _ in range(20):
        step = policy.act(obs, carry, start, policy.noise(400, generator))
        now = torch.cat([step.aux["left"][SUB_POLICY], step.aux["right"][SUB_POLICY]], dim=1)
        if seen:
            assert torch.equal(now[~start], seen[-1][~start])
            changed += (now[start] != seen[-1][start]).sum().item()
        seen.append(now)
        transition = env.step(step.action)
        obs, start, carry = transition.obs, transition.done, step.carry
    share = torch.stack(seen).flatten(0, 1).flatten().bincount() / (20 * 400 * 3)
    assert changed and share.shape == (3,) and (share - 1 / 3).abs().max() < 0.03
    together = (seen[0][:, 0] == seen[0][:, 1]).float().mean()
    assert abs(together - 1 / 3) < 0.1, "every agent draws for itself"


def test_greedy_play_takes_turns() -> None:
    env = identity(7, CPU)
    step = ensemble(env).act(env.reset(0), {}, torch.ones(7, dtype=torch.bool), None)
    assert step.aux["left"][SUB_POLICY][:, 1].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_each_sub_policy_is_a_network_of_its_own() -> None:
    """Against layers applied one by one."""
    env = identity(6, CPU)
    policy, obs = ensemble(env), env.reset(0)
    member = torch.tensor([[0, 1], [1, 2], [2, 2], [0, 0], [1, 0], [2, 1]])
    noise = {"left/member": member, "right/member": torch.zeros(6, 1, dtype=torch.int64)}
    found = policy.distribution_params(obs, noise)["left"]
    layers: Any = [m for m in policy.networks["left"].modules() if isinstance(m, StackedLinear)]
    for copy in range(6):
        for agent in range(2):
            row = agent * 3 + int(member[copy, agent])
            x = obs.groups["left"].obs[copy, agent]
            x = (x @ layers[0].weight[row] + layers[0].bias[row]).tanh()
            x = x @ layers[1].weight[row] + layers[1].bias[row]
            torch.testing.assert_close(found[copy, agent], x, atol=1e-5, rtol=1e-4)


def ddpg(play: Play) -> MADDPG:
    assert isinstance(play.first, MADDPG)
    return play.first


def test_the_replay_knows_who_acted() -> None:
    play = Play(rivals, MADDPGConfig(**FAST, ensemble=3))
    rollout, _ = play.collector.collect()
    play.replay.append(rollout)
    told = ddpg(play).read(torch.arange(play.replay.stored_frames)).aux
    for name in ("left", "right"):
        assert torch.equal(told[name][SUB_POLICY], rollout.aux[name][SUB_POLICY].flatten(0, 1))
    assert len(told["left"][SUB_POLICY].unique()) == 3


@pytest.mark.parametrize("make", [identity, continuous])
def test_only_who_acted_learns(make: Any) -> None:
    play = Play(make, MADDPGConfig(**FAST, ensemble=3))
    play.iterate(2)
    algorithm, (batch, noise) = ddpg(play), play.batch()
    ones = {f"{n}/{SUB_POLICY}": torch.ones(16, g.size).long() for n, g in algorithm.team.items()}
    before = {k: v.clone() for k, v in algorithm.policy.state_dict().items()}
    algorithm.actor_optimizers[0] = algorithm.optimizer(algorithm.policy.parameters(), 1e-2)
    algorithm.update_actors(batch, [{**noise[1], **ones}])
    for key, value in algorithm.policy.state_dict().items():
        for row in range(len(value)):
            assert torch.equal(value[row], before[key][row]) == (row % 3 != 1), (key, row)


@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"inference": True}, marks=pytest.mark.slow)],
    ids=["plain", "inference"],
)
def test_ensembles_learn(options: dict[str, Any]) -> None:
    play = Play(rivals, MADDPGConfig(**FAST, ensemble=2, **options), end=0.0)
    play.iterate(60)
    assert min(play.returns()) > 3.0


def test_ensembles_with_memory_are_refused() -> None:
    env = identity(8, CPU)
    team = Team(None, MADDPGConfig(ensemble=2), Perceptron([8], gru=4), Perceptron([8]))
    specs = resolve_teams(env, {}, team)
    with pytest.raises(UserError, match=r"set model\.gru=0"):
        build_teams(env, specs, RunShape(8), 0, Replay(1000, 8, CPU))


def test_a_sequence_of_ensembles_is_refused() -> None:
    with pytest.raises(UserError, match="set sequential=false"):
        HADDPGConfig(ensemble=2)
