"""Graph encoders: against loops, one form against the other, and what reaches whom."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from marl.critics.inputs import SCOPES
from marl.critics.value import value_critic
from marl.envs.particle.tasks import make
from marl.errors import UserError
from marl.networks.entity_graph import edges
from marl.networks.informarl import GraphEncoder, InforMARL
from marl.policies.independent import IndependentPolicy
from marl.types import AgentGroup, Discrete, EntityGraph, EntitySpec, TensorSpec, tree_map
from tests.networks.test_entity_graph import graph

SPEC = EntitySpec(space=2, kinds=3)


def scene(agents: int = 3, others: int = 4, radius: float = 0.7, **options: Any) -> EntityGraph:
    """Five random scenes; of the agents all are there."""
    found = graph(5, agents + others, radius)
    kind, mask = found.kind.clamp(min=1), found.mask.clone()
    kind[:, :agents], mask[:, :agents] = 0, True
    return replace(found, kind=kind, mask=mask, ego=(("agent", range(agents)),), **options)


def encoder(transformers: int = 1, stacked: int | None = None, **options: Any) -> GraphEncoder:
    torch.manual_seed(0)
    return GraphEncoder(InforMARL(transformers=transformers, **options), SPEC, stacked)


def naive(net: GraphEncoder, g: EntityGraph, b: int, ego: int) -> dict[int, Tensor]:
    """The nodes that hear, of one scene as one ego sees it: word by word."""
    heard, distance = edges(g, net.nearest)
    count, width = g.mask.shape[-1], net.width
    near = {i: [j for j in range(count) if heard[b, i, j]] for i in range(count)}
    hears = [i for i in range(count) if g.kind[b, i] == 0 or not g.directed]
    places = torch.cat([g.velocity[b], g.position[b], g.goal[b]], dim=-1)

    def told(i: int, j: int) -> Tensor:
        kind = torch.nn.functional.one_hot(g.kind[b, j], 3).float()
        x = torch.cat([places[j] - places[ego], kind])
        return net.message(x, distance[b, i, j].reshape(1))

    zero = torch.zeros(width)
    nodes = {i: sum((told(i, j) for j in near[i]), zero) for i in hears}
    for layer in net.transformers:
        t: Any = layer
        edge, before = t.edge.view(t.heads, width), dict(nodes)
        for i in hears:
            query = t.query(before[i]).view(t.heads, width)
            found = torch.zeros(t.heads, width)
            for h in range(t.heads):
                scores, values = [], []
                for j in near[i]:
                    x = before.get(j, zero)
                    away = edge[h] * distance[b, i, j]
                    scores.append(query[h] @ (t.key(x).view(t.heads, width)[h] + away))
                    values.append(t.value(x).view(t.heads, width)[h] + away)
                if values:
                    share = torch.softmax(torch.stack(scores) / math.sqrt(width), 0)
                    found[h] = (share.unsqueeze(-1) * torch.stack(values)).sum(0)
            nodes[i] = torch.relu(t.skip(before[i]) + found.mean(0))
    return nodes


@pytest.mark.parametrize("transformers", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"directed": False}, {"nearest": 2}, {"radius": 0.2}])
def test_every_form_is_the_naive_one(transformers: int, options: dict[str, Any]) -> None:
    rest = {name: value for name, value in options.items() if name != "nearest"}
    net, g = encoder(transformers, nearest=options.get("nearest", 0)), scene(**rest)
    net.form = "dense"
    dense, pooled = net.encode_egos(g, range(3)), net.pool(g)
    net.form = "sparse"
    torch.testing.assert_close(net.encode_egos(g, range(3)), dense, atol=1e-5, rtol=1e-5)
    for b in range(5):
        seen = [naive(net, g, b, ego) for ego in range(3)]
        for ego in range(3):
            torch.testing.assert_close(dense[b, ego], seen[ego][ego], atol=1e-5, rtol=1e-5)
        there = [x for nodes in seen for i, x in nodes.items() if g.mask[b, i]]
        torch.testing.assert_close(pooled[b], torch.stack(there).mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stacked", [None, 3])
def test_edges_alone_and_all_pairs_are_the_naive_ones_in_float64(stacked: int | None) -> None:
    """Compiled code computes the messages of all pairs, eager code on a CPU those of edges."""
    torch.set_default_dtype(torch.float64)
    try:
        net, g = encoder(2, stacked, form="dense"), tree_map(_double, scene())
        eager = [net.encode_egos(g, range(3)), net.pool(g)]
        with patch.object(torch.compiler, "is_compiling", lambda: True):
            pairs = [net.encode_egos(g, range(3)), net.pool(g)]
        torch.testing.assert_close(eager, pairs, rtol=1e-12, atol=1e-12)
        if stacked is None:
            nodes = torch.stack([naive(net, g, 0, ego)[ego] for ego in range(3)])
            torch.testing.assert_close(eager[0][0], nodes, rtol=1e-10, atol=1e-10)
    finally:
        torch.set_default_dtype(torch.float32)


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_gradients_are_alike_and_finite_for_who_is_alone(form: str) -> None:
    net, g = encoder(2, form=form), scene(radius=0.3)
    alone = replace(g, position=g.position + 10 * torch.arange(7).view(7, 1))
    for some in (g, alone):
        net.zero_grad()
        net.encode_egos(some, range(3)).square().sum().backward()
        found = [p.grad for p in net.parameters() if p.grad is not None]
        assert found and all(torch.isfinite(x).all() for x in found)
    assert net.encode_egos(alone, range(3)).isfinite().all()


def test_gradients_of_both_forms_are_the_same() -> None:
    grads = []
    for form in ("dense", "sparse"):
        net = encoder(1, form=form)
        net.encode_egos(scene(), range(3)).square().sum().backward()
        grads.append([p.grad for p in net.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_weights_of_each_agents_own_are_encoders_side_by_side() -> None:
    net, g = encoder(1, stacked=3), scene()
    found = net.encode_egos(g, range(3))
    for agent in range(3):
        single = encoder(1)
        for (name, mine), (other, theirs) in zip(
            single.named_parameters(), net.named_parameters(), strict=True
        ):
            assert name == other
            row = theirs[agent]
            mine.data = (row.T if row.dim() == 2 else row).detach().clone()
        torch.testing.assert_close(single.encode_egos(g, range(3))[:, agent], found[:, agent])


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("transformers", [0, 1])
def test_nothing_beyond_its_hops_reaches_an_agent(form: str, transformers: int) -> None:
    """A row of agents 0.9 m apart, radius 1: hop by hop."""
    net = encoder(transformers, form=form)
    position = torch.tensor([[[0.9 * i, 0.0] for i in range(5)]])
    still, kind = torch.zeros_like(position), torch.zeros(1, 5, dtype=torch.int64)
    mask, ego = torch.ones(1, 5, dtype=torch.bool), (("agent", range(5)),)
    g = EntityGraph(position, still, position, kind, mask, ego, radius=1.0)
    moved = [replace(g, velocity=still.index_fill(1, torch.tensor([j]), 1.0)) for j in range(5)]
    before = net.encode_egos(g, [0])
    reached = [not torch.equal(net.encode_egos(some, [0]), before) for some in moved[1:]]
    assert reached == [hop <= transformers + 1 for hop in range(1, 5)]


def test_the_form_is_chosen_by_size() -> None:
    net = encoder()
    assert not net._is_sparse(scene()) and net._is_sparse(scene(20, 20))
    assert not encoder(stacked=20)._is_sparse(scene(20, 20))


# ----------------------------------------------------------------------------- policies and critics


def group(agents: int) -> AgentGroup:
    names = tuple(f"agent_{i}" for i in range(agents))
    return AgentGroup("agent", names, TensorSpec((6,)), Discrete(5), entities=SPEC)


MODEL = InforMARL(hidden=[16], layer_norm=True, input_norm=True)


def reordered(order: list[int]) -> tuple[Any, Any]:
    """What four agents see, and the same with the agents in another order."""
    env = make("navigation/target", 6, N=4, num_obstacles=2)
    obs = env.reset(0)
    assert obs.graph is not None
    entities = torch.tensor([*order, *range(4, 10)])
    g = tree_map(lambda x: x[:, entities], obs.graph)
    seen = tree_map(lambda x: x[:, order], obs.groups)
    return obs, replace(obs, graph=g, groups=seen)


def test_the_actor_is_equivariant_and_the_critic_invariant() -> None:
    torch.manual_seed(0)
    order = [2, 0, 3, 1]
    one, other = reordered(order)
    env = make("navigation/target", 6, N=4, num_obstacles=2)
    policy: Any = IndependentPolicy(env.groups, MODEL)
    numbers = [policy.distribution_params(obs)["agent"] for obs in (one, other)]
    torch.testing.assert_close(numbers[0][:, order], numbers[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(numbers[0], numbers[1], atol=1e-4)
    critic: Any = value_critic(
        SCOPES["team"],
        team=env.groups,
        everyone=env.groups,
        state_size=None,
        heads=1,
        model=MODEL,
    )
    values = [critic(obs, {}, None)[0] for obs in (one, other)]
    torch.testing.assert_close(*values, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gru", [0, 8])
def test_a_policy_of_three_plays_with_fifty(gru: int) -> None:
    model = replace(MODEL, gru=gru)
    small = make("navigation/target", 2, N=3)
    large = make("navigation/target", 2, N=50, world_size=10)
    policy, other = (IndependentPolicy(env.groups, model) for env in (small, large))
    other.load_state_dict(policy.state_dict())
    obs, start = large.reset(0), torch.ones(2, dtype=torch.bool)
    step = other.act(obs, other.initial_carry(2), start, None)
    assert step.action["agent"].shape == (2, 50)
    assert obs.graph is not None and other.networks["agent"].encoder._is_sparse(obs.graph)  # type: ignore[operator,union-attr]  # a GraphNetwork


def test_of_a_thousand_each_runs_on_its_surroundings_alone() -> None:
    """The nodes of some agents, equal to those of torch-geometric's layers over the whole world."""
    from torch_geometric.nn import TransformerConv

    g = make("navigation/target", 1, N=1000, num_obstacles=50, world_size=40).reset(0).graph
    assert g is not None
    net, some = encoder(form="sparse"), [0, 17, 999]
    found = net.encode_egos(g, some)[0]
    heard, distance = edges(g)
    receiver, sender = heard[0].nonzero(as_tuple=True)
    away = distance[0, receiver, sender].unsqueeze(-1)
    places, kinds = (x[0] for x in net.features(g))
    layer: Any = net.transformers[0]
    conv = TransformerConv(16, 16, 3, concat=False, edge_dim=1)
    names = {"query": layer.query, "key": layer.key, "value": layer.value, "skip": layer.skip}
    weights = {f"lin_{n}.{k}": v for n, m in names.items() for k, v in m.state_dict().items()}
    conv.load_state_dict({**weights, "lin_edge.weight": layer.edge.unsqueeze(-1)})
    for row, agent in zip(found, some, strict=True):
        features = torch.cat([places - places[agent], kinds], dim=-1)
        told = net.message(features[sender], away)
        nodes = torch.zeros(len(places), 16).index_add(0, receiver, told)
        nodes = torch.relu(conv(nodes, torch.stack([sender, receiver]), away))
        torch.testing.assert_close(row, nodes[agent], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: InforMARL(form="thick"), "unknown form 'thick'; choose from auto"),
        (lambda: InforMARL(width=0), "must be positive"),
        (lambda: InforMARL(form="sparse", sharing="per_agent"), "works only with shared weights"),
        (
            lambda: IndependentPolicy(make("mpe/simple_spread", 1).groups, MODEL),
            "reads a graph of entities, and the task has none",
        ),
    ],
)
def test_mistakes(act: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        act()
