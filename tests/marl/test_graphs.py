"""The entity graph against loops over entities."""

from __future__ import annotations

import torch

from marl.graphs import edges
from marl.types import Graph, tree_map, tree_tensors


def graph(batch: int = 3, entities: int = 7, radius: float = 0.8, directed: bool = True) -> Graph:
    random = torch.Generator().manual_seed(0)
    position, velocity, goal = torch.rand(3, batch, entities, 2, generator=random)
    kind = torch.randint(0, 3, (batch, entities), generator=random)
    mask = torch.rand(batch, entities, generator=random) < 0.8
    ego = (("agent", range(2)),)
    return Graph(position, velocity, goal, kind, mask, ego, radius, directed)


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
