"""Cooperative Markov games small enough to be solved exactly, and joint policies along a DAG.

The joint policy of Chen & Zhang (2023, eq. 2) has a softmax for every state and every choice of an
agent's parents::

    pi(a|s) = prod_i softmax(theta_i[s, a_parents(i)])[a_i]

Its discounted return J solves the Bellman equation, and the gradient of that is the exact policy
gradient; ``nash_gap`` is its distance to a Nash equilibrium. Axis letters: ``K`` policies side by
side (seeds), ``S`` states, ``A`` joint actions (the last agent's choice varies fastest). This is no
task but a tool of the study of Bayesian networks.
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
    """A cooperative Markov game.

    Attributes:
        transition: probabilities of the next state, ``[S, A, S]``.
        reward: shared reward, ``[S, A]``.
        start: probabilities of the first state, ``[S]``.
        choices: number of actions of each agent.
        gamma: discount, at least 0 and below 1.
    """

    transition: Tensor
    reward: Tensor
    start: Tensor
    choices: tuple[int, ...]
    gamma: float

    def __post_init__(self) -> None:
        joint = math.prod(self.choices)
        if self.reward.shape != (len(self.start), joint):
            shape = list(self.reward.shape)
            raise UserError(f"reward is {shape}, but must be [S, A] = {[len(self.start), joint]}")
        if self.transition.shape != (*self.reward.shape, len(self.start)):
            expected = [len(self.start), joint, len(self.start)]
            shape = list(self.transition.shape)
            raise UserError(f"transition is {shape}, but must be [S, A, S] = {expected}")
        if not 0 <= self.gamma < 1:
            raise UserError(f"gamma={self.gamma} must be at least 0 and below 1")

    @property
    def joint(self) -> Tensor:
        """All joint actions, ``[A, N]``."""
        return torch.tensor(list(itertools.product(*map(range, self.choices))))

    def value(self, probabilities: Tensor) -> Tensor:
        """Solves V = r_pi + gamma P_pi V; returns V ``[K, S]`` of policies ``[K, S, A]``."""
        reward = (probabilities * self.reward).sum(-1)
        moves = torch.einsum("ksa,sat->kst", probabilities, self.transition)
        identity = torch.eye(len(self.start), dtype=moves.dtype)
        return torch.linalg.solve(identity - self.gamma * moves, reward)

    def objective(self, probabilities: Tensor) -> Tensor:
        """Returns J, the mean value of the first state, ``[K]`` of policies ``[K, S, A]``."""
        return self.value(probabilities) @ self.start

    def action_value(self, value: Tensor) -> Tensor:
        """Returns Q ``[K, S, A]`` from V ``[K, S]``."""
        return self.reward + self.gamma * torch.einsum("sat,kt->ksa", self.transition, value)

    def optimum(self) -> float:
        """Returns J*, the best J, by policy iteration over joint actions."""
        best = self.reward.argmax(-1)
        while True:
            policy = torch.nn.functional.one_hot(best, self.reward.shape[1])
            value = self.value(policy[None].to(self.reward))
            q = self.action_value(value)[0]
            current = q.gather(-1, best[:, None]).squeeze(-1)
            if torch.all(q.amax(-1) <= current + 1e-9):
                return float(value[0] @ self.start)
            best = q.argmax(-1)


def coordination(agents: int, margin: int, slip: float = 0.1, gamma: float = 0.95) -> MarkovGame:
    """Returns the coordination game as the tabular experiment of Chen & Zhang (2023) plays it.

    The reward is that of the bits *before* the step, and every first state is equally likely.

    Args:
        agents: N.
        margin: l, by which zeros and ones must differ to earn 2 or 3.
        slip: probability that a bit is not the action.
        gamma: discount.
    """
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
    """Returns the DAG of each agent after the one before it, ``[N, N]`` bool.

    ``G[k, i]`` makes k a parent of i.
    """
    return torch.ones(agents, agents, dtype=torch.bool).triu(1).tril(1)


def full(agents: int) -> Tensor:
    """Returns the DAG of each agent after all before it, ``[N, N]`` bool."""
    return torch.ones(agents, agents, dtype=torch.bool).triu(1)


class TabularPolicy:
    """Joint softmax policies along one DAG, with logits drawn from N(0, 1).

    Args:
        game: what they play.
        dag: ``G[k, i]`` makes k a parent of i, ``[N, N]`` bool.
        count: K, how many policies.
        generator: source of the logits.

    Raises:
        UserError: a graph with a cycle.
    """

    def __init__(self, game: MarkovGame, dag: Tensor, count: int, generator: torch.Generator):
        if torch.linalg.matrix_power(dag.double(), len(dag)).any():
            raise UserError("the graph has a cycle; a joint policy needs one without")
        self.game, joint = game, game.joint
        self.logits: list[Tensor] = []  # [K, S, C, A_i], C joint choices of the parents
        self.context: list[Tensor] = []  # [A]: the parents' joint choice in a joint action
        for agent, size in enumerate(game.choices):
            parents = dag[:, agent].nonzero().flatten().tolist()
            context, contexts = torch.zeros(len(joint), dtype=torch.int64), 1
            for parent in parents:
                context = context * game.choices[parent] + joint[:, parent]
                contexts *= game.choices[parent]
            shape = (count, len(game.start), contexts, size)
            logits = torch.randn(shape, generator=generator, dtype=torch.float64)
            self.logits.append(logits.requires_grad_())
            self.context.append(context)

    def conditionals(self) -> list[Tensor]:
        """Returns pi_i(a_i | s, a_parents) of each agent at every joint action, ``[K, S, A]``."""
        joint = self.game.joint
        return [
            logits.softmax(-1)[..., context, joint[:, agent]]
            for agent, (logits, context) in enumerate(zip(self.logits, self.context, strict=True))
        ]

    def probabilities(self) -> Tensor:
        """Returns the probabilities of joint actions, ``[K, S, A]``."""
        return torch.stack(self.conditionals()).prod(0)

    @torch.no_grad()
    def nash_gap(self) -> Tensor:
        """Returns the most that any agent alone could add to J, ``[K]``.

        The agent responds to its parents' actions, and its children respond to it as before.
        """
        current = self.game.objective(self.probabilities())
        best = torch.stack([self._best_response(i) for i in range(len(self.logits))])
        return (best - current).amax(0)

    def _best_response(self, agent: int) -> Tensor:
        """Returns J ``[K]`` of the agent's best response to the others, by policy iteration."""
        conditionals, joint = self.conditionals(), self.game.joint
        others = [c for i, c in enumerate(conditionals) if i != agent]
        rest = torch.stack(others).prod(0) if others else torch.ones_like(conditionals[0])
        logits, context = self.logits[agent], self.context[agent]
        column = context * logits.shape[-1] + joint[:, agent]  # [A], of C * A_i
        response, before = conditionals[agent], None
        while True:
            value = self.game.value(response * rest)
            objective = value @ self.game.start
            if before is not None and torch.all(objective <= before + 1e-10):
                return before
            before = objective
            weighted = rest * self.game.action_value(value)  # probability of the others times Q
            q = torch.zeros(*weighted.shape[:-1], logits.shape[-2] * logits.shape[-1]).double()
            q = q.index_add(-1, column, weighted).unflatten(-1, logits.shape[-2:])
            choice = torch.nn.functional.one_hot(q.argmax(-1), logits.shape[-1]).double()
            response = choice[..., context, joint[:, agent]]


def ascend(policy: TabularPolicy, steps: int, lr: float = 0.01) -> Tensor:
    """Takes steps of plain gradient ascent on the sum of V over all states.

    With many states the gradient of J would hardly move any.

    Args:
        policy: K policies, which it changes.
        steps: how many.
        lr: learning rate.

    Returns:
        J before the first step and after each, ``[steps + 1, K]``.
    """
    objectives = []
    for step in range(steps + 1):
        value = policy.game.value(policy.probabilities())
        objectives.append(value.detach() @ policy.game.start)
        if step < steps:
            gradients = torch.autograd.grad(value.sum(), policy.logits)
            with torch.no_grad():
                for logits, gradient in zip(policy.logits, gradients, strict=True):
                    logits += lr * gradient
    return torch.stack(objectives)
