"""Directed acyclic graphs over a team's agents: whose action each of them knows when it acts.

``G [..., N, N]`` with ``G[k, i] = 1`` where k is a parent of i: i acts after k. Given ones are the
same everywhere (``line``, ``full``) or drawn (``bernoulli``); the learned one is a function of what
all agents see, the *context* (Chen & Zhang 2023; Charpentier et al. 2022, DP-DAG):

    G = U * (P^T M P),   M strictly upper triangular ones

with P an order of the agents, drawn by Gumbel-matching (the permutation of the largest sum of
scores), whose soft self is Gumbel-Sinkhorn (Mena et al. 2018), and U the edges, drawn by
Gumbel-softmax. Both are hard, and pass gradients straight through to their soft selves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marl.errors import UserError, unknown
from marl.networks.layers import linear
from marl.policies.distributions import gumbel

ENUMERATED = 6  # agents up to which all permutations are tried
EXACT = 10  # agents up to which permutations are found batched over subsets, not one by one
SINKHORN = 20  # times that rows and columns are normalised
GAIN = 2**0.5

Draw = Mapping[str, Tensor]  # the random numbers behind a graph, by name


class DagSampler(Protocol):
    """Gives the graph of every moment; an ``nn.Module``."""

    depth: int  # agents on the longest path there can be

    def noise(self, num_envs: int, generator: torch.Generator) -> dict[str, Tensor]: ...

    def __call__(self, context: Tensor, noise: Draw | None) -> Tensor:
        """``G [..., N, N]`` from ``[..., C]``; the likeliest where ``noise`` is None."""
        ...


class Fixed(nn.Module):
    """The same graph everywhere."""

    def __init__(self, graph: Tensor):
        super().__init__()
        self.register_buffer("graph", graph.float(), persistent=False)
        self.depth = longest_path(graph)

    def noise(self, num_envs: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {}

    def forward(self, context: Tensor, noise: Draw | None) -> Tensor:
        graph: Tensor = self.graph  # type: ignore[assignment]  # a buffer
        return graph.expand(*context.shape[:-1], *graph.shape)


class Bernoulli(nn.Module):
    """Agents in their own order, and every edge with the same ``probability``; greedy play keeps
    those that are likelier than not."""

    def __init__(self, agents: int, probability: float):
        super().__init__()
        self.depth, self.probability = agents, probability
        self.register_buffer("order", torch.ones(agents, agents).triu(1), persistent=False)

    def noise(self, num_envs: int, generator: torch.Generator) -> dict[str, Tensor]:
        shape = (num_envs, self.depth, self.depth)
        return {"edges": torch.rand(shape, generator=generator, device=generator.device)}

    def forward(self, context: Tensor, noise: Draw | None) -> Tensor:
        order: Tensor = self.order  # type: ignore[assignment]  # a buffer
        if noise is None:
            return order.expand(*context.shape[:-1], *order.shape) * (self.probability > 0.5)
        return order * (noise["edges"] < self.probability)


class Learned(nn.Module):
    """Order and edges from the context."""

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
        """Gumbel for the order, and for the edges the difference of two, which is logistic."""
        shape = (num_envs, self.depth, self.depth)
        uniform = torch.rand(shape, generator=generator, device=generator.device)
        return {"order": gumbel(shape, generator), "edges": uniform.logit(1e-7)}

    def forward(self, context: Tensor, noise: Draw | None) -> Tensor:
        scores = F.logsigmoid(self.order(context))
        edges = self.edges(context)
        if noise is not None:
            scores, edges = scores + noise["order"], edges + noise["edges"]
        order, chosen = assignment(scores.detach()), (edges > 0).to(edges)
        if torch.is_grad_enabled():
            order = _through(order, sinkhorn(scores))
            chosen = _through(chosen, torch.sigmoid(edges))
        before: Tensor = self.before  # type: ignore[assignment]  # a buffer
        return chosen * (order.mT @ before @ order)

    def soft(self, context: Tensor, noise: Draw) -> Tensor:
        """What the gradient is of: the same without rounding."""
        order = sinkhorn(F.logsigmoid(self.order(context)) + noise["order"])
        before: Tensor = self.before  # type: ignore[assignment]  # a buffer
        return torch.sigmoid(self.edges(context) + noise["edges"]) * (order.mT @ before @ order)


def _through(hard: Tensor, soft: Tensor) -> Tensor:
    """``hard``, exactly, with the gradient of ``soft``."""
    return hard + (soft - soft.detach())


def sinkhorn(scores: Tensor, times: int = SINKHORN) -> Tensor:
    """Doubly stochastic matrices ``[..., N, N]`` from log-scores, by turns over rows and columns.
    Small matrices lie batch last, so that sums run along memory."""
    flat = scores.reshape(-1, *scores.shape[-2:])
    kernel = (flat - flat.amax(-1, keepdim=True)).exp().permute(1, 2, 0).contiguous()
    columns = torch.ones_like(kernel[:1])
    rows = columns
    for _ in range(times):
        rows = (kernel * columns).sum(1, keepdim=True).reciprocal()
        columns = (kernel * rows).sum(0, keepdim=True).reciprocal()
    return (rows * kernel * columns).permute(2, 0, 1).reshape(scores.shape)


def assignment(weight: Tensor) -> Tensor:
    """The permutations ``[..., N, N]`` of the largest summed ``weight [..., N, N]``."""
    flat = weight.reshape(-1, *weight.shape[-2:])
    if weight.shape[-1] <= ENUMERATED:
        chosen = _by_enumeration(flat)
    else:
        chosen = _by_subsets(flat) if weight.shape[-1] <= EXACT else _one_by_one(flat)
    return F.one_hot(chosen, weight.shape[-1]).to(weight).view(weight.shape)


@cache
def _permutations(agents: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All of them, ``[N!, N]``, and as matrices of ones and zeros, ``[N * N, N!]``."""
    found = torch.tensor(list(itertools.permutations(range(agents))), device=device)
    return found, F.one_hot(found, agents).flatten(1).float().T.contiguous()


def _by_enumeration(weight: Tensor) -> Tensor:
    """Columns ``[M, N]`` of the rows."""
    permutations, matrices = _permutations(weight.shape[-1], weight.device)
    return permutations[(weight.flatten(1).float() @ matrices).argmax(-1)]


def _one_by_one(weight: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    chosen = [linear_sum_assignment(each, maximize=True)[1] for each in weight.cpu().numpy()]
    return torch.from_numpy(np.array(chosen)).to(weight.device).view(len(weight), -1)


@cache
def _subsets(agents: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For k = 1 ... N: the columns in every subset of k, ``[C, k]``, and the subset without each,
    ``[C, k]``, as a number among those of k - 1."""
    steps: list[tuple[Tensor, Tensor]] = []
    before: dict[tuple[int, ...], int] = {(): 0}
    for k in range(1, agents + 1):
        now = list(itertools.combinations(range(agents), k))
        rest = [[before[s[:i] + s[i + 1 :]] for i in range(k)] for s in now]
        steps.append((torch.tensor(now, device=device), torch.tensor(rest, device=device)))
        before = {subset: number for number, subset in enumerate(now)}
    return steps


def _by_subsets(weight: Tensor) -> Tensor:
    """Columns ``[M, N]`` of the rows: the best that k rows can do with k columns, for k = 1 ... N
    (dynamic programming over subsets), then back."""
    steps = _subsets(weight.shape[-1], weight.device)
    best, choices = weight.new_zeros(len(weight), 1), []
    for row, (columns, rest) in enumerate(steps):
        total = best[:, rest] + weight[:, row, :][:, columns]  # [M, C, k]
        best, choice = total.max(-1)
        choices.append(choice)
    at = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
    chosen = []
    for (columns, rest), choice in zip(reversed(steps), reversed(choices), strict=True):
        picked = choice.gather(1, at.unsqueeze(1)).squeeze(1)
        chosen.append(columns[at, picked])
        at = rest[at, picked]
    return torch.stack(chosen[::-1], dim=-1)


def longest_path(graph: Tensor) -> int:
    """Agents on the longest path of an acyclic graph."""
    reach, depth = graph.bool(), 1
    while reach.any():
        reach, depth = (reach.float() @ graph.float()).bool(), depth + 1
    return depth


def density(graph: Tensor) -> Tensor:
    """The share of the edges that an acyclic graph could have, ``[...]``."""
    agents = graph.shape[-1]
    return 2 * graph.sum((-2, -1)) / max(1, agents * (agents - 1))


GRAPHS = ("none", "line", "full", "bernoulli", "learned")
BEGIN, END = 0.4, 0.7  # of the run: the density wanted falls from 1 to 0 between them
STEPS = 40  # that it falls in


@dataclass
class BayesianNetworkConfig:
    """How a team's policies hang together."""

    graph: str = "none"  # none (independent), line, full, bernoulli or learned
    probability: float = 0.5  # of an edge, with bernoulli
    features: int = 64  # that an agent makes of what its parents saw and did
    anneal: bool = False  # learned: towards independent policies, over the run
    weight: float = 0.1  # of |density - target| in the loss; from 70% of the run it climbs to 1

    def __post_init__(self) -> None:
        if self.graph not in GRAPHS:
            raise unknown("joint.graph", self.graph, GRAPHS)
        if not 0 <= self.probability <= 1:
            raise UserError(f"joint.probability={self.probability} must be from 0 to 1")
        if self.features < 1 or self.weight < 0:
            raise UserError("joint.features must be at least 1, and joint.weight not negative")
        if self.anneal and self.graph != "learned":
            raise UserError("joint.anneal=true needs joint.graph=learned: others cannot change")

    def schedule(self, progress: float) -> tuple[float, float]:
        """The weight of the density's error and the density wanted, at this share of the run: 1,
        from 40% in 40 steps to 0 at 70%; from there the weight climbs to 1."""
        if not self.anneal:
            return 0.0, 1.0
        fallen = math.floor(STEPS * (progress - BEGIN) / (END - BEGIN) + 1e-9) / STEPS
        climbed = max(0.0, (progress - END) / (1 - END))
        return self.weight + (1 - self.weight) * min(1.0, climbed), 1 - min(1.0, max(0.0, fallen))
