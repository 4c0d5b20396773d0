"""What is read off the graph of an environment's entities: who hears whom, and each agent's
surroundings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from marl.types import EntityGraph, constant, tree_map

AGENT = 0  # the kind of an agent
CELLS = 256  # entities beyond which edges are sought cell by cell


def edges(graph: EntityGraph, nearest: int = 0) -> tuple[Tensor, Tensor]:
    """Who hears whom, ``[..., E, E]`` bool, row ``i`` being what entity ``i`` hears, and how far
    apart they are, ``[..., E, E]``.

    Entities within ``radius`` of each other are connected, nobody with itself or with what is not
    there; with ``directed`` only agents hear (Nayak et al. 2023, InforMARL, section 4.1); with
    ``nearest`` everyone hears so many at most, the nearest.
    """
    way = graph.position.unsqueeze(-3) - graph.position.unsqueeze(-2)
    distance = way.square().sum(-1).sqrt()
    there = graph.mask.unsqueeze(-1) & graph.mask.unsqueeze(-2)
    itself = torch.eye(graph.mask.shape[-1], dtype=torch.bool, device=graph.mask.device)
    heard = there & ~itself & (distance <= graph.radius)
    if graph.directed:
        heard = heard & (graph.kind == AGENT).unsqueeze(-1)
    if 0 < nearest < heard.shape[-1]:
        rank = distance.masked_fill(~heard, math.inf).argsort(dim=-1, stable=True).argsort(-1)
        heard = heard & (rank < nearest)
    return heard, distance


def agents_of(graph: EntityGraph) -> list[int]:
    """Where the agents of all groups stand among the entities."""
    return [number for _, rows in graph.ego for number in rows]


def egos_of(graph: EntityGraph, group: str) -> range:
    """Where the agents of ``group`` stand among the entities."""
    return dict(graph.ego)[group]


# -------------------------------------------------------------------------------- without all pairs


@dataclass(frozen=True)
class EdgeList:
    """All edges of ``G`` graphs, by receiver; entity ``e`` of graph ``g`` is number ``g * E + e``.

    ``sender`` and ``distance`` are ``[M]``; those of receiver ``r`` lie at ``first[r]`` up to
    ``first[r + 1]``."""

    sender: Tensor
    distance: Tensor
    first: Tensor  # [G * E + 1]


def edge_list(graph: EntityGraph, nearest: int = 0) -> EdgeList:
    """As ``edges``, of ``G`` graphs ``[G, E, ...]``. Large graphs are searched cell by cell, so
    that time and memory grow with the number of edges."""
    count = graph.mask.shape[-1]
    if count > CELLS and math.isfinite(graph.radius):
        receiver, sender, distance = _searched(graph, nearest)
    else:
        heard, apart = edges(graph, nearest)
        number, row, column = heard.nonzero(as_tuple=True)
        receiver, sender = number * count + row, number * count + column
        distance = apart[number, row, column]
    sizes = torch.bincount(receiver, minlength=graph.mask.numel())
    first = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return EdgeList(sender, distance, first)


def _searched(graph: EntityGraph, nearest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Receivers in order, senders and distances: entities of one cell, ``radius`` wide, and of the
    cells around it are compared."""
    there = graph.mask.flatten().nonzero().squeeze(-1)  # numbers of what is there
    position = graph.position.flatten(0, 1)[there]
    keys = _cells(position, there // graph.mask.shape[-1], graph.radius)
    middle, order = keys[:, keys.shape[1] // 2].sort()  # of the own cell
    hears = graph.kind.flatten()[there] == AGENT
    who = (hears if graph.directed else torch.ones_like(hears)).nonzero().squeeze(-1)
    wanted = keys[who].flatten()
    low, high = torch.searchsorted(middle, wanted), torch.searchsorted(middle, wanted, right=True)
    met, at = _spans(low, high)
    receiver = who[met // keys.shape[1]]
    sender = order[at]
    distance = (position[receiver] - position[sender]).square().sum(-1).sqrt()
    near = (distance <= graph.radius) & (receiver != sender)
    receiver, sender, distance = receiver[near], sender[near], distance[near]
    by_sender = sender.argsort()  # then by receiver: in the order of the dense ones
    in_order = by_sender[receiver[by_sender].argsort(stable=True)]
    receiver, sender, distance = receiver[in_order], sender[in_order], distance[in_order]
    if nearest:
        by_distance = distance.argsort(stable=True)
        rows = by_distance[receiver[by_distance].argsort(stable=True)]
        sizes = torch.bincount(receiver, minlength=len(there))
        begins = (sizes.cumsum(0) - sizes)[receiver]  # sorted by receiver both ways
        kept = rows[torch.arange(len(rows), device=rows.device) - begins < nearest].sort().values
        receiver, sender, distance = receiver[kept], sender[kept], distance[kept]
    return there[receiver], there[sender], distance


def _cells(position: Tensor, number: Tensor, width: float) -> Tensor:
    """Keys ``[M, 3 ** D]`` of every entity's cell (in the middle) and those around it."""
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
    """All numbers from ``low[i]`` up to ``high[i]``: whose ``i`` each is, and the number."""
    sizes = high - low
    whose = torch.repeat_interleave(sizes)
    begins = sizes.cumsum(0) - sizes
    return whose, torch.arange(len(whose), device=low.device) - begins[whose] + low[whose]


@dataclass(frozen=True)
class Surroundings:
    """What reaches each of ``K`` egos in a number of hops, as one graph of graphs.

    A node is an entity as an ego sees it."""

    ego: Tensor  # [M] of every node: whose it is, among the K
    entity: Tensor  # [M] its number, as EdgeList counts
    own: Tensor  # [K] the node that each ego is itself
    edge_index: Tensor  # [2, L] sender and receiver, of nodes
    distance: Tensor  # [L]


_imagined: list[EntityGraph] = []  # the innermost one's last


@contextmanager
def imagined(graph: EntityGraph | None) -> Iterator[None]:
    """Within it, graphs on the meta device, which have no contents, have surroundings as large as
    those of ``graph [G, E, ...]``."""
    if graph is None:
        yield
        return
    _imagined.append(graph)
    try:
        yield
    finally:
        _imagined.pop()


def _as_large_as_imagined(
    graph: EntityGraph, egos: Sequence[int], hops: int, nearest: int
) -> Surroundings:
    some = tree_map(lambda x: x[:2], _imagined[-1])  # two copies tell
    found = surroundings(some, egos, hops, nearest)
    times = graph.mask.shape[0] / some.mask.shape[0]

    def larger(x: Tensor) -> Tensor:
        return x.new_empty(*x.shape[:-1], int(x.shape[-1] * times), device=graph.mask.device)

    return Surroundings(*(larger(getattr(found, field.name)) for field in fields(Surroundings)))


def surroundings(
    graph: EntityGraph, egos: Sequence[int], hops: int, nearest: int = 0
) -> Surroundings:
    """The in-neighbourhood of ``hops`` of the entities ``egos`` in ``G`` graphs ``[G, E, ...]``;
    the K are counted by graph, then ego. Time and memory grow with what is within reach."""
    if graph.mask.is_meta:
        return _as_large_as_imagined(graph, egos, hops, nearest)
    found, total = edge_list(graph, nearest), graph.mask.numel()
    starts = torch.arange(0, total, graph.mask.shape[-1], device=graph.mask.device)
    chosen = constant(tuple(egos), starts)
    entity = (starts.unsqueeze(-1) + chosen).flatten()
    known = frontier = torch.arange(len(entity), device=entity.device) * total + entity
    parts = []
    for _ in range(hops):
        ego, receiver = frontier // total, frontier % total
        met, at = _spans(found.first[receiver], found.first[receiver + 1])
        reached = ego[met] * total + found.sender[at]
        parts.append(torch.stack([reached, frontier[met]]))
        parts[-1] = torch.cat([parts[-1], at.unsqueeze(0)])
        new = reached.unique()
        frontier = new[~torch.isin(new, known)]
        known = torch.cat([known, frontier])
    nodes = known.sort().values
    joined = torch.cat(parts, dim=1) if parts else known.new_zeros(3, 0)
    own = torch.arange(len(entity), device=entity.device) * total + entity
    return Surroundings(
        nodes // total,
        nodes % total,
        torch.searchsorted(nodes, own),
        torch.searchsorted(nodes, joined[:2].contiguous()),
        found.distance[joined[2]],
    )
