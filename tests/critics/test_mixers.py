"""Mixers against naive loops, autograd and enumeration of joint actions."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import elu, one_hot

from marl.critics.inputs import JointObservation
from marl.critics.mixers import DuplexMixer, Mixer, MonotonicMixer, Sum, UnconstrainedMixer
from marl.networks.perceptron import Perceptron
from marl.types import Observation

M, N, A, S = 16, 3, 4, 5  # samples, agents, actions, state


def joint() -> JointObservation:
    return JointObservation({}, state_size=S, model=Perceptron())


def mixer(kind: str, seed: int = 0) -> Mixer:
    torch.manual_seed(seed)
    made: dict[str, nn.Module] = {
        "sum": Sum(),
        "mean": Sum(mean=True),
        "monotonic": MonotonicMixer(joint(), N, units=8, hyper_units=6),
        "linear hypernetworks": MonotonicMixer(joint(), N, units=8, hyper_layers=1),
        "duplex": DuplexMixer(joint(), N, N * A, heads=2, layers=3, units=6),
        "unconstrained": UnconstrainedMixer(joint(), N, units=8),
    }
    return made[kind].double()  # type: ignore[return-value]  # a mixer


ALL = ("sum", "mean", "monotonic", "linear hypernetworks", "duplex", "unconstrained")
MONOTONIC = ALL[:4]
RECOVERING = ALL[:5]


def scene(seed: int = 0) -> tuple[Observation, Tensor]:
    """States, and a table of utilities ``[M, N, A]``."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(M, S, generator=generator).double()
    return Observation({}, state), torch.randn(M, N, A, generator=generator).double()


def mix(mixer: Mixer, obs: Observation, utilities: Tensor, action: Tensor) -> Tensor:
    """Q_tot ``[M]`` of joint actions ``[M, N]``."""
    q = utilities.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    encoded = one_hot(action, A).to(q.dtype).flatten(-2)
    return mixer(obs, q, utilities.amax(-1), encoded).squeeze(-1)


@pytest.mark.parametrize("kind", ALL)
def test_any_leading_axes(kind: str) -> None:
    (obs, utilities), made = scene(), mixer(kind)
    q, best = utilities[..., 0], utilities.amax(-1)
    action = torch.rand(M, N * A).double()
    flat = made(obs, q, best, action)
    assert flat.shape == (M, 1) and obs.state is not None
    folded = Observation({}, obs.state.unflatten(0, (2, 8)))
    found = made(folded, *(x.unflatten(0, (2, 8)) for x in (q, best, action)))
    torch.testing.assert_close(found, flat.unflatten(0, (2, 8)))


@pytest.mark.parametrize("layers", [1, 2])
def test_parameters_of_qmix_in_closed_form(layers: int) -> None:
    units, hyper = 32, 64
    made = MonotonicMixer(joint(), N, hyper_layers=layers)
    sizes = ((S, N * units), (S, units)) if layers == 1 else (
        (S, hyper), (hyper, N * units), (S, hyper), (hyper, units)
    )  # fmt: skip
    linear = [*sizes, (S, units), (S, units), (units, 1)]
    assert sum(p.numel() for p in made.parameters()) == sum((i + 1) * o for i, o in linear)
    assert {len(p) for p in made.parameters()} == {o for _, o in linear}


@pytest.mark.parametrize("layers", [1, 2])
def test_qmix_against_a_loop(layers: int) -> None:
    """One sample at a time, with products of matrices."""
    made = MonotonicMixer(joint(), N, units=7, hyper_units=6, hyper_layers=layers).double()
    obs, utilities = scene()
    q, state = utilities[..., 1], obs.state
    assert state is not None
    expected = []
    for m in range(M):
        w1, w2 = made.first(state[m]).abs().reshape(N, 7), made.second(state[m]).abs().reshape(7, 1)
        hidden = elu(q[m : m + 1] @ w1 + made.offset(state[m]))
        expected.append((hidden @ w2).squeeze(0) + made.value(state[m]))
    torch.testing.assert_close(made(obs, q, q, q), torch.stack(expected))


def test_qplex_against_a_loop() -> None:
    """Over samples, agents and heads, with the layers' own weights."""
    made = mixer("duplex")
    assert isinstance(made, DuplexMixer)
    obs, utilities = scene()
    q, best = utilities[..., 0], utilities.amax(-1)
    action, state = torch.rand(M, N * A).double(), obs.state
    assert state is not None
    expected = torch.zeros(M, 1).double()
    for m, i in itertools.product(range(M), range(N)):
        s, sa = state[m], torch.cat([state[m], action[m]])
        w = made.weight(s)[i].abs()
        importance = sum(
            head(made.key.layers, k, s)[0].abs()
            * head(made.of_agent.layers, k, s)[i].sigmoid()
            * head(made.of_action.layers, k, sa)[i].sigmoid()
            for k in range(2)
        )
        expected[m] += w * best[m, i] + made.value(s)[i] + importance * w * (q - best)[m, i]
    torch.testing.assert_close(made(obs, q, best, action), expected)


def head(layers: nn.Sequential, k: int, x: Tensor) -> Tensor:
    for layer in layers:
        x = x.relu() if isinstance(layer, nn.ReLU) else x @ layer.weight[k] + layer.bias[k]  # type: ignore[index]  # tensors
    return x


@pytest.mark.parametrize("kind", MONOTONIC)
def test_mixers_rise_with_every_utility(kind: str) -> None:
    for seed in range(5):
        obs, utilities = scene(seed)
        q = (10 * utilities[..., 0]).requires_grad_()
        (slope,) = torch.autograd.grad(mixer(kind, seed)(obs, q, q, q).sum(), q)
        assert (slope >= 0).all() and slope.any()


@pytest.mark.parametrize("kind", RECOVERING)
def test_the_best_joint_action_is_made_of_the_agents_best(kind: str) -> None:
    assert agreement(kind) == 1


def test_the_unconstrained_mixer_has_other_best_joint_actions() -> None:
    assert agreement("unconstrained") < 0.5


def agreement(kind: str) -> float:
    """The share of samples where enumeration gives the agents' own best actions."""
    made, (obs, utilities) = mixer(kind), scene()
    joint_actions = torch.tensor(list(itertools.product(range(A), repeat=N)))
    values = torch.stack([mix(made, obs, utilities, a.expand(M, N)) for a in joint_actions])
    equal = joint_actions[values.argmax(0)] == utilities.argmax(-1)
    return equal.all(-1).float().mean().item()


def test_vdn_knows_no_order_of_agents() -> None:
    obs, utilities = scene()
    q = utilities[..., 0]
    for kind, times in (("sum", 1), ("mean", N)):
        value = mixer(kind)(obs, q, q, q)
        torch.testing.assert_close(value * times, q.sum(-1, keepdim=True))
        torch.testing.assert_close(mixer(kind)(obs, q.flip(-1), q, q), value)


def test_utilities_of_qplex_learn_by_the_plain_sum_alone() -> None:
    """Their gradient is w, as without advantages; and importances learn from advantages only."""
    made, (obs, utilities) = mixer("duplex"), scene()
    assert isinstance(made, DuplexMixer) and obs.state is not None
    q, best = utilities[..., 0].clone().requires_grad_(), utilities.amax(-1).requires_grad_()
    action = torch.rand(M, N * A).double()
    made(obs, q, best, action).sum().backward()
    torch.testing.assert_close(q.grad, made.weight(obs.state).abs().detach(), atol=1e-9, rtol=0)
    assert best.grad is None, "no gradient passes through the largest utilities"
    assert all(p.grad is not None and p.grad.any() for p in made.parameters())
    made.zero_grad()
    made(obs, best, best, action).sum().backward()
    assert not any(p.grad.any() for p in made.key.parameters() if p.grad is not None)


def test_qplex_counts_each_advantage_once() -> None:
    """With all importances 1 it is the plain sum, and 2 doubles what the best actions lose."""
    made, (obs, utilities) = mixer("duplex"), scene()
    assert isinstance(made, DuplexMixer) and obs.state is not None
    q, best = utilities[..., 0], utilities.amax(-1)
    weight, value = made.weight(obs.state).abs(), made.value(obs.state)
    for times in (1, 2):
        made.importance = lambda state, action, x=times: torch.full((M, N), x)  # type: ignore[method-assign]
        expected = weight * best + value + times * weight * (q - best)
        torch.testing.assert_close(made(obs, q, best, q), expected.sum(-1, keepdim=True))
