"""HASAC, MASAC and ISAC: targets, order, temperatures, and the equilibrium they should find."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.hasac import HASAC, HASACConfig, ISACConfig, MASACConfig, entropy_target
from marl.envs.games.tasks import make as game
from marl.errors import UserError
from marl.learning.sequential import update_order
from marl.networks.perceptron import Perceptron
from marl.policies.dag import BayesianNetworkConfig
from marl.types import Continuous, Discrete, MultiDiscrete
from tests.helpers.builders import weights
from tests.helpers.off_policy import FAST, MLP, Play, gradient_step
from tests.helpers.toy_envs import continuous, identity, images, mortal, rivals

SOFT = {**FAST, "alpha_lr": 3e-3, "entropy_target": 0.05}
CONFIGS = {"hasac": HASACConfig, "masac": MASACConfig, "isac": ISACConfig}


def soft(play: Play) -> HASAC:
    assert isinstance(play.first, HASAC)
    return play.first


# ---------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize(
    "name", ["masac", *(pytest.param(n, marks=pytest.mark.slow) for n in ("hasac", "isac"))]
)
def test_numbers_are_learned(name: str) -> None:
    """The less, the farther from what is asked: 0 at best, about -5 by chance."""
    play = Play(continuous, CONFIGS[name](**SOFT))
    play.iterate(60)
    assert play.returns()[0] > -1.0


@pytest.mark.parametrize("name", ["hasac", pytest.param("isac", marks=pytest.mark.slow)])
def test_choices_are_learned(name: str) -> None:
    """4 for perfect play, about 1.2 by chance."""
    play = Play(identity, CONFIGS[name](**SOFT), end=0.0)
    play.iterate(60)
    assert play.returns()[0] > 3.4


@pytest.mark.slow
def test_every_rival_learns() -> None:
    play = Play(rivals, MASACConfig(**{**SOFT, "critic": "all"}), end=0.0)
    play.iterate(60)
    assert min(play.returns()) > 3.0


@pytest.mark.parametrize("make", [mortal, rivals, continuous])
@pytest.mark.parametrize("name", CONFIGS)
def test_an_update_on_every_kind(name: str, make: Any) -> None:
    """With masks, deaths, several teams, several steps; everything moves and stays finite."""
    play = Play(make, CONFIGS[name](**{**SOFT, "n_step": 3}))
    before = [weights(team.policy) for team in play.teams.values()]
    metrics = play.iterate(3)
    assert all(torch.isfinite(value) for value in metrics.values())
    for team, old in zip(play.teams.values(), before, strict=True):
        assert not torch.equal(weights(team.policy), old)


# ----------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("n_step", [1, 4])
def test_the_target_is_the_formulas(n_step: int) -> None:
    """One sample after the other, with the team's temperature and everyone's log-probability."""
    play = Play(identity, HASACConfig(**{**SOFT, "n_step": n_step}))
    play.iterate(3)
    algorithm, (batch, noise) = soft(play), play.batch()
    with torch.no_grad():
        algorithm.log_alpha[-1] = -0.7
    found = algorithm.target(batch, noise[0], {})
    action, log_prob = algorithm.policy.rsample(batch.next_obs, noise[0])
    for m in range(16):
        q = algorithm.target_critic(batch.next_obs, action)[:, m, 0].min()
        entropy = sum(log_prob[name][m].sum() for name in ("left", "right"))
        expected = batch.reward[m] + batch.discount[m] * (q - torch.tensor(-0.7).exp() * entropy)
        torch.testing.assert_close(found[m], expected.detach())


def test_the_independent_target_has_each_agents_own_entropy() -> None:
    play = Play(identity, ISACConfig(**SOFT))
    play.iterate(3)
    algorithm, (batch, noise) = soft(play), play.batch()
    with torch.no_grad():
        algorithm.log_alpha[:-1] = torch.tensor([0.1, -0.5, -2.0])
    action, log_prob = algorithm.policy.rsample(batch.next_obs, noise[0])
    q = algorithm.target_critic(batch.next_obs, action).amin(0)
    each = torch.cat([log_prob["left"], log_prob["right"]], dim=-1)
    expected = batch.reward + batch.discount * (q - algorithm.alpha[:-1] * each)
    torch.testing.assert_close(algorithm.target(batch, noise[0], {}), expected.detach())


def test_the_averaged_critics_follow_slowly() -> None:
    play = Play(identity, MASACConfig(**{**SOFT, "tau": 0.25}))
    algorithm = soft(play)
    play.iterate(1, learn=False)
    algorithm.frames = 256
    old = weights(algorithm.target_critic)
    gradient_step(algorithm)
    expected = old + 0.25 * (weights(algorithm.critic) - old)
    torch.testing.assert_close(weights(algorithm.target_critic), expected)


# ------------------------------------------------------------------------------------- the sequence


def test_those_who_follow_see_those_before_them_moved(monkeypatch) -> None:
    """Every actor's loss is asked at what its predecessors do after their step, and at what its
    successors did before theirs."""
    play = Play(identity, HASACConfig(**SOFT))
    play.iterate(1, learn=False)
    algorithm, (batch, noise) = soft(play), play.batch()
    first, _ = algorithm.policy.rsample(batch.obs, noise[2])
    first = {name: action.detach().clone() for name, action in first.items()}
    asked: list[tuple[int, dict[str, Tensor]]] = []
    plain = algorithm.q_of_agent

    def watched(batch, agent, own, actions, *first):
        asked.append((agent, {name: action.clone() for name, action in actions.items()}))
        return plain(batch, agent, own, actions, *first)

    monkeypatch.setattr(algorithm, "q_of_agent", watched)
    algorithm.update_actors(batch, noise[1:])
    order = [agent for agent, _ in asked]
    assert sorted(order) == [0, 1, 2]
    last, _ = algorithm.policy.rsample(batch.obs, noise[2])
    moved = {0: ("left", 0), 1: ("left", 1), 2: ("right", 0)}
    for turn, (_, actions) in enumerate(asked):
        for agent, (name, row) in moved.items():
            expected = last if agent in order[:turn] else first
            torch.testing.assert_close(actions[name][:, row], expected[name][:, row])


def test_the_order_is_drawn_anew() -> None:
    play = Play(identity, HASACConfig(**SOFT))
    orders = []
    for _ in range(20):
        orders.append(tuple(update_order(3, soft(play).context.generator)))
    assert len(set(orders)) > 3 and all(sorted(order) == [0, 1, 2] for order in orders)


def test_who_does_not_step_does_not_move() -> None:
    """Not even by momentum: rows, moments and step counts are each agent's own."""
    play = Play(identity, HASACConfig(**SOFT))
    play.iterate(3)
    algorithm, (batch, noise) = soft(play), play.batch()
    before = [
        torch.cat([w.flatten() for w in m.parameters]).clone() for m in algorithm.agent_policies
    ]
    counts = [one.steps[""][0].item() for one in algorithm.actor_optimizers]
    with torch.no_grad():
        action, _ = algorithm.policy.rsample(batch.obs, noise[2])
    algorithm.step_of_agent[1](batch, noise[1], noise[2], action)
    for agent, member in enumerate(algorithm.agent_policies):
        now = torch.cat([w.flatten() for w in member.parameters])
        assert torch.equal(now, before[agent]) == (agent != 1)
        stepped = algorithm.actor_optimizers[agent].steps[""][0].item() - counts[agent]
        assert stepped == (agent == 1)


def test_one_agent_alone_moves_as_if_all_moved_together() -> None:
    """HASAC and MASAC are the same algorithm for a team of one."""
    model = Perceptron([16], sharing="per_agent")
    found = []
    for config in (HASACConfig, MASACConfig):
        play = Play(continuous, config(**SOFT), model)
        play.iterate(1, learn=False)
        batch, noise = play.batch()
        algorithm = soft(play)
        if algorithm.agent_policies:
            with torch.no_grad():
                action, _ = algorithm.policy.rsample(batch.obs, noise[1])
            algorithm.step_of_agent[0](batch, noise[1], noise[1], action)
        else:
            algorithm.update_actors(batch, [noise[1]])
        found.append([v[0].clone() for v in algorithm.policy.state_dict().values()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


# ------------------------------------------------------------------------------------ temperatures


def test_temperatures_move_towards_their_targets() -> None:
    """Adam's first step has the size of the learning rate: up where entropy is too low. The team's
    follows the sum."""
    play = Play(identity, HASACConfig(**{**SOFT, "alpha_lr": 0.01}))
    algorithm = soft(play)
    error = torch.tensor([0.3, -0.3, 0.1])
    algorithm.update_temperature((error - algorithm.entropy_target).expand(5, -1))
    torch.testing.assert_close(algorithm.log_alpha, torch.tensor([0.01, -0.01, 0.01, 0.01]))


def test_a_fixed_temperature_stays() -> None:
    play = Play(identity, HASACConfig(**{**SOFT, "temperature": 0.3}))
    play.iterate(5)
    assert soft(play).alpha.tolist() == pytest.approx([0.3] * 4)


def test_entropy_targets() -> None:
    assert entropy_target(Continuous((0.0, 0.0), (1.0, 2.0)), 0.5) == -2
    assert entropy_target(Continuous((0.0, 0.0), (1.0, 2.0)), 0.5, -0.3) == -0.6
    assert entropy_target(Continuous((0.0, 1.0), (1.0, 1.0)), 0.5, -0.3) == -0.3
    assert entropy_target(Discrete(5), 0.5) == pytest.approx(0.8047, abs=1e-4)
    assert entropy_target(MultiDiscrete((2, 3)), 1.0) == pytest.approx(1.7918, abs=1e-4)


# --------------------------------------------------------------------------- the exact expectation


def test_the_exact_loss_is_the_enumerated_one() -> None:
    play = Play(identity, HASACConfig(**{**SOFT, "exact": True, "temperature": 0.2}))
    play.iterate(2)
    algorithm, (batch, noise) = soft(play), play.batch()
    with torch.no_grad():
        action, _ = algorithm.policy.rsample(batch.obs, noise[2])
    loss, _ = algorithm.loss_of_agent(1, batch, noise[1], action)
    log_probs = (
        algorithm.agent_policies[1].distribution_params(batch.obs).squeeze(1).log_softmax(-1)
    )
    total = torch.zeros(())
    for choice in range(3):
        own = torch.eye(3)[choice].expand(16, 1, 3)
        q = algorithm.q_of_agent(batch, 1, own, action).amin(0)
        p = log_probs[:, choice].exp()
        total = total + (p * (0.2 * log_probs[:, choice] - q)).mean()
    torch.testing.assert_close(loss, total)


def test_exact_losses_together_are_those_of_each_against_the_others() -> None:
    play = Play(identity, MASACConfig(**{**SOFT, "exact": True, "temperature": 0.2}))
    play.iterate(2)
    algorithm, (batch, noise) = soft(play), play.batch()
    action, _ = algorithm.policy.rsample(batch.obs, noise[1])
    logits = algorithm.policy.distribution_params(batch.obs)
    total = torch.zeros(())
    for agent, (name, row) in enumerate([("left", 0), ("left", 1), ("right", 0)]):
        log_probs = logits[name][:, row].log_softmax(-1)
        for choice in range(log_probs.shape[-1]):
            own = torch.eye(log_probs.shape[-1])[choice].expand(16, 1, -1)
            q = algorithm.q_of_agent(batch, agent, own, action).amin(0).detach()
            weight = log_probs[:, choice].exp()
            total = total + (weight * (0.2 * log_probs[:, choice] - q)).mean()
    found, each = algorithm.loss_simultaneous(batch, noise[1])
    torch.testing.assert_close(found, total)
    assert each.shape == (16, 3)
    parameters = list(algorithm.policy.parameters())
    for one, other in zip(
        *(torch.autograd.grad(x, parameters) for x in (found, total)), strict=True
    ):
        torch.testing.assert_close(one, other)


def equilibrium(payoff: Tensor, alpha: float) -> list[Tensor]:
    """The quantal response equilibrium of a common-payoff game of two: each plays ``exp(E Q /
    alpha)``, found by averaged best responses."""
    row = torch.full((payoff.shape[0],), 1 / payoff.shape[0], dtype=torch.float64)
    column = torch.full((payoff.shape[1],), 1 / payoff.shape[1], dtype=torch.float64)
    for _ in range(20_000):
        row = 0.99 * row + 0.01 * (payoff @ column / alpha).softmax(0)
        column = 0.99 * column + 0.01 * (row @ payoff / alpha).softmax(0)
    return [row, column]


@pytest.mark.slow
def test_it_converges_to_the_quantal_response_equilibrium() -> None:
    """A common-payoff game with one fixed temperature: total variation at most 0.02."""
    payoff = [[1.0, 0.2, 0.0], [0.1, 0.6, 0.3], [0.0, 0.4, 0.8]]
    alpha = 0.5

    def matrix(num_envs: int, device: torch.device) -> Any:
        return game("games/matrix", num_envs, device, payoff=payoff)

    config = HASACConfig(
        **{**FAST, "temperature": alpha, "exact": True, "batch_size": 256, "frames_per_update": 32}
    )
    play = Play(matrix, config, MLP, steps=16)
    play.iterate(50)
    for optimizer in (soft(play).critic_optimizer, *soft(play).actor_optimizers):
        optimizer.scale_lr(0.1)
    play.iterate(30)
    obs = play.env.reset(0)
    numbers = soft(play).policy.distribution_params(obs)
    played = [x.softmax(-1)[0, row] for x in numbers.values() for row in range(x.shape[1])]
    expected = equilibrium(torch.tensor(payoff, dtype=torch.float64), alpha)
    for one, other in zip(played, expected, strict=True):
        assert 0.5 * (one - other).abs().sum().item() <= 0.02, (one.tolist(), other.tolist())


# ----------------------------------------------------------------------------------------- mistakes


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="set reward=own"):
        HASACConfig(critic="agent")
    with pytest.raises(UserError, match="exact=true needs agents that have one choice each"):
        Play(continuous, HASACConfig(exact=True))
    with pytest.raises(UserError, match=r"a JointPolicy has no memory off policy"):
        joint = BayesianNetworkConfig("line")
        Play(identity, MASACConfig(joint=joint), Perceptron([8], gru=4))
    with pytest.raises(UserError, match="images are not supported"):
        Play(images, HASACConfig(), Perceptron([8], channels=[4], kernels=[4], strides=[2]))
