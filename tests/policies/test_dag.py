"""Graphs over agents: acyclic, rounded right, with the gradient of their soft selves."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from marl.errors import UserError
from marl.policies.assignment import _one_by_one, assignment, sinkhorn
from marl.policies.bayesian import dag_sampler
from marl.policies.dag import GRAPHS, BayesianNetworkConfig, Learned, density, longest_path
from marl.types import AgentGroup, Discrete, TensorSpec

FOUR = {
    "left": AgentGroup("left", ("a", "b", "c"), TensorSpec((2,)), Discrete(3)),
    "right": AgentGroup("right", ("d",), TensorSpec((5,)), Discrete(2)),
}
RANDOM = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("greedy", [False, True])
def test_every_graph_is_acyclic(name: str, greedy: bool) -> None:
    torch.manual_seed(0)
    source = dag_sampler(BayesianNetworkConfig(name), FOUR)
    for parameter in source.parameters():  # type: ignore[attr-defined]  # a module
        parameter.data.normal_()
    drawn = None if greedy else source.noise(200, RANDOM)
    found = source(torch.randn(200, 11), drawn)
    assert found.shape == (200, 4, 4) and set(found.unique().tolist()) <= {0.0, 1.0}
    assert not torch.linalg.matrix_power(found, 4).any()
    assert all(longest_path(graph) <= source.depth for graph in found)


def test_densities() -> None:
    expected = {"none": 0.0, "line": 0.5, "full": 1.0}
    for name, value in expected.items():
        assert (
            density(dag_sampler(BayesianNetworkConfig(name), FOUR)(torch.zeros(11), None)) == value
        )
    drawn = dag_sampler(BayesianNetworkConfig("bernoulli", 0.3), FOUR)
    found = density(drawn(torch.zeros(5000, 11), drawn.noise(5000, RANDOM))).mean()
    assert found.item() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("agents", [1, 2, 5, 8, 10])
def test_the_assignment_is_that_of_scipy(agents: int) -> None:
    weight = torch.rand(50, agents, agents, generator=RANDOM)
    found = assignment(weight)
    for some, each in zip(found, weight, strict=True):
        rows, columns = linear_sum_assignment(each.numpy(), maximize=True)
        assert some.argmax(-1).tolist() == columns.tolist() and rows.tolist() == list(range(agents))
    assert torch.equal(_one_by_one(weight), found.argmax(-1))


def test_sinkhorn_is_doubly_stochastic() -> None:
    found = sinkhorn(torch.randn(20, 5, 5, generator=RANDOM), 200)
    for axis in (-1, -2):
        torch.testing.assert_close(found.sum(axis), torch.ones(20, 5))


def test_the_order_is_what_sinkhorn_comes_to_as_its_temperature_falls() -> None:
    scores = torch.randn(50, 5, 5, generator=RANDOM).double()
    cold = sinkhorn((scores - scores.amax(-1, keepdim=True)) / 0.05, 2000)
    same = (cold.round() == assignment(scores)).flatten(1).all(1)
    assert same.double().mean() > 0.9  # near ties need it colder


def test_edges_are_drawn_from_the_logistic_distribution() -> None:
    drawn = Learned(4, 10).noise(2000, RANDOM)["edges"]
    for at in (-3.0, -1.0, 0.0, 2.0):
        share = (drawn < at).double().mean().item()
        assert share == pytest.approx(1 / (1 + math.exp(-at)), abs=0.005)


def learned(agents: int = 3) -> Learned:
    torch.manual_seed(0)
    source = Learned(4, agents, hidden=8).double()
    for parameter in source.parameters():
        parameter.data.normal_()
    return source


def test_the_order_and_edges_are_those_of_a_loop() -> None:
    source, context = learned(), torch.randn(30, 4).double()
    noise = {k: v.double() for k, v in source.noise(30, RANDOM).items()}
    found = source(context, noise)
    order = assignment(torch.nn.functional.logsigmoid(source.order(context)) + noise["order"])
    edges = source.edges(context) + noise["edges"] > 0
    for b, (k, i) in itertools.product(range(30), itertools.product(range(3), repeat=2)):
        place = order[b].argmax(0)  # of every agent
        assert found[b, k, i] == float(place[k] < place[i] and edges[b, k, i])


def test_the_gradient_is_that_of_the_soft_graph_by_finite_differences() -> None:
    """Hard graphs pass the gradient that sits at their hard values, so that the soft graph is
    checked against differences, and the two rounded factors against the formula."""
    source, context = learned(), torch.randn(4, 4).double()
    noise = {k: v.double() for k, v in source.noise(4, RANDOM).items()}
    weight = torch.randn(4, 3, 3).double()
    parameters = list(source.parameters())
    gradients = torch.autograd.grad((source.soft(context, noise) * weight).sum(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        flat = parameter.data.view(-1)
        for i in range(0, len(flat), 7):
            ends = []
            for sign in (1, -1):
                flat[i] += sign * 1e-6
                ends.append((source.soft(context, noise) * weight).sum().item())
                flat[i] -= sign * 1e-6
            expected = (ends[0] - ends[1]) / 2e-6
            assert gradient.flatten()[i].item() == pytest.approx(expected, abs=1e-5)

    hard = torch.autograd.grad((source(context, noise) * weight).sum(), parameters)
    scores = torch.nn.functional.logsigmoid(source.order(context)) + noise["order"]
    soft_order = sinkhorn(scores)
    soft_edges = torch.sigmoid(source.edges(context) + noise["edges"])
    order = assignment(scores.detach())
    edges = (soft_edges > 0.5).double()
    before = torch.ones(3, 3).triu(1).double()
    by_edges = (soft_edges * (order.mT @ before @ order) * weight).sum()
    by_order = (
        edges * weight * (soft_order.mT @ before @ order + order.mT @ before @ soft_order)
    ).sum()
    expected = torch.autograd.grad(by_edges + by_order, parameters)
    for one, other in zip(hard, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_schedule_is_the_papers() -> None:
    joint = BayesianNetworkConfig("learned", anneal=True, weight=0.1)
    assert joint.schedule(0.0) == (0.1, 1.0) and joint.schedule(0.39) == (0.1, 1.0)
    assert joint.schedule(0.55) == pytest.approx((0.1, 0.5))
    assert joint.schedule(0.7) == pytest.approx((0.1, 0.0))
    assert joint.schedule(0.85) == pytest.approx((0.55, 0.0))
    assert joint.schedule(1.0) == pytest.approx((1.0, 0.0))
    targets = {joint.schedule(i / 10_000)[1] for i in range(10_001)}
    assert len(targets) == 41
    assert BayesianNetworkConfig("learned").schedule(0.9) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"graph": "ring"}, "unknown joint.graph 'ring'"),
        ({"probability": 2.0}, "must be from 0 to 1"),
        ({"features": 0}, "at least 1"),
        ({"graph": "full", "anneal": True}, "works only with joint.graph=learned"),
    ],
)
def test_mistakes(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        BayesianNetworkConfig(**options)
