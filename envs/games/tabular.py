"""Cooperative Markov games small enough to be solved exactly, and joint policies along a DAG.

The joint policy of Chen & Zhang (2023, eq. 2) with a softmax for every state and every choice of an
agent's parents,

    pi(a|s) = prod_i softmax(theta_i[s, a_parents(i)])[a_i],

its discounted return J by solving the Bellman equation, whose gradient is the exact policy
gradient, and its distance to a Nash equilibrium. Axis letters: ``K`` policies side by side (seeds),
``S`` states, ``A`` joint actions (the last agent's choice counts fastest).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from marl.errors import UserError


@dataclass(frozen=True)
class MarkovGame:
    """What all earn together.

    ``transition [S, A, S]`` are probabilities, ``reward [S, A]``, ``start [S]`` probabilities, and
    ``choices`` how many actions each agent has."""

    transition: Tensor
    reward: Tensor
    start: Tensor
    choices: tuple[int, ...]
    gamma: float

    def __post_init__(self) -> None:
        joint = math.prod(self.choices)
        if self.reward.shape != (len(self.start), joint):
            raise UserError(f"reward must be [S, A] = {[len(self.start), joint]}")
        if self.transition.shape != (*self.reward.shape, len(self.start)):
            raise UserError("transition must be [S, A, S]")
        if not 0 <= self.gamma < 1:
            raise UserError(f"gamma={self.gamma} must be at least 0 and below 1")

    @property
    def joint(self) -> Tensor:
        """All joint actions ``[A, N]``."""
        return torch.tensor(list(itertools.product(*map(range, self.choices))))

    def value(self, probabilities: Tensor) -> Tensor:
        """V ``[K, S]`` of policies ``[K, S, A]``: the solution of V = r_pi + gamma P_pi V."""
        reward = (probabilities * self.reward).sum(-1)
        moves = torch.einsum("ksa,sat->kst", probabilities, self.transition)
        identity = torch.eye(len(self.start), dtype=moves.dtype)
        return torch.linalg.solve(identity - self.gamma * moves, reward)

    def objective(self, probabilities: Tensor) -> Tensor:
        """J ``[K]``: the value of the first state."""
        return self.value(probabilities) @ self.start

    def action_value(self, value: Tensor) -> Tensor:
        """Q ``[K, S, A]`` from V ``[K, S]``."""
        return self.reward + self.gamma * torch.einsum("sat,kt->ksa", self.transition, value)

    def optimum(self) -> float:
        """J* by policy iteration over joint actions."""
        best = self.reward.argmax(-1)
        while True:
            policy = torch.nn.functional.one_hot(best, self.reward.shape[1])
            value = self.value(policy[None].to(self.reward))
            q = self.action_value(value)[0]
            kept = q.gather(-1, best[:, None]).squeeze(-1)
            if torch.all(q.amax(-1) <= kept + 1e-9):
                return float(value[0] @ self.start)
            best = q.argmax(-1)


def coordination(agents: int, margin: int, slip: float = 0.1, gamma: float = 0.95) -> MarkovGame:
    """The coordination game of Chen & Zhang (2023) as their tabular experiment plays it: the reward
    is of the bits *before* the step, and every first state is as likely."""
    bits = torch.tensor(list(itertools.product((0, 1), repeat=agents)))  # states and joint actions
    zeros, ones = agents - bits.sum(-1), bits.sum(-1)
    reward = torch.where(
        (zeros - ones).abs() <= margin, (ones > zeros).double(), torch.where(zeros > ones, 3.0, 2.0)
    )
    slips = (bits[:, None] != bits[None]).sum(-1).double()  # [A, S]
    moves = slip**slips * (1 - slip) ** (agents - slips)
    count = len(bits)
    return MarkovGame(
        moves.expand(count, count, count),
        reward.double()[:, None].expand(count, count),
        torch.full((count,), 1 / count, dtype=torch.float64),
        (2,) * agents,
        gamma,
    )


def line(agents: int) -> Tensor:
    """Every agent after the one before it: ``[N, N]`` bool, ``G[k, i]`` making k a parent of i."""
    return torch.ones(agents, agents, dtype=torch.bool).triu(1).tril(1)


def full(agents: int) -> Tensor:
    """Every agent after all before it."""
    return torch.ones(agents, agents, dtype=torch.bool).triu(1)


class TabularPolicy:
    """``K`` joint softmax policies along one DAG, logits drawn from N(0, 1)."""

    def __init__(self, game: MarkovGame, dag: Tensor, count: int, generator: torch.Generator):
        if torch.linalg.matrix_power(dag.double(), len(dag)).any():
            raise UserError("the graph has a cycle; a joint policy needs an acyclic one")
        self.game, joint = game, game.joint
        self.logits: list[Tensor] = []  # [K, S, C, A_i] with C the choices of the parents
        self.context: list[Tensor] = []  # [A]: which C a joint action is
        for agent, size in enumerate(game.choices):
            parents = dag[:, agent].nonzero().flatten().tolist()
            context, contexts = torch.zeros(len(joint), dtype=torch.int64), 1
            for parent in parents:
                context = context * game.choices[parent] + joint[:, parent]
                contexts *= game.choices[parent]
            shape = (count, len(game.start), contexts, size)
            first = torch.randn(shape, generator=generator, dtype=torch.float64)
            self.logits.append(first.requires_grad_())
            self.context.append(context)

    def conditionals(self) -> list[Tensor]:
        """pi_i(a_i | s, a_parents) of every agent, spread over the joint actions, ``[K, S, A]``."""
        joint = self.game.joint
        return [
            logits.softmax(-1)[..., context, joint[:, agent]]
            for agent, (logits, context) in enumerate(zip(self.logits, self.context, strict=True))
        ]

    def probabilities(self) -> Tensor:
        """pi ``[K, S, A]``."""
        return torch.stack(self.conditionals()).prod(0)

    @torch.no_grad()
    def nash_gap(self) -> Tensor:
        """The most that any agent alone could add to J, ``[K]``; it answers its parents' actions,
        and who follows it answers as always."""
        now = self.game.objective(self.probabilities())
        best = torch.stack([self._best_response(i) for i in range(len(self.logits))])
        return (best - now).amax(0)

    def _best_response(self, agent: int) -> Tensor:
        """J ``[K]`` where the agent does best and the others stay: policy iteration of its own."""
        conditionals, joint = self.conditionals(), self.game.joint
        others = [c for i, c in enumerate(conditionals) if i != agent]
        rest = torch.stack(others).prod(0) if others else torch.ones_like(conditionals[0])
        logits, context = self.logits[agent], self.context[agent]
        at = context * logits.shape[-1] + joint[:, agent]  # [A] -> which of C * A_i
        own, before = conditionals[agent], None
        while True:
            value = self.game.value(own * rest)
            objective = value @ self.game.start
            if before is not None and torch.all(objective <= before + 1e-10):
                return before
            before = objective
            weighted = rest * self.game.action_value(value)  # of each a: chance of others times Q
            q = torch.zeros(*weighted.shape[:-1], logits.shape[-2] * logits.shape[-1]).double()
            q = q.index_add(-1, at, weighted).unflatten(-1, logits.shape[-2:])
            choice = torch.nn.functional.one_hot(q.argmax(-1), logits.shape[-1]).double()
            own = choice[..., context, joint[:, agent]]


def ascend(policy: TabularPolicy, steps: int, lr: float = 0.01) -> Tensor:
    """So many steps of plain gradient ascent on the sum of V over all states (with many states J's
    gradient would hardly move any); J ``[steps + 1, K]``, of the first and after each."""
    found = []
    for step in range(steps + 1):
        value = policy.game.value(policy.probabilities())
        found.append(value.detach() @ policy.game.start)
        if step < steps:
            gradients = torch.autograd.grad(value.sum(), policy.logits)
            with torch.no_grad():
                for logits, gradient in zip(policy.logits, gradients, strict=True):
                    logits += lr * gradient
    return torch.stack(found)
