"""Networks that read the graph of entities: InforMARL (Nayak et al. 2023, section 4).

Every agent, the *ego*, sees all entities relative to itself. First each entity within reach sends a
message of its features, kind and distance, and messages are summed. Then graph transformers (Shi et
al. 2021, UniMP, equations 1-4) pass on what was gathered, hop by hop. Without transformers an agent
learns of nothing beyond its own radius.

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

from marl.errors import UserError, unknown
from marl.networks.base import Network
from marl.networks.entity_graph import agent_indices, edges, ego_indices, surroundings
from marl.networks.graph_transformer import GraphTransformer
from marl.networks.layers import layer_norm, linear
from marl.networks.perceptron import Perceptron, PerceptronNetwork
from marl.types import AgentGroup, EntityGraph, EntitySpec, TensorSpec, constant, tree_map
from marl.utils.stacked_modules import is_mapping

FORMS = ("auto", "dense", "sparse")
#: Number of entities up to which dense is faster (measured: docs/studies/informarl_crossover).
SMALL = 15


@dataclass
class InforMARL(Perceptron):
    """A perceptron (or GRU) after a graph encoder.

    It reads an agent's observation and the agent's own node; in central critics, the mean over all
    agents' nodes. The network of the paper has two graph layers in all.
    """

    #: Features of a node; 16 in the paper.
    width: int = 16
    #: Number of graph transformers after the first layer, each of which passes information one hop
    #: further; 1 in the paper.
    transformers: int = 1
    #: Attention heads of each graph transformer, whose results are averaged; 3 in the paper.
    heads: int = 3
    #: Largest number of entities that one entity receives messages from, the nearest ones; 0 for
    #: all within the radius.
    nearest: int = 0
    #: Computation: ``dense``, ``sparse`` (by torch-geometric, only with ``sharing=shared``), or
    #: ``auto``, which is sparse with shared weights and more than 15 entities.
    form: str = "auto"

    reads_graph = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in FORMS:
            raise unknown("form", self.form, FORMS)
        if self.form == "sparse" and self.sharing == "per_agent":
            raise UserError(
                "form=sparse works only with shared weights; set form=dense or sharing=shared"
            )
        if self.width < 1 or self.heads < 1 or self.transformers < 0 or self.nearest < 0:
            raise UserError(
                f"width={self.width} and heads={self.heads} must be positive, and "
                f"transformers={self.transformers} and nearest={self.nearest} at least 0"
            )

    def encoder_of(self, group: AgentGroup, stacked: int | None = None) -> GraphEncoder:
        """Builds a graph encoder for the agents of a group.

        Args:
            group: the agents.
            stacked: number of egos that get weights of their own; None for shared weights.

        Raises:
            UserError: the task has no graph.
        """
        if group.entities is None:
            raise UserError(
                "this model reads a graph of entities, and the task has none; take a task with "
                "one, such as navigation/target, or another model"
            )
        return GraphEncoder(self, group.entities, stacked)

    def build_for(
        self, group: AgentGroup, outputs: int, gain: float = 1.0, more: int = 0
    ) -> GraphNetwork:
        """Builds a network for the agents of a group.

        Args:
            group: the agents.
            outputs: length of the last axis of the output.
            gain: of the orthogonal initialisation of the last layer.
            more: number of features that are appended to each observation.
        """
        return GraphNetwork(self, group, outputs, gain, more)


class GraphNetwork(Network):
    """A perceptron over each agent's observation and its own node.

    Args:
        model: hyperparameters.
        group: the agents.
        outputs: length of the last axis of the output.
        gain: of the orthogonal initialisation of the last layer.
        more: number of features that are appended to each observation.

    Raises:
        UserError: the group observes images, or the task has no graph.
    """

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
        """The linear layer that gives the outputs."""
        return self.rest.head

    def forward(
        self,
        x: Tensor,
        carry: Tensor | None = None,
        start: Tensor | None = None,
        graph: EntityGraph | None = None,
        rows: slice = slice(None),
    ) -> tuple[Tensor, Tensor | None]:
        """Computes the outputs of some of the group's agents.

        Args:
            x: ``[..., N, O]`` of the agents ``rows``.
            carry: memories before the first step, ``[B, N, H]``.
            start: ``[T, B]`` bool, True where an episode begins.
            graph: the entities, with the same leading axes.
            rows: the agents, among those of the group.

        Returns:
            The outputs ``[..., N, outputs]``, and the memories after the last step or None.
        """
        return self.rest(self._with_node(x, graph, rows), carry, start)

    def unroll(
        self, x: Tensor, carry: Tensor | None, start: Tensor | None, **graph: Any
    ) -> tuple[Tensor, Tensor | None]:
        return self.rest.unroll(self._with_node(x, **graph), carry, start)

    def _with_node(
        self, x: Tensor, graph: EntityGraph | None = None, rows: slice = slice(None)
    ) -> Tensor:
        """Returns the agents' observations with their own nodes appended."""
        assert graph is not None, "this network reads the graph"
        ego = self.encoder.encode_egos(graph, ego_indices(graph, self.group)[rows])
        if x.dim() > ego.dim():  # several actions for one observation
            ego = ego.unsqueeze(1).expand(*x.shape[:-1], -1)
        return torch.cat([x, ego], dim=-1)


class GraphEncoder(nn.Module):
    """Features of entities as egos see them.

    Args:
        model: hyperparameters.
        spec: the entities.
        stacked: number of egos that get weights of their own; None for shared weights.
    """

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

    def encode_egos(self, graph: EntityGraph, egos: Sequence[int]) -> Tensor:
        """Computes every ego's own node.

        Args:
            graph: the entities, with any leading axes.
            egos: indices of the egos among the entities.

        Returns:
            ``[..., I, H]``.
        """
        if self._is_sparse(graph):
            return _disable_compiler(self._sparse_egos)(graph, egos)
        return self._dense_nodes(graph, egos, egos_only=True).squeeze(-3)

    def pool(self, graph: EntityGraph) -> Tensor:
        """Computes the mean over all receivers' nodes as all agents see them, ``[..., H]``."""
        egos = agent_indices(graph)
        rows = constant(tuple(egos), graph.kind)
        nodes = self._dense_nodes(graph, egos, egos_only=False)  # [..., R, I, H]
        present = graph.mask if not graph.directed else graph.mask[..., rows]
        both = (present.unsqueeze(-1) & graph.mask[..., rows].unsqueeze(-2)).unsqueeze(-1)
        return (nodes * both).sum((-3, -2)) / both.sum((-3, -2)).clamp(min=1)

    def _is_sparse(self, graph: EntityGraph) -> bool:
        if self.form == "auto":
            return self.stacked is None and graph.mask.shape[-1] > SMALL
        return self.form == "sparse"

    def features(self, graph: EntityGraph) -> tuple[Tensor, Tensor]:
        """Returns velocities, positions and goals, and kinds.

        Returns:
            ``[..., E, 3 D]``, to be taken relative to an ego, and one-hot kinds
            ``[..., E, kinds]``.
        """
        places = torch.cat([graph.velocity, graph.position, graph.goal], dim=-1)
        kinds = nn.functional.one_hot(graph.kind, self.kinds)
        return places, kinds.to(places.dtype)

    def message(self, features: Tensor, distance: Tensor) -> Tensor:
        """Computes the messages that entities send.

        Args:
            features: of the senders, ``[..., 3 D + kinds]``.
            distance: to the receivers, ``[..., 1]``.

        Returns:
            ``[..., H]``.
        """
        x = self.norms[0](torch.relu(self.of_features(features) + self.of_distance(distance)))
        return self.norms[1](torch.relu(self.second(x)))

    # ---------------------------------------------------------------------------------------- dense

    def _dense_nodes(self, graph: EntityGraph, egos: Sequence[int], egos_only: bool) -> Tensor:
        """Returns nodes ``[..., R, I, H]``; R is 1 with ``egos_only``."""
        edge, distance = edges(graph, self.nearest)
        count, rows = edge.shape[-1], constant(tuple(egos), graph.kind)
        receiving = agent_indices(graph) if graph.directed else range(count)
        receivers = constant(tuple(receiving), graph.kind)
        places, kinds = self.features(graph)
        relative = places.unsqueeze(-2) - places[..., rows, :].unsqueeze(-3)  # [..., E, I, 3 D]
        kinds = kinds.unsqueeze(-2).expand(*relative.shape[:-1], -1)
        features = torch.cat([relative, kinds], dim=-1).unsqueeze(-4)  # [..., 1, E, I, F]
        among = (receivers.unsqueeze(-1) == rows).int().argmax(0)  # each ego, of the receivers
        nodes = None
        for stage in range(len(self.transformers) + 1):
            last = egos_only and stage == len(self.transformers)
            at = rows if last else receivers
            arcs = [x[..., at, :].unsqueeze(-1) for x in (edge, distance)]  # [..., R, E, 1]
            if last:
                arcs = [x.transpose(-3, -1) for x in arcs]  # [..., 1, E, I]
            mask, length = (x.unsqueeze(-1) for x in arcs)
            if nodes is None:
                nodes = self._sum_messages(features, mask, length)
                continue
            senders = nodes.new_zeros(*nodes.shape[:-3], count, *nodes.shape[-2:])
            senders = senders.index_copy(-3, receivers, nodes)
            query = nodes
            if last:
                query = nodes[..., among, torch.arange(len(rows), device=rows.device), :]
                query = query.unsqueeze(-3)
            nodes = self.transformers[stage - 1](query, senders, mask, length)
        assert nodes is not None
        return nodes

    def _sum_messages(self, features: Tensor, mask: Tensor, length: Tensor) -> Tensor:
        """Returns the sums of all messages that are received, ``[..., R, I, H]``.

        Args:
            features: of the senders as each ego sees them, ``[..., 1, E, I, F]``.
            mask: the edges, ``[..., R, E, 1 or I, 1]`` bool.
            length: of the edges, ``[..., R, E, 1 or I, 1]``.
        """
        # Edges are counted on the CPU alone, for which no host waits, and where shapes may vary.
        traced = torch.compiler.is_compiling() or is_mapping()
        if mask.device.type == "cpu" and not traced and mask.shape[-2] == 1:
            return self._sum_of_edges(features.squeeze(-4), mask[..., 0, 0], length[..., 0, 0])
        if self.stacked is not None:
            length = length.expand(*length.shape[:-2], features.shape[-2], 1)
        return (self.message(features, length) * mask).sum(-3)

    def _sum_of_edges(self, features: Tensor, mask: Tensor, length: Tensor) -> Tensor:
        """Returns what ``_sum_messages`` does, computed for the edges alone.

        Args:
            features: ``[..., E, I, F]``.
            mask: ``[..., R, E]``.
            length: ``[..., R, E]``.
        """
        receiver, entity = mask.flatten(0, -2).nonzero(as_tuple=True)
        sender = receiver // mask.shape[-2] * mask.shape[-1] + entity
        sent = self.of_features(features).flatten(0, -3)  # [all E, I, H]
        egos = 1 if self.stacked is None else features.shape[-2]  # fewer than all of a group's
        distance = self.of_distance(length[mask].view(-1, 1, 1).expand(-1, egos, 1))
        x = self.norms[0](torch.relu(sent.index_select(0, sender) + distance))
        messages = self.norms[1](torch.relu(self.second(x)))
        nodes = messages.new_zeros(mask.shape[:-1].numel(), *messages.shape[1:])
        return nodes.index_add(0, receiver, messages).unflatten(0, mask.shape[:-1])

    # --------------------------------------------------------------------------------------- sparse

    def _sparse_egos(self, graph: EntityGraph, egos: Sequence[int]) -> Tensor:
        batch = graph.mask.shape[:-1]
        flat = _flatten(graph)
        near = surroundings(flat, egos, len(self.transformers) + 1, self.nearest)
        places, kinds = (x.flatten(0, 1) for x in self.features(flat))
        ego_entity = near.entity[near.ego_node]
        relative = places[near.entity] - places[ego_entity[near.ego]]
        features = torch.cat([relative, kinds[near.entity]], dim=-1)
        sender, receiver = near.edge_index
        length = near.distance.unsqueeze(-1)
        messages = self.message(features[sender], length)
        nodes = messages.new_zeros(len(near.ego), messages.shape[-1])
        nodes = nodes.index_add(0, receiver, messages)
        for transformer in self.transformers:
            nodes = transformer.sparse(nodes, near.edge_index, length)  # type: ignore[operator]  # a GraphTransformer
        return nodes[near.ego_node].unflatten(0, (*batch, len(egos)))


def _disable_compiler(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keeps a function out of the graph: sizes differ at every call, so nothing could be reused."""
    disable: Any = torch.compiler.disable
    return disable(function) if torch.compiler.is_compiling() else function


def _flatten(graph: EntityGraph) -> EntityGraph:
    """Returns the graph with one leading axis."""
    axes = graph.mask.dim() - 1
    return tree_map(lambda x: x.flatten(0, axes - 1) if axes else x.unsqueeze(0), graph)
