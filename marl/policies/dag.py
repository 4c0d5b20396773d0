"""Directed acyclic graphs over a team's agents, which say whose action each agent knows.

``G [..., N, N]`` has ``G[k, i] = 1`` where k is a parent of i: i acts after k. Some graphs are the
same everywhere (``line``, ``full``) or random (``bernoulli``). The learned one is a function of
what all agents observe, the *context* (Chen & Zhang 2023; Charpentier et al. 2022, DP-DAG)::

    G = U * (P^T M P),   M strictly upper triangular ones

P is an order of the agents, sampled by Gumbel-matching (the permutation of the largest sum of
scores) and relaxed by Gumbel-Sinkhorn (Mena et al. 2018). U are the edges, sampled and relaxed by
Gumbel-softmax. Both are rounded, and pass gradients straight through to their relaxations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marl.errors import UserError, unknown
from marl.networks.layers import linear
from marl.policies.assignment import assignment, sinkhorn
from marl.policies.distributions import gumbel

GAIN = 2**0.5

#: Name -> the random numbers that decide a graph.
GraphNoise: TypeAlias = Mapping[str, Tensor]


class DagSampler(Protocol):
    """A function of the context that gives a graph; an ``nn.Module``.

    Attributes:
        depth: number of agents on the longest path of any graph.
    """

    depth: int

    def noise(self, num_envs: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws the random numbers that decide the graphs of one step.

        Args:
            num_envs: B, the number of environments.
            generator: the generator to draw from, on the device of the result.

        Returns:
            ``[B, ...]`` by name.
        """
        ...

    def __call__(self, context: Tensor, noise: GraphNoise | None) -> Tensor:
        """Computes graphs.

        Args:
            context: observations of all agents side by side, ``[..., C]``.
            noise: what ``noise`` drew; None for the likeliest graph.

        Returns:
            G, ``[..., N, N]``.
        """
        ...


class Fixed(nn.Module):
    """The same graph everywhere.

    Args:
        graph: G, ``[N, N]``.
    """

    def __init__(self, graph: Tensor):
        super().__init__()
        self.register_buffer("graph", graph.float(), persistent=False)
        self.depth = longest_path(graph)

    def noise(self, num_envs: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {}

    def forward(self, context: Tensor, noise: GraphNoise | None) -> Tensor:
        graph: Tensor = self.graph  # type: ignore[assignment]  # a buffer
        return graph.expand(*context.shape[:-1], *graph.shape)


class Bernoulli(nn.Module):
    """Agents in the order of their groups, with random edges.

    Greedy play keeps all edges if they are likelier than not, and none otherwise.

    Args:
        agents: N, the number of agents.
        probability: of every edge.
    """

    def __init__(self, agents: int, probability: float):
        super().__init__()
        self.depth, self.probability = agents, probability
        self.register_buffer("order", torch.ones(agents, agents).triu(1), persistent=False)

    def noise(self, num_envs: int, generator: torch.Generator) -> dict[str, Tensor]:
        shape = (num_envs, self.depth, self.depth)
        return {"edges": torch.rand(shape, generator=generator, device=generator.device)}

    def forward(self, context: Tensor, noise: GraphNoise | None) -> Tensor:
        order: Tensor = self.order  # type: ignore[assignment]  # a buffer
        if noise is None:
            return order.expand(*context.shape[:-1], *order.shape) * (self.probability > 0.5)
        return order * (noise["edges"] < self.probability)


class Learned(nn.Module):
    """Order and edges computed from the context.

    Args:
        context: C, the length of the context.
        agents: N, the number of agents.
        hidden: units of the hidden layer of both networks.
    """

    def __init__(self, context: int, agents: int, hidden: int = 64):
        super().__init__()
        self.depth = agents
        self.order, self.edges = (
            nn.Sequential(
                linear(context, hidden, None, GAIN),
                nn.ReLU(),
                linear(hidden, agents**2, None, 0.01),
                nn.Unflatten(-1, (agents, agents)),
            )
            for _ in range(2)
        )
        ones = torch.ones(agents, agents)
        self.register_buffer("before", ones.triu(1), persistent=False)  # M

    def noise(self, num_envs: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws Gumbel noise for the order, and logistic noise for the edges, ``[B, N, N]`` each.

        Args:
            num_envs: B, the number of environments.
            generator: the generator to draw from, on the device of the result.
        """
        shape = (num_envs, self.depth, self.depth)
        uniform = torch.rand(shape, generator=generator, device=generator.device)
        # The difference of two Gumbel variables is logistic.
        return {"order": gumbel(shape, generator), "edges": uniform.logit(1e-7)}

    def forward(self, context: Tensor, noise: GraphNoise | None) -> Tensor:
        scores = F.logsigmoid(self.order(context))
        logits = self.edges(context)
        if noise is not None:
            scores, logits = scores + noise["order"], logits + noise["edges"]
        order, edges = assignment(scores.detach()), (logits > 0).to(logits)
        if torch.is_grad_enabled():
            order = _straight_through(order, sinkhorn(scores))
            edges = _straight_through(edges, torch.sigmoid(logits))
        before: Tensor = self.before  # type: ignore[assignment]  # a buffer
        return edges * (order.mT @ before @ order)

    def soft(self, context: Tensor, noise: GraphNoise) -> Tensor:
        """Computes the relaxed graph, whose gradient ``forward`` has.

        Args:
            context: ``[..., C]``.
            noise: what ``noise`` drew.

        Returns:
            ``[..., N, N]``, between 0 and 1.
        """
        order = sinkhorn(F.logsigmoid(self.order(context)) + noise["order"])
        before: Tensor = self.before  # type: ignore[assignment]  # a buffer
        return torch.sigmoid(self.edges(context) + noise["edges"]) * (order.mT @ before @ order)


def _straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Returns ``hard``, exactly, with the gradient of ``soft``."""
    return hard + (soft - soft.detach())


def longest_path(graph: Tensor) -> int:
    """Returns the number of agents on the longest path of an acyclic graph ``[N, N]``."""
    reach, depth = graph.bool(), 1
    while reach.any():
        reach, depth = (reach.float() @ graph.float()).bool(), depth + 1
    return depth


def density(graph: Tensor) -> Tensor:
    """Returns the number of edges of ``graph [..., N, N]`` over the largest possible, ``[...]``."""
    agents = graph.shape[-1]
    return 2 * graph.sum((-2, -1)) / max(1, agents * (agents - 1))


GRAPHS = ("none", "line", "full", "bernoulli", "learned")
# The target density falls from 1 to 0 between these shares of the run, in so many steps.
BEGIN, END, STEPS = 0.4, 0.7, 40


@dataclass
class BayesianNetworkConfig:
    """Hyperparameters of joint policies along a Bayesian network (Chen & Zhang 2023)."""

    #: Graph of the agents: ``none`` (independent policies), ``line``, ``full``, ``bernoulli`` or
    #: ``learned``.
    graph: str = "none"
    #: Probability of every edge, 0 to 1; only with ``graph=bernoulli``.
    probability: float = 0.5
    #: Features that an agent computes from what its parents observed and did. Usual 64.
    features: int = 64
    #: Removes all edges over the course of the run, so that the policies become independent; only
    #: with ``graph=learned`` and on-policy algorithms.
    anneal: bool = False
    #: Weight of ``|density - target|`` in the loss, which climbs to 1 over the last 30% of the run;
    #: only with ``anneal``. Usual 0.05 to 0.1.
    weight: float = 0.1

    def __post_init__(self) -> None:
        if self.graph not in GRAPHS:
            raise unknown("joint.graph", self.graph, GRAPHS)
        if not 0 <= self.probability <= 1:
            raise UserError(f"joint.probability={self.probability} must be from 0 to 1")
        if self.features < 1 or self.weight < 0:
            raise UserError(
                f"joint.features={self.features} must be at least 1, and "
                f"joint.weight={self.weight} at least 0"
            )
        if self.anneal and self.graph != "learned":
            raise UserError(
                "joint.anneal=true works only with joint.graph=learned: the edges of "
                f"joint.graph={self.graph} cannot change; set one of the two"
            )

    def schedule(self, progress: float) -> tuple[float, float]:
        """Returns the weight of the density's error, and the target density.

        The target is 1, falls from 40% of the run in 40 steps to 0 at 70%, and from there the
        weight climbs to 1.

        Args:
            progress: share of the run that has passed, 0 to 1.
        """
        if not self.anneal:
            return 0.0, 1.0
        drop = math.floor(STEPS * (progress - BEGIN) / (END - BEGIN) + 1e-9) / STEPS
        climb = max(0.0, (progress - END) / (1 - END))
        return self.weight + (1 - self.weight) * min(1.0, climb), 1 - min(1.0, max(0.0, drop))
