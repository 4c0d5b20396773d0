"""Exact joint policies: against enumeration, sums over time and finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from marl.envs.games.tabular import MarkovGame, TabularPolicy, ascend, coordination, full, line
from marl.errors import UserError

GAME = coordination(2, 1)
NONE = torch.zeros(3, 3, dtype=torch.bool)
DAGS = {
    "none": NONE,
    "line": line(3),
    "full": full(3),
    "backwards": torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0]], dtype=torch.bool),
}


def small(gamma: float = 0.9) -> MarkovGame:
    """Two states, three agents with 2, 3 and 2 choices, everything drawn."""
    random = torch.Generator().manual_seed(0)
    moves = torch.rand(2, 12, 2, generator=random, dtype=torch.float64)
    reward = torch.randn(2, 12, generator=random, dtype=torch.float64)
    start = torch.tensor([0.3, 0.7], dtype=torch.float64)
    return MarkovGame(moves / moves.sum(-1, keepdim=True), reward, start, (2, 3, 2), gamma)


def policy(name: str, count: int = 4, game: MarkovGame | None = None) -> TabularPolicy:
    return TabularPolicy(game or small(), DAGS[name], count, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", DAGS)
def test_probabilities_sum_to_one_and_are_the_product(name: str) -> None:
    p = policy(name)
    found, joint = p.probabilities(), p.game.joint.tolist()
    torch.testing.assert_close(found.sum(-1), torch.ones(4, 2, dtype=torch.float64))
    for number, action in enumerate(joint):
        expected = torch.ones(4, 2, dtype=torch.float64)
        for agent, logits in enumerate(p.logits):
            parents = DAGS[name][:, agent].nonzero().flatten().tolist()
            context = 0
            for parent in parents:
                context = context * p.game.choices[parent] + action[parent]
            expected = expected * logits.softmax(-1)[:, :, context, action[agent]]
        torch.testing.assert_close(found[..., number], expected)


def test_the_value_is_the_sum_of_discounted_rewards() -> None:
    p = policy("full")
    pi = p.probabilities().detach()
    at, total = p.game.start.expand(4, 2), torch.zeros(4, dtype=torch.float64)
    for t in range(400):
        total += 0.9**t * (at[..., None] * pi * p.game.reward).sum((-2, -1))
        at = torch.einsum("ks,ksa,sat->kt", at, pi, p.game.transition)
    torch.testing.assert_close(p.game.objective(pi), total)


def test_the_gradient_is_that_of_finite_differences() -> None:
    p, step = policy("line", 1), 1e-6
    gradients = torch.autograd.grad(p.game.objective(p.probabilities()).sum(), p.logits)
    for logits, gradient in zip(p.logits, gradients, strict=True):
        flat = logits.detach().view(-1)
        for i in range(0, len(flat), 3):
            ends = []
            for sign in (1, -1):
                flat[i] += sign * step
                ends.append(p.game.objective(p.probabilities()).item())
                flat[i] -= sign * step
            assert gradient.flatten()[i].item() == pytest.approx(
                (ends[0] - ends[1]) / 2 / step, abs=1e-6
            )


def deviations(p: TabularPolicy, agent: int) -> Tensor:
    """J of the best of all the agent's deterministic answers, one after the other."""
    saved, best = p.logits[agent], []
    for answer in itertools.product(range(saved.shape[-1]), repeat=saved.shape[1] * saved.shape[2]):
        hard = torch.nn.functional.one_hot(torch.tensor(answer), saved.shape[-1]).double()
        p.logits[agent] = (1e3 * hard).view(saved.shape[1:]).expand_as(saved)
        best.append(p.game.objective(p.probabilities()))
    p.logits[agent] = saved
    return torch.stack(best).amax(0)


@pytest.mark.parametrize("name", ["none", "line", "backwards"])
def test_the_nash_gap_is_that_of_all_deviations(name: str) -> None:
    p = policy(name)
    now = p.game.objective(p.probabilities())
    best = torch.stack([deviations(p, agent) for agent in (0, 2)] + [p._best_response(1)])
    for agent in (0, 2):
        torch.testing.assert_close(p._best_response(agent), deviations(p, agent).detach())
    torch.testing.assert_close(p.nash_gap(), (best - now).amax(0).detach())


def test_the_optimum_is_that_of_all_policies() -> None:
    game = small()
    every = itertools.product(range(12), repeat=2)
    pi = torch.stack([torch.nn.functional.one_hot(torch.tensor(a), 12).double() for a in every])
    assert game.optimum() == pytest.approx(game.objective(pi).max().item())


def test_the_coordination_game_is_the_environments() -> None:
    """All play 0: the mean reward of the first bits, and 2.45 a step ever after."""
    zeros = torch.zeros(1, 4, 4, dtype=torch.float64)
    zeros[..., 0] = 1
    first = (3 + 0 + 0 + 2) / 4
    expected = first + 0.95 / 0.05 * 2.45
    assert GAME.objective(zeros).item() == pytest.approx(expected)
    assert GAME.optimum() == pytest.approx(expected)


def test_ascent_climbs_to_an_equilibrium() -> None:
    p = TabularPolicy(GAME, full(2), 20, torch.Generator().manual_seed(0))
    first = p.nash_gap().mean()
    found = ascend(p, 1500)
    assert torch.all(found[1:] >= found[:-1] - 1e-9)
    assert p.nash_gap().mean() < 0.02 * first


def test_mistakes() -> None:
    circle = torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=torch.bool)
    with pytest.raises(UserError, match="cycle"):
        TabularPolicy(small(), circle, 1, torch.Generator())
    with pytest.raises(UserError, match="gamma=1"):
        small(gamma=1.0)
