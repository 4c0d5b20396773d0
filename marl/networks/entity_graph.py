"""Edges of the graph of an environment's entities, and each agent's surroundings in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from marl.types import EntityGraph, constant, tree_map

#: The kind of an agent.
AGENT = 0
#: Number of entities above which edges are searched cell by cell.
CELLS = 256


def edges(graph: EntityGraph, nearest: int = 0) -> tuple[Tensor, Tensor]:
    """Computes which entities receive messages from which others.

    Entities within ``radius`` of each other are connected, none with itself or with an absent one;
    with ``directed`` only agents receive (Nayak et al. 2023, InforMARL, section 4.1).

    Args:
        graph: the entities, with any leading axes.
        nearest: the largest number of senders per receiver, the nearest ones; 0 for all.

    Returns:
        The edges ``[..., E, E]`` bool, of which row i holds what entity i receives, and the
        distances ``[..., E, E]``.
    """
    offset = graph.position.unsqueeze(-3) - graph.position.unsqueeze(-2)
    distance = offset.square().sum(-1).sqrt()
    present = graph.mask.unsqueeze(-1) & graph.mask.unsqueeze(-2)
    itself = torch.eye(graph.mask.shape[-1], dtype=torch.bool, device=graph.mask.device)
    edge = present & ~itself & (distance <= graph.radius)
    if graph.directed:
        edge = edge & (graph.kind == AGENT).unsqueeze(-1)
    if 0 < nearest < edge.shape[-1]:
        rank = distance.masked_fill(~edge, math.inf).argsort(dim=-1, stable=True).argsort(-1)
        edge = edge & (rank < nearest)
    return edge, distance


def agent_indices(graph: EntityGraph) -> list[int]:
    """Returns the indices of all groups' agents among the entities."""
    return [number for _, rows in graph.ego for number in rows]


def ego_indices(graph: EntityGraph, group: str) -> range:
    """Returns the indices of a group's agents among the entities.

    Args:
        graph: the entities.
        group: name of the group.
    """
    return dict(graph.ego)[group]


# -------------------------------------------------------------------------------- without all pairs


@dataclass(frozen=True)
class EdgeList:
    """All edges of ``G`` graphs, sorted by receiver.

    Entity e of graph g has the number ``g * E + e``. The edges of receiver r are those from
    ``first[r]`` up to ``first[r + 1]``.
    """

    #: ``[M]``, the number of each edge's sender.
    sender: Tensor
    #: ``[M]``.
    distance: Tensor
    #: ``[G * E + 1]``.
    first: Tensor


def edge_list(graph: EntityGraph, nearest: int = 0) -> EdgeList:
    """Computes the same edges as ``edges``.

    Large graphs are searched cell by cell, so that time and memory grow with the number of edges.

    Args:
        graph: the entities, ``[G, E, ...]``.
        nearest: the largest number of senders per receiver, the nearest ones; 0 for all.
    """
    count = graph.mask.shape[-1]
    if count > CELLS and math.isfinite(graph.radius):
        receiver, sender, distance = _search_cells(graph, nearest)
    else:
        edge, distances = edges(graph, nearest)
        number, row, column = edge.nonzero(as_tuple=True)
        receiver, sender = number * count + row, number * count + column
        distance = distances[number, row, column]
    sizes = torch.bincount(receiver, minlength=graph.mask.numel())
    first = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return EdgeList(sender, distance, first)


def _search_cells(graph: EntityGraph, nearest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns receivers in order, senders and distances, each ``[M]``.

    Only entities of the same cell, ``radius`` wide, and of the cells around it are compared.
    """
    present = graph.mask.flatten().nonzero().squeeze(-1)  # numbers of the entities
    position = graph.position.flatten(0, 1)[present]
    keys = _cells(position, present // graph.mask.shape[-1], graph.radius)
    middle, order = keys[:, keys.shape[1] // 2].sort()  # each entity's own cell
    receives = graph.kind.flatten()[present] == AGENT
    receives = receives if graph.directed else torch.ones_like(receives)
    receivers = receives.nonzero().squeeze(-1)
    cells = keys[receivers].flatten()
    low, high = torch.searchsorted(middle, cells), torch.searchsorted(middle, cells, right=True)
    span, index = _spans(low, high)
    receiver = receivers[span // keys.shape[1]]
    sender = order[index]
    distance = (position[receiver] - position[sender]).square().sum(-1).sqrt()
    near = (distance <= graph.radius) & (receiver != sender)
    receiver, sender, distance = receiver[near], sender[near], distance[near]
    by_sender = sender.argsort()  # then by receiver: in the order of ``edges``
    in_order = by_sender[receiver[by_sender].argsort(stable=True)]
    receiver, sender, distance = receiver[in_order], sender[in_order], distance[in_order]
    if nearest:
        rows = _nearest(receiver, distance, nearest, len(present))
        receiver, sender, distance = receiver[rows], sender[rows], distance[rows]
    return present[receiver], present[sender], distance


def _nearest(receiver: Tensor, distance: Tensor, nearest: int, count: int) -> Tensor:
    """Returns the rows of each receiver's ``nearest`` edges, in order; receivers are sorted."""
    by_distance = distance.argsort(stable=True)
    rows = by_distance[receiver[by_distance].argsort(stable=True)]
    sizes = torch.bincount(receiver, minlength=count)
    begins = (sizes.cumsum(0) - sizes)[receiver]  # sorted by receiver both ways
    return rows[torch.arange(len(rows), device=rows.device) - begins < nearest].sort().values


def _cells(position: Tensor, number: Tensor, width: float) -> Tensor:
    """Returns keys ``[M, 3 ** D]`` of each entity's cell (in the middle) and of those around it."""
    cell = ((position - position.amin(0)) / width).floor().long() + 1
    size = cell.amax(0) + 2
    around = torch.cartesian_prod(*[torch.arange(-1, 2, device=cell.device)] * cell.shape[1])
    around = around.reshape(-1, cell.shape[1])
    near = cell.unsqueeze(1) + around  # [M, 3 ** D, D]
    key = number.unsqueeze(1).expand(near.shape[:2])
    for axis in range(cell.shape[1]):
        key = key * size[axis] + near[..., axis]
    return key


def _spans(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Returns all numbers from ``low[i]`` up to ``high[i]``: the i of each, and the number."""
    sizes = high - low
    span = torch.repeat_interleave(sizes)
    begins = sizes.cumsum(0) - sizes
    return span, torch.arange(len(span), device=low.device) - begins[span] + low[span]


@dataclass(frozen=True)
class Surroundings:
    """The entities from which messages reach each of ``K`` egos in a number of hops.

    It is one graph of ``M`` nodes and ``L`` edges. A node is an entity as one ego sees it.
    """

    #: ``[M]``, the ego of each node, from 0 to K - 1.
    ego: Tensor
    #: ``[M]``, the number of each node's entity, as in ``EdgeList``.
    entity: Tensor
    #: ``[K]``, the node that is the ego itself.
    ego_node: Tensor
    #: ``[2, L]``, sender and receiver of each edge, as nodes.
    edge_index: Tensor
    #: ``[L]``.
    distance: Tensor


_size_examples: list[EntityGraph] = []  # of nested blocks of ``use_sizes_of``, the innermost last


@contextmanager
def use_sizes_of(graph: EntityGraph | None) -> Iterator[None]:
    """Lets graphs on the meta device have surroundings as large as those of another graph.

    Graphs on the meta device have no contents, from which the number of edges could follow.

    Args:
        graph: the example, ``[G, E, ...]``; None changes nothing.
    """
    if graph is None:
        yield
        return
    _size_examples.append(graph)
    try:
        yield
    finally:
        _size_examples.pop()


def _meta_surroundings(
    graph: EntityGraph, egos: Sequence[int], hops: int, nearest: int
) -> Surroundings:
    """Returns surroundings without contents, scaled from those of two environments."""
    some = tree_map(lambda x: x[:2], _size_examples[-1])
    example = surroundings(some, egos, hops, nearest)
    times = graph.mask.shape[0] / some.mask.shape[0]

    def scale(x: Tensor) -> Tensor:
        return x.new_empty(*x.shape[:-1], int(x.shape[-1] * times), device=graph.mask.device)

    return Surroundings(*(scale(getattr(example, field.name)) for field in fields(Surroundings)))


def surroundings(
    graph: EntityGraph, egos: Sequence[int], hops: int, nearest: int = 0
) -> Surroundings:
    """Computes the in-neighbourhood of entities, in time and memory that grow with its size.

    Args:
        graph: the entities, ``[G, E, ...]``.
        egos: indices of the entities whose surroundings are computed, the same in each graph.
        hops: number of edges from the furthest sender to the ego.
        nearest: the largest number of senders per receiver, the nearest ones; 0 for all.

    Returns:
        The surroundings of ``K = G * len(egos)`` egos, ordered by graph, then by ego.
    """
    if graph.mask.is_meta:
        return _meta_surroundings(graph, egos, hops, nearest)
    edge, total = edge_list(graph, nearest), graph.mask.numel()
    starts = torch.arange(0, total, graph.mask.shape[-1], device=graph.mask.device)
    entity = (starts.unsqueeze(-1) + constant(tuple(egos), starts)).flatten()
    # A node is numbered ego * total + entity until all are known.
    ego_node = torch.arange(len(entity), device=entity.device) * total + entity
    nodes = frontier = ego_node
    parts = []
    for _ in range(hops):
        ego, receiver = frontier // total, frontier % total
        span, index = _spans(edge.first[receiver], edge.first[receiver + 1])
        senders = ego[span] * total + edge.sender[index]
        parts.append(torch.stack([senders, frontier[span], index]))
        unique = senders.unique()
        frontier = unique[~torch.isin(unique, nodes)]
        nodes = torch.cat([nodes, frontier])
    nodes = nodes.sort().values
    arcs = torch.cat(parts, dim=1) if parts else nodes.new_zeros(3, 0)
    return Surroundings(
        nodes // total,
        nodes % total,
        torch.searchsorted(nodes, ego_node),
        torch.searchsorted(nodes, arcs[:2].contiguous()),
        edge.distance[arcs[2]],
    )
