"""Matrix, coordination and Byzantine games against enumeration, closed forms and dynamic
programming."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from marl.envs.games.coordination import Coordination
from marl.envs.games.env import GameEnv
from marl.envs.games.tasks import make
from tests.helpers.games import always, close, everything, play

# --------------------------------------------------------------------------------------- the matrix


def payoffs(name: str, **options: Any) -> Tensor:
    """What each joint action earns, by playing it, ``[A_0, A_1, ...]``."""
    choices = make(name, 1, **options).game.choices
    env = make(name, int(np.prod(choices)), **options)
    actions = everything(env)
    returns, info = play(env, lambda *_: actions)
    assert (returns == returns[:, :1]).all(), "a shared reward"
    assert torch.equal(info["optimal"].bool(), returns[:, 0] == returns.max())
    return returns[:, 0].reshape(tuple(choices))


def test_climbing_by_enumeration() -> None:
    earned = payoffs("games/climbing")
    assert earned.tolist() == [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]  # Claus & Boutilier's
    assert earned.mean().item() == pytest.approx(-31 / 9)
    assert earned.mean(1).tolist() == pytest.approx([-19 / 3, -17 / 3, 5 / 3])
    assert earned.mean(0).tolist() == pytest.approx([-19 / 3, -23 / 3, 11 / 3])
    assert equilibria(earned) == [(0, 0), (1, 1)]


def equilibria(earned: Tensor) -> list[tuple[int, int]]:
    best = (earned == earned.amax(0, keepdim=True)) & (earned == earned.amax(1, keepdim=True))
    return [(i, j) for i, j in best.nonzero().tolist()]


@pytest.mark.parametrize("penalty", [-100, -10.5, 0])
def test_penalty_by_enumeration(penalty: float) -> None:
    earned = payoffs("games/penalty", penalty=penalty)
    assert earned.tolist() == [[10, 0, penalty], [0, 2, 0], [penalty, 0, 10]]
    assert earned.max() == 10 and earned.mean().item() == pytest.approx((22 + 2 * penalty) / 9)


def test_random_payoffs_hang_on_their_seed_alone() -> None:
    one, again, other = (payoffs("games/random", agents=3, actions=4, seed=s) for s in (1, 1, 2))
    assert one.shape == (4, 4, 4) and torch.equal(one, again) and not torch.equal(one, other)
    assert one.min() >= 0 and one.max() < 1
    large = payoffs("games/random", agents=4, actions=7)
    assert large.mean().item() == pytest.approx(0.5, abs=4 * (1 / 12 / 7**4) ** 0.5)


def test_own_payoffs_may_differ_in_actions() -> None:
    nested = [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]  # 1, 2 and 3 actions
    assert payoffs("games/matrix", payoff=nested).tolist() == nested
    env = make("games/matrix", 2, payoff=nested)
    assert [group.action.encoded_size for group in env.groups.values()] == [1, 2, 3]


# --------------------------------------------------------------------------------- the coordination

# Rewards by the number of ones, from the paper's rule by hand.
REWARDS = {2: (3, 0, 2), 3: (3, 0, 1, 2), 5: (3, 3, 0, 1, 2, 2),
           10: (3, 3, 3, 3, 0, 0, 1, 2, 2, 2, 2)}  # fmt: skip


def model(agents: int) -> tuple[Tensor, Tensor]:
    """P(bits' | joint action) and the mean reward of every joint action, in double precision."""
    table = torch.tensor(list(itertools.product((0, 1), repeat=agents)))
    apart = (table[:, None] != table).sum(-1)
    reached = 0.9 ** (agents - apart).double() * 0.1 ** apart.double()  # [action, bits]
    return reached, reached @ torch.tensor(REWARDS[agents]).double()[table.sum(-1)]


@pytest.mark.parametrize(("agents", "best", "worse"), [(2, 2.45, 1.65), (3, 2.216, 1.704)])
def test_coordination_against_value_iteration(agents: int, best: float, worse: float) -> None:
    """With the paper's discount, and over the 25 steps that are played."""
    reached, mean = model(agents)
    assert mean[-1].item() == pytest.approx(worse, abs=1e-6)
    value = quality = torch.zeros(2**agents).double()
    for _ in range(600):
        quality = mean + 0.95 * reached @ value  # of joint actions; the same in all states
        value = quality.max().expand(2**agents)
    torch.testing.assert_close(value, torch.full_like(value, 20 * best), atol=1e-6, rtol=0)
    assert quality.argmax() == 0, "all play 0"
    env = make("games/coordination", 4000, N=agents)
    returns, info = play(env, always(*[0] * agents))
    assert close(returns[:, 0], 25 * best)
    assert close(info["best"], 0.9**agents)


def test_coordination_of_five_against_all_joint_actions() -> None:
    _, mean = model(5)
    assert mean.argmax() == 0 and mean.max().item() == pytest.approx(2.76464)
    returns, _ = play(make("games/coordination", 4000, N=5), always(*[0] * 5))
    assert close(returns[:, 0], 25 * 2.76464)


def test_coordination_moves_as_it_says() -> None:
    """Bits turn with probability 0.1 each, apart from one another and from where they were."""
    env = make("games/coordination", 40_000)
    start = env.reset(0).groups["agent"].obs
    assert (start == start[:, :1]).all(), "everyone sees all bits"
    for agent in range(3):
        assert close(start[:, 0, agent] == 0, 1 / 3)
    action = torch.randint(2, (40_000, 3), generator=torch.Generator().manual_seed(1))
    turned = env.step({"agent": action}).obs.groups["agent"].obs[:, 0] != action
    for agent in range(3):
        assert close(turned[:, agent], 0.1)
        assert close(turned[start[:, 0, agent] == 1, agent], 0.1)
        assert close(turned[action[:, agent] == 1, agent], 0.1)
    assert close(turned[:, 0] & turned[:, 1], 0.01) and close(turned.all(-1), 0.001)


@pytest.mark.parametrize(("agents", "margin"), [(2, 1), (3, 1), (5, 2), (10, 3)])
def test_margins_are_the_papers(agents: int, margin: int) -> None:
    told, default = Coordination(agents, margin), Coordination(agents)
    for game in (told, default):
        earned = [game.reward(ones) for ones in range(agents + 1)]
        assert earned == list(REWARDS[agents])


# ------------------------------------------------------------------------------------ the byzantine


def partners(env: GameEnv) -> Tensor:
    """Equal at 0, different at 1."""
    bit = env.play.state.bit
    return torch.stack([torch.zeros_like(bit), bit], dim=-1)


def test_byzantine_is_worth_a_hundred() -> None:
    returns, info = play(make("games/byzantine", 50), lambda env, _: partners(env))
    assert (returns == 100).all() and (info["ones"] == 1).all()


def test_byzantine_by_hand() -> None:
    env = make("games/byzantine", 1)
    env.reset(0)
    bit = int(env.play.state.bit)
    moves = ([0, 0], [0, 1], [1, 0], [1, 1], [0, 1], [1, 1])
    for a, b in moves:
        earned = int((a == b) == (bit == 0))
        seen = env.step({"agent": torch.tensor([[a, b]])})
        assert seen.reward["agent"].tolist() == [[earned, earned]]
        own = [[float(earned), i, bit, a, b] for i in (0, 1)]
        assert seen.obs.groups["agent"].obs[0].tolist() == own
        bit = earned
    assert make("games/byzantine", 1, history=False).reset(0).groups["agent"].obs.shape == (1, 2, 2)


def guaranteed(ally: float) -> float:
    """The least that a partner who knows it can bring about against an ally who plays 1 with this
    probability: dynamic programming over 100 steps, from an even beginning."""
    value = np.zeros(2)
    for _ in range(100):
        value = np.array([min(outcome(bit, act, ally, value) for act in (0, 1)) for bit in (0, 1)])
    return float(value.mean())


def outcome(bit: int, act: int, ally: float, value: np.ndarray) -> float:
    equal = ally if act else 1 - ally
    gain = equal if bit == 0 else 1 - equal
    return gain * (1 + value[1]) + (1 - gain) * value[0]


def test_a_uniform_ally_guarantees_fifty() -> None:
    assert guaranteed(0.5) == pytest.approx(50) and guaranteed(0.0) == pytest.approx(0)
    assert max(guaranteed(share) for share in np.linspace(0, 1, 21)) == guaranteed(0.5)


@pytest.mark.parametrize("traitor", ["constant", "spiteful", "helpful"])
def test_a_uniform_ally_gets_fifty_whatever_the_other_does(traitor: str) -> None:
    env, copies = make("games/byzantine", 2000), 2000
    draw = torch.Generator().manual_seed(0)

    def policy(env: GameEnv, _: int) -> Tensor:
        ally = torch.randint(2, (copies,), generator=draw)
        last, bit = env.play.state.played[:, 0], env.play.state.bit
        answers = {"constant": bit * 0, "spiteful": (last + bit + 1) % 2, "helpful": last ^ bit}
        return torch.stack([ally, answers[traitor]], dim=-1)

    returns, _ = play(env, policy)
    assert close(returns[:, 0], 50)
    assert returns[:, 0].std().item() == pytest.approx(5, rel=0.1)  # binomial


def test_a_traitor_holds_a_deterministic_ally_to_nothing() -> None:
    def policy(env: GameEnv, _: int) -> Tensor:
        action = partners(env)
        return torch.stack([action[:, 0], 1 - action[:, 1]], dim=-1)

    assert (play(make("games/byzantine", 50), policy)[0] == 0).all()
