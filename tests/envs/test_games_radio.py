"""Aloha and spectrum access against naive loops, enumeration, exact chains and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.special import exp1
from torch import Tensor

from marl.envs.games.env import GameEnv
from marl.envs.games.spectrum import jain
from marl.envs.games.tasks import make
from tests.helpers.games import always, chance, close, everything, play

# ---------------------------------------------------------------------------------------- the aloha

GRID = ((0, 1), (1, 2), (2, 3), (3, 4), (5, 6), (6, 7), (7, 8), (8, 9),
        (0, 5), (1, 6), (2, 7), (3, 8), (4, 9))  # fmt: skip
WRAP = ((4, 5),)  # in the authors' matrix, but not in the grid


@pytest.mark.parametrize("wrap", [True, False])
def test_aloha_against_a_loop_over_agents(wrap: bool) -> None:
    """Whole random episodes of 20 copies, from the same noise."""
    env, pairs = make("games/aloha", 20, wrap=wrap), {frozenset(p) for p in GRID + WRAP * wrap}
    policy, backlog = chance(env), [[1] * 10 for _ in range(20)]
    totals, told = np.zeros((20, 3)), {}
    env.reset(0)
    for step in range(20):
        action, noise = policy(env, step), coming(env)
        transition = env.step({"agent": action})
        told = transition.info
        for copy in range(20):
            counts = loop(action[copy].tolist(), noise[copy].tolist(), backlog[copy], pairs)
            totals[copy] += (*counts, sum(backlog[copy]))
            reward = 0.1 * counts[0] - 10 * counts[1]
            assert transition.reward["agent"][copy].tolist() == pytest.approx([reward] * 10)
            seen = transition.next_obs.groups["agent"].obs[copy].squeeze(-1)
            assert seen.tolist() == backlog[copy]
    assert list(told) == ["sent", "collided", "backlog"] and totals.min() > 0
    np.testing.assert_allclose(torch.stack(list(told.values()), -1), totals / [1, 1, 20], rtol=1e-5)


def coming(env: GameEnv) -> Tensor:
    """The noise that the next step will draw."""
    ahead = torch.Generator()
    ahead.set_state(env.state_dict()["random"])
    return torch.rand(env.num_envs, env.game.step_noise, generator=ahead)


def loop(
    action: list[int], noise: list[float], backlog: list[int], pairs: set[frozenset[int]]
) -> tuple[int, int]:
    """One step of one copy: ``backlog`` changes; packets sent and collided."""
    sent = collided = 0
    for agent in range(10):
        if action[agent] == 1 and backlog[agent] > 0:
            near = [other for other in range(10) if frozenset((agent, other)) in pairs]
            if any(action[other] for other in near):
                collided += 1
            else:
                sent += 1
                backlog[agent] -= 1
    for agent in range(10):
        backlog[agent] = min(backlog[agent] + (noise[agent] < 0.6), 5)
    return sent, collided


@pytest.mark.parametrize("wrap", [True, False])
def test_no_slot_of_aloha_earns_more_than_a_half(wrap: bool) -> None:
    """By all 1024 joint actions of the first step; sending all the time is worst."""
    env = make("games/aloha", 1024, wrap=wrap)
    env.reset(0)
    actions = everything(env)
    reward = env.step({"agent": actions}).reward["agent"][:, 0]
    assert reward.max().item() == pytest.approx(0.5)
    best = actions[reward > 0.45].tolist()
    assert [1, 0, 1, 0, 1, 0, 1, 0, 1, 0] in best and [0, 1, 0, 1, 0, 1, 0, 1, 0, 1] in best
    assert reward.min().item() == -100 and actions[reward.argmin()].tolist() == [1] * 10


def turns(first: int) -> float:
    """Packets that an agent sends in 20 steps, every other one from ``first`` on, exactly."""
    chances, sent = np.eye(6)[1], 0.0
    for step in range(20):
        after = np.zeros(6)
        for backlog, chance_of in enumerate(chances):
            sends = step % 2 == first and backlog > 0
            sent += chance_of * sends
            for arrives, share in ((1, 0.6), (0, 0.4)):
                after[min(backlog - sends + arrives, 5)] += chance_of * share
        chances = after
    return sent


def test_aloha_in_turns() -> None:
    expected = 0.5 * (turns(0) + turns(1))
    assert expected == pytest.approx(9.549, abs=5e-4)
    board = torch.tensor([[1, 0] * 5, [0, 1] * 5])
    env = make("games/aloha", 3000)
    returns, info = play(env, lambda env, step: board[step % 2].expand(env.num_envs, 10))
    assert close(returns[:, 0], expected) and returns.max() <= 10 + 1e-4
    assert (info["collided"] == 0).all()
    torch.testing.assert_close(info["sent"] * 0.1, returns[:, 0])


# ------------------------------------------------------------------------------------- the spectrum


@pytest.mark.parametrize(("users", "channels"), [(1, 2), (2, 2), (2, 3), (3, 2), (4, 1)])
def test_throughput_has_its_bound(users: int, channels: int) -> None:
    """By all joint actions of one slot, and by channels of one's own for an episode."""
    env = make("games/spectrum", (channels + 1) ** users, N=users, K=channels, max_steps=1)
    _, info = play(env, lambda *_: everything(env))
    assert info["throughput"].max() == min(users, channels)
    own = [user + 1 if user < channels else 0 for user in range(users)]
    returns, info = play(make("games/spectrum", 2, N=users, K=channels), always(*own))
    assert returns[0].tolist() == [50.0 * (a > 0) for a in own]
    assert info["throughput"].tolist() == [min(users, channels)] * 2
    assert info["fairness"].tolist() == pytest.approx([min(users, channels) / users] * 2)
    assert (info["collisions"] == 0).all()


def test_taking_turns_is_fair() -> None:
    """Three users on two channels: in each slot another one pauses."""
    board = torch.tensor([[1, 2, 0], [0, 1, 2], [2, 0, 1]])
    env = make("games/spectrum", 1, max_steps=30)
    returns, info = play(env, lambda env, step: board[[step % 3]])
    assert returns.tolist() == [[20.0] * 3] and info["fairness"].item() == pytest.approx(1)


def test_uniform_play_gets_the_floor() -> None:
    """N q (1 - q/K)^(N-1) of a slot, by enumeration and by play."""
    for users, channels in ((3, 2), (2, 4), (5, 3)):
        share = channels / (channels + 1)
        floor = users * share * (1 - share / channels) ** (users - 1)
        env = make("games/spectrum", (channels + 1) ** users, N=users, K=channels, max_steps=1)
        _, info = play(env, lambda env, _: everything(env))
        assert info["throughput"].mean().item() == pytest.approx(floor, rel=1e-5)
        collided = users * share - floor
        assert info["collisions"].mean().item() == pytest.approx(collided, rel=1e-5)
        env = make("games/spectrum", 1000, N=users, K=channels)
        assert close(play(env, chance(env))[1]["throughput"], floor)


def test_spectrum_by_hand() -> None:
    env = make("games/spectrum", 1, N=2, K=2)
    assert env.reset(0).groups["user"].obs.tolist() == [[[1, 0, 0, 1, 1, 0]] * 2]
    told = env.step({"user": torch.tensor([[1, 1]])})  # both lose
    assert told.reward["user"].tolist() == [[0, 0]]
    assert told.obs.groups["user"].obs.tolist() == [[[0, 1, 0, 1, 1, 0]] * 2]
    told = env.step({"user": torch.tensor([[2, 0]])})
    assert told.reward["user"].tolist() == [[1, 0]]
    seen = [[0, 0, 1, 1, 0, 1], [1, 0, 0, 1, 0, 0]]
    assert told.obs.groups["user"].obs.tolist() == [seen]
    info = {k: v.item() for k, v in told.info.items()}
    assert info == {"throughput": 0.5, "collisions": 2, "fairness": 0.5}
    assert jain(torch.tensor([[2.0, 1.0], [0.0, 0.0]])).tolist() == pytest.approx([0.9, 0])


def test_primary_users_come_and_go() -> None:
    env = make("games/spectrum", 4000, N=2, K=2, primary=True)
    _, info = play(env, always(1, 2))
    assert close(info["throughput"], 2 * 0.3 / 0.4)
    env.reset(1)
    before = env.play.state.busy
    assert close(before[:, 0], 0.25)
    told = env.step({"user": torch.tensor([[1, 2]]).expand(4000, 2)})
    now = env.play.state.busy
    assert close(now[before], 0.7) and close(now[~before], 0.1)
    assert torch.equal(told.reward["user"], (~now).float()), "who is there, wins"
    assert not told.obs.groups["user"].obs[:, :, 3:5].any(), "sent or held: nothing is left"
    told = env.step({"user": torch.zeros(4000, 2).long()})
    left = told.obs.groups["user"].obs[:, :, 3:5]
    assert torch.equal(left[:, 0], (~env.play.state.busy).float()), "idle users hear the primary"


def test_rates_are_seen_and_earned_and_have_a_best_matching() -> None:
    env = make("games/spectrum", 3**3, N=3, K=2, snr_weighted=True, max_steps=1)
    seen = env.reset(0).groups["user"].obs
    rates = env.play.state.rate.clone()
    assert torch.equal(seen[..., 3:5], rates)
    env.play.state.rate[:] = rates[:1]  # one draw for all joint actions
    earned = env.step({"user": everything(env)}).reward["user"].sum(-1)
    best = rates[0].numpy()
    chosen = linear_sum_assignment(best, maximize=True)
    assert earned.max().item() == pytest.approx(best[chosen].sum())


def test_rates_are_of_rayleigh_fading() -> None:
    """The mean of log2(1 + 10 X), X exponential, is exp(1/10) E1(1/10) / ln 2."""
    env = make("games/spectrum", 5000, snr_weighted=True)
    env.reset(0)
    assert close(env.play.state.rate.flatten(), np.exp(0.1) * exp1(0.1) / np.log(2))
