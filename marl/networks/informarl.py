"""Networks that read the graph of entities: InforMARL (Nayak et al. 2023, section 4).

Every agent, the *ego*, sees all entities relative to itself. First each entity that is heard sends
a message of its features, kind and distance, and messages are summed; then graph transformers (Shi
et al. 2021, UniMP, equations 1-4) pass on what was gathered, hop by hop. With no transformer an
agent knows of nothing beyond its own radius.

Both forms compute the same: *dense* over all pairs with a mask, *sparse* over the edges of each
ego's surroundings through torch-geometric. Axis letters: ``E`` entities, ``I`` egos, ``R``
receivers (agents, or all entities where edges go both ways), ``H`` features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from marl.errors import UserError, unknown
from marl.networks.base import Network
from marl.networks.entity_graph import agents_of, edges, egos_of, surroundings
from marl.networks.layers import layer_norm, linear
from marl.networks.perceptron import Perceptron, PerceptronNetwork
from marl.types import AgentGroup, EntityGraph, EntitySpec, TensorSpec, constant, tree_map

FORMS = ("auto", "dense", "sparse")
SMALL = 15  # entities up to which dense is faster (measured: results/informarl/crossover.jsonl)


@dataclass
class InforMARL(Perceptron):
    """A perceptron (or GRU) behind a graph encoder: of an agent's observation and of its own node;
    in central critics of the mean over all agents' nodes. The paper's has two layers in all."""

    width: int = 16  # features of a node
    transformers: int = 1  # graph transformers after the first layer: how many hops further
    heads: int = 3  # of their attention, averaged
    nearest: int = 0  # how many of the nearest one hears at most; 0 for all within the radius
    form: str = "auto"  # dense, sparse (torch-geometric), or by the number of entities

    reads_graph = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in FORMS:
            raise unknown("form", self.form, FORMS)
        if self.form == "sparse" and self.sharing == "per_agent":
            raise UserError("form=sparse needs shared weights; set form=dense or sharing=shared")
        if self.width < 1 or self.heads < 1 or self.transformers < 0 or self.nearest < 0:
            raise UserError(
                f"model sizes must be positive, not width={self.width}, heads={self.heads}, "
                f"transformers={self.transformers}, nearest={self.nearest}"
            )

    def encoder_of(self, group: AgentGroup, stacked: int | None = None) -> GraphEncoder:
        """Raises UserError in tasks without a graph."""
        if group.entities is None:
            raise UserError(
                "this model reads a graph of entities, and the task gives none; take a task that "
                "does, such as navigation/target, or another model"
            )
        return GraphEncoder(self, group.entities, stacked)

    def build_for(
        self, group: AgentGroup, outputs: int, gain: float = 1.0, more: int = 0
    ) -> GraphNetwork:
        """A network for the agents of ``group``; ``more`` features are appended to their
        observations."""
        return GraphNetwork(self, group, outputs, gain, more)


class GraphNetwork(Network):
    """Each agent's own node beside what else it sees, through a perceptron."""

    reads_graph = True

    def __init__(
        self, model: InforMARL, group: AgentGroup, outputs: int, gain: float, more: int = 0
    ):
        super().__init__()
        if len(group.observation.shape) > 1:
            raise UserError("a graph beside images is not supported; take another model")
        self.group = group.name
        stacked = group.size if model.sharing == "per_agent" else None
        self.encoder = model.encoder_of(group, stacked)
        inputs = TensorSpec((group.observation.size + more + model.width,))
        self.rest = PerceptronNetwork(model, inputs, outputs, group.size, gain)
        self.carry_size = self.rest.carry_size

    @property
    def head(self) -> nn.Module:
        return self.rest.head

    def forward(
        self,
        x: Tensor,
        carry: Tensor | None = None,
        start: Tensor | None = None,
        graph: EntityGraph | None = None,
        rows: slice = slice(None),
    ) -> tuple[Tensor, Tensor | None]:
        """``x [..., N, *]`` of the group's agents ``rows``."""
        assert graph is not None, "this network reads the graph"
        own = self.encoder.own(graph, egos_of(graph, self.group)[rows])
        if x.dim() > own.dim():  # several actions for one observation
            own = own.unsqueeze(1).expand(*x.shape[:-1], -1)
        return self.rest(torch.cat([x, own], dim=-1), carry, start)


class GraphEncoder(nn.Module):
    """Entities to features. With ``stacked`` every ego has weights of its own."""

    def __init__(self, model: InforMARL, spec: EntitySpec, stacked: int | None):
        super().__init__()
        self.width, gain = model.width, math.sqrt(2)
        width = model.width
        self.form, self.nearest, self.kinds = model.form, model.nearest, spec.kinds
        self.stacked = stacked
        self.of_features = linear(3 * spec.space + spec.kinds, width, stacked, gain)
        self.of_distance = linear(1, width, stacked, 1.0)
        self.second = linear(width, width, stacked, gain)
        self.norms = nn.ModuleList([layer_norm(width, stacked) for _ in range(2)])
        self.transformers = nn.ModuleList(
            [GraphTransformer(width, model.heads, stacked) for _ in range(model.transformers)]
        )

    def own(self, graph: EntityGraph, egos: Sequence[int]) -> Tensor:
        """Every ego's own node, ``[..., I, H]``."""
        if self._sparse(graph):
            return _uncompiled(self._sparse_own)(graph, egos)
        return self._dense(graph, egos, own=True).squeeze(-3)

    def pooled(self, graph: EntityGraph) -> Tensor:
        """The mean over all receivers' nodes as all agents see them, ``[..., H]``."""
        egos = agents_of(graph)
        rows = constant(tuple(egos), graph.kind)
        nodes = self._dense(graph, egos, own=False)  # [..., R, I, H]
        there = graph.mask if not graph.directed else graph.mask[..., rows]
        both = (there.unsqueeze(-1) & graph.mask[..., rows].unsqueeze(-2)).unsqueeze(-1)
        return (nodes * both).sum((-3, -2)) / both.sum((-3, -2)).clamp(min=1)

    def _sparse(self, graph: EntityGraph) -> bool:
        if self.form == "auto":
            return self.stacked is None and graph.mask.shape[-1] > SMALL
        return self.form == "sparse"

    def features(self, graph: EntityGraph) -> tuple[Tensor, Tensor]:
        """Places in space ``[..., E, 3 D]``, to be taken relative to an ego, and kinds ``[..., E,
        kinds]``."""
        places = torch.cat([graph.velocity, graph.position, graph.goal], dim=-1)
        kinds = nn.functional.one_hot(graph.kind, self.kinds)
        return places, kinds.to(places.dtype)

    def message(self, features: Tensor, distance: Tensor) -> Tensor:
        """What an entity tells over a distance: ``[..., H]`` from ``[..., 3 D + kinds]`` and
        ``[..., 1]``."""
        x = self.norms[0](torch.relu(self.of_features(features) + self.of_distance(distance)))
        return self.norms[1](torch.relu(self.second(x)))

    # ---------------------------------------------------------------------------------------- dense

    def _dense(self, graph: EntityGraph, egos: Sequence[int], own: bool) -> Tensor:
        """Nodes ``[..., R, I, H]``; with ``own`` each ego's own only, R being 1."""
        heard, distance = edges(graph, self.nearest)
        count, rows = heard.shape[-1], constant(tuple(egos), graph.kind)
        hears = agents_of(graph) if graph.directed else range(count)
        receivers = constant(tuple(hears), graph.kind)
        places, kinds = self.features(graph)
        relative = places.unsqueeze(-2) - places[..., rows, :].unsqueeze(-3)  # [..., E, I, 3 D]
        kinds = kinds.unsqueeze(-2).expand(*relative.shape[:-1], -1)
        features = torch.cat([relative, kinds], dim=-1).unsqueeze(-4)  # [..., 1, E, I, F]
        among = (receivers.unsqueeze(-1) == rows).int().argmax(0)  # each ego, of the receivers
        nodes = None
        for stage in range(len(self.transformers) + 1):
            last = own and stage == len(self.transformers)
            at = rows if last else receivers
            arcs = [x[..., at, :].unsqueeze(-1) for x in (heard, distance)]  # [..., R, E, 1]
            if last:
                arcs = [x.transpose(-3, -1) for x in arcs]  # [..., 1, E, I]
            ears, away = (x.unsqueeze(-1) for x in arcs)
            if nodes is None:
                nodes = self._gathered(features, ears, away)
                continue
            senders = nodes.new_zeros(*nodes.shape[:-3], count, *nodes.shape[-2:])
            senders = senders.index_copy(-3, receivers, nodes)
            asking = nodes
            if last:
                asking = nodes[..., among, torch.arange(len(rows), device=rows.device), :]
                asking = asking.unsqueeze(-3)
            nodes = self.transformers[stage - 1](asking, senders, ears, away)
        assert nodes is not None
        return nodes

    def _gathered(self, features: Tensor, ears: Tensor, away: Tensor) -> Tensor:
        """The sums of all messages heard, ``[..., R, I, H]``."""
        away = away.expand(*away.shape[:-2], features.shape[-2], 1)
        return (self.message(features, away) * ears).sum(-3)

    # --------------------------------------------------------------------------------------- sparse

    def _sparse_own(self, graph: EntityGraph, egos: Sequence[int]) -> Tensor:
        batch = graph.mask.shape[:-1]
        flat = _flat(graph)
        near = surroundings(flat, egos, len(self.transformers) + 1, self.nearest)
        places, kinds = (x.flatten(0, 1) for x in self.features(flat))
        ego_entity = near.entity[near.own]
        relative = places[near.entity] - places[ego_entity[near.ego]]
        features = torch.cat([relative, kinds[near.entity]], dim=-1)
        sender, receiver = near.edge_index
        away = near.distance.unsqueeze(-1)
        told = self.message(features[sender], away)
        nodes = told.new_zeros(len(near.ego), told.shape[-1]).index_add(0, receiver, told)
        for transformer in self.transformers:
            nodes = transformer.sparse(nodes, near.edge_index, away)  # type: ignore[operator]  # a GraphTransformer
        return nodes[near.own].unflatten(0, (*batch, len(egos)))


class GraphTransformer(nn.Module):
    """TransformerConv with distances on the edges and a weight for the root (Shi et al. 2021):

    out_i = relu(W_s x_i + mean over heads of sum_j a_ij (W_v x_j + w_e d_ij)),
    a_ij = softmax over j of (W_q x_i) (W_k x_j + w_e d_ij) / sqrt(H)
    """

    def __init__(self, width: int, heads: int, stacked: int | None):
        super().__init__()
        self.width, self.heads, self.stacked = width, heads, stacked
        self.query, self.key, self.value = (
            linear(width, heads * width, stacked, 1.0) for _ in range(3)
        )
        self.skip = linear(width, width, stacked, 1.0)
        weight = torch.randn(heads * width) / math.sqrt(width)
        self.edge = nn.Parameter(weight if stacked is None else weight.repeat(stacked, 1))
        self._conv: list[Any] = []  # torch-geometric's, made when first used

    def forward(self, x: Tensor, senders: Tensor, ears: Tensor, away: Tensor) -> Tensor:
        """``x [..., R, I, H]``, ``senders [..., E, I, H]``, ``ears`` and ``away [..., R, E, 1 or I,
        1]``."""
        parts = (self.heads, self.width)
        query = self.query(x).unflatten(-1, parts).unsqueeze(-4)  # [..., R, 1, I, heads, H]
        key, value = (f(senders).unflatten(-1, parts) for f in (self.key, self.value))
        edge = self.edge.unflatten(-1, parts)  # [(I,) heads, H]
        score = (query * key.unsqueeze(-5)).sum(-1) + away * (query * edge).sum(-1)
        score = (score / math.sqrt(self.width)).masked_fill(~ears, -1e9)
        attention = torch.softmax(score, dim=-3).masked_fill(~ears, 0.0)  # [..., R, E, I, heads]
        found = (attention.unsqueeze(-1) * value.unsqueeze(-5)).sum(-4)
        found = found + (attention * away).sum(-3).unsqueeze(-1) * edge
        return torch.relu(self.skip(x) + found.mean(-2))

    def sparse(self, x: Tensor, edge_index: Tensor, distance: Tensor) -> Tensor:
        """``x [M, H]``, ``edge_index [2, L]``, ``distance [L, 1]``."""
        from torch_geometric.nn import TransformerConv

        if not self._conv:
            self._conv.append(
                TransformerConv(self.width, self.width, self.heads, concat=False, edge_dim=1)
            )
        own = {"query": self.query, "key": self.key, "value": self.value, "skip": self.skip}
        weights: dict[str, Tensor] = {"lin_edge.weight": self.edge.unsqueeze(-1)}
        weights |= {f"lin_{n}.{k}": v for n, m in own.items() for k, v in m.named_parameters()}
        return torch.relu(functional_call(self._conv[0], weights, (x, edge_index, distance)))


def _uncompiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """For sizes that differ at every call: there is nothing that a compiler could reuse."""
    disable: Any = torch.compiler.disable
    return disable(function) if torch.compiler.is_compiling() else function


def _flat(graph: EntityGraph) -> EntityGraph:
    """With one leading axis."""
    axes = graph.mask.dim() - 1
    return tree_map(lambda x: x.flatten(0, axes - 1) if axes else x.unsqueeze(0), graph)
