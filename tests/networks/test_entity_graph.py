"""The entity graph against loops over entities."""

from __future__ import annotations

import pytest
import torch

from marl.networks import entity_graph
from marl.networks.entity_graph import edge_list, edges, surroundings
from marl.types import EntityGraph, tree_map, tree_tensors


def graph(
    batch: int = 3, entities: int = 7, radius: float = 0.8, directed: bool = True
) -> EntityGraph:
    random = torch.Generator().manual_seed(0)
    position, velocity, goal = torch.rand(3, batch, entities, 2, generator=random)
    kind = torch.randint(0, 3, (batch, entities), generator=random)
    mask = torch.rand(batch, entities, generator=random) < 0.8
    ego = (("agent", range(2)),)
    return EntityGraph(position, velocity, goal, kind, mask, ego, radius, directed)


def test_edges_are_those_of_a_loop() -> None:
    for directed in (True, False):
        g = graph(directed=directed)
        heard, distance = edges(g)
        for b in range(3):
            for i in range(7):
                for j in range(7):
                    apart = (g.position[b, i] - g.position[b, j]).norm()
                    torch.testing.assert_close(distance[b, i, j], apart)
                    there = bool(g.mask[b, i] and g.mask[b, j])
                    hears = not directed or g.kind[b, i] == 0
                    expected = i != j and there and hears and bool(apart <= 0.8)
                    assert heard[b, i, j].item() == expected


def test_any_leading_axes() -> None:
    g = graph()
    rows = tree_map(lambda x: x.expand(5, *x.shape), g)
    assert torch.equal(edges(rows)[0], edges(g)[0].expand(5, -1, -1, -1))


def test_what_is_fixed_is_no_leaf() -> None:
    g = graph(radius=0.5)
    assert len(tree_tensors(g)) == 5
    moved = tree_map(lambda x: x[0], g)
    assert moved.ego == g.ego and moved.radius == 0.5 and moved.kind.shape == (7,)


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("nearest", [0, 2])
def test_edges_sought_cell_by_cell_are_all(
    monkeypatch: pytest.MonkeyPatch, directed: bool, nearest: int
) -> None:
    g = graph(3, 40, 0.3, directed)
    heard, distance = edges(g, nearest)
    for cells in (256, 1):
        monkeypatch.setattr(entity_graph, "CELLS", cells)
        found = edge_list(g, nearest)
        sizes = found.first.diff()
        receiver = torch.arange(120).repeat_interleave(sizes)
        told = torch.zeros(120, 120, dtype=torch.bool)
        told[receiver, found.sender] = True
        assert len(receiver) == heard.sum()
        assert torch.equal(told, torch.block_diag(*heard.int()).bool())
        row, column = receiver % 40, found.sender % 40
        torch.testing.assert_close(found.distance, distance[receiver // 40, row, column])


def test_the_nearest_are_those_of_a_loop() -> None:
    g = graph()
    heard, distance = edges(g)
    few = edges(g, 2)[0]
    for b in range(3):
        for i in range(7):
            near = sorted(heard[b, i].nonzero().flatten().tolist(), key=lambda j: distance[b, i, j])
            assert sorted(near[:2]) == few[b, i].nonzero().flatten().tolist()


@pytest.mark.parametrize("hops", [0, 1, 2, 9])
def test_surroundings_are_those_of_a_search(hops: int) -> None:
    g = graph(3, 12, 0.4, directed=False)
    heard, distance = edges(g)
    near = surroundings(g, range(2), hops)
    sender, receiver = near.edge_index
    for number, (b, ego) in enumerate((b, ego) for b in range(3) for ego in range(2)):
        reached, arcs = {ego}, set()
        for _ in range(hops):
            arcs |= {(j, i) for i in reached for j in range(12) if heard[b, i, j]}
            reached |= {j for j, _ in arcs}
        nodes = (near.ego == number).nonzero().flatten()
        assert sorted((near.entity[nodes] - 12 * b).tolist()) == sorted(reached)
        assert near.entity[near.ego_node[number]] == 12 * b + ego and near.ego_node[number] in nodes
        mine = near.ego[receiver] == number
        pairs = zip(near.entity[sender[mine]], near.entity[receiver[mine]], strict=True)
        assert sorted((int(j) - 12 * b, int(i) - 12 * b) for j, i in pairs) == sorted(arcs)
    entity = near.entity % 12
    expected = distance[near.entity[receiver] // 12, entity[receiver], entity[sender]]
    torch.testing.assert_close(near.distance, expected)
