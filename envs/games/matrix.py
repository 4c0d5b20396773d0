"""Matrix games: ``games/matrix``, ``climbing``, ``penalty``, ``qtran``, ``qplex`` and ``random``.

- **Task**: all agents choose once, at the same time, and earn the same payoff.
- **Agents**: ``agent_0`` to ``agent_{N-1}``; two in all but matrix and random.
- **Observation**, ``[1]``: index 0 is the constant 1.
- **Actions**: Discrete, as many as the payoff tensor's axis of the agent has entries.
- **Reward**: ``payoff[a_0][a_1]...``, shared by all.
- **Episode**: one step, then a termination; with more ``task.max_steps`` the same game is repeated,
  without memory of its own, and truncated at the end.

The best return is the largest payoff, times ``task.max_steps`` where the game is repeated.

Sources: climbing and penalty are from Claus & Boutilier 1998, "The dynamics of reinforcement
learning in cooperative multiagent systems"; the payoffs are theirs. The package matrix-games, which
EPyMARL plays over 25 steps, has both with other names of actions and agents: the rows of its
climbing are columns here, and its penalty counts one agent's actions backwards. What can be earned
is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count, check_number
from marl.envs.games.game import Game, Outcome, Scene, agent_names, shared_reward
from marl.envs.games.render import INK, Cell, Table, shade
from marl.errors import UserError
from marl.types import register

MAX_PAYOFFS = 10_000_000  # entries of a payoff tensor

CLIMBING = ((11, -30, 0), (-30, 7, 6), (0, 0, 5))
QTRAN = ((8, -12, -12), (-12, 0, 0), (-12, 0, 0))
QPLEX = ((8, -12, -12), (-12, 6, 0), (-12, 0, 6))


@register
@dataclass(frozen=True)
class State:
    """State of a matrix game, which never changes.

    Attributes:
        one: the observation, always 1, ``[B, N, 1]``.
    """

    one: Tensor


class Matrix(Game[State]):
    """A matrix game with any payoffs; the best return is the largest of them.

    Args:
        payoff: ``payoff[a_0][a_1]...`` is what all agents earn where agent i plays a_i: nested
            lists of numbers, one level for each agent.

    Raises:
        UserError: lists of different lengths on one level, or entries that are not finite numbers.
    """

    obs_size = 1
    length = 1
    final = True
    measures: ClassVar = {"optimal": "mean"}  # share of the steps that earned the largest payoff

    def __init__(self, payoff: Any = ((1, 0), (0, 1))) -> None:
        try:
            self.payoff = torch.as_tensor(payoff, dtype=torch.float32)  # [A_0, ..., A_N-1]
        except (TypeError, ValueError) as error:
            raise UserError(
                f"payoff={payoff!r} must be nested lists of numbers, all those on one level "
                "of the same length, such as [[1,0],[0,1]]"
            ) from error
        if not self.payoff.dim() or not self.payoff.numel() or not self.payoff.isfinite().all():
            raise UserError(
                f"payoff={payoff!r} must be finite numbers in at least one list, such as "
                "[[1,0],[0,1]]"
            )
        self.choices = tuple(self.payoff.shape)
        self.agents = agent_names(len(self.choices))
        self.best = self.payoff.max().item()

    def bind(self, device: torch.device) -> None:
        self.flat = self.payoff.flatten().to(device)
        self.strides = torch.tensor(self.payoff.contiguous().stride(), device=device)  # [N]

    def start(self, noise: Tensor) -> State:
        return State(noise.new_ones(noise.shape[0], len(self.agents), 1))

    def advance(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Outcome]:
        earned = self.flat[(action * self.strides).sum(-1)]  # [B]
        return state, Outcome(shared_reward(earned, len(self.agents)), [earned >= self.best])

    def observe(self, state: State) -> Tensor:
        return state.one

    def picture(self, scene: Scene) -> Table:
        if len(self.agents) != 2:
            return _choices(self.choices, scene.action)
        least, largest = self.payoff.min().item(), self.best
        cells = [
            [
                Cell(f"{value:.3g}", shade(value, least, largest), _edge([i, j] == scene.action))
                for j, value in enumerate(row)
            ]
            for i, row in enumerate(self.payoff.tolist())
        ]
        rows, columns = self.choices
        return Table(
            cells,
            [f"agent_0: {i}" for i in range(rows)],
            [f"agent_1: {j}" for j in range(columns)],
            "payoff of both; framed: what they played",
        )


class Climbing(Matrix):
    """The climbing game (Claus & Boutilier 1998): the best payoff 11 lies next to -30.

    Equilibria are (0, 0) with 11 and (1, 1) with 7. Uniform play earns -31/9 in the mean. Against a
    uniform partner the third action pays best, 5/3 to agent_0 and 11/3 to agent_1 in the mean.
    """

    def __init__(self) -> None:
        super().__init__(CLIMBING)


class Penalty(Matrix):
    """The penalty game (Claus & Boutilier 1998): 10 in two corners, ``penalty`` in the other two.

    The middle pays 2, all else 0. The best return is 10; uniform play earns (22 + 2 penalty) / 9 in
    the mean.

    Args:
        penalty: k of the paper, at most 0: the payoff where agents aim at different corners.

    Raises:
        UserError: ``penalty`` above 0, or no number.
    """

    def __init__(self, penalty: float = -100.0) -> None:
        check_number("penalty", penalty, high=0)
        super().__init__(((10, 0, penalty), (0, 2, 0), (penalty, 0, 10)))


class Qtran(Matrix):
    """The matrix game of QTRAN (Son et al. 2019): 8 in a corner beside -12, and 0 elsewhere.

    Equilibria are (0, 0) with 8, and every joint action of 1 and 2 with 0. Uniform play earns -40/9
    in the mean. On uniform data the nearest sum of utilities (VDN) is lowest in (0, 0), and its
    greedy actions earn 0. The nearest monotone function earns 8 (squared error 288 over the nine
    payoffs), but QMIX usually learns another one, that of the other order of actions, which earns 0
    (320).
    """

    def __init__(self) -> None:
        super().__init__(QTRAN)


class Qplex(Matrix):
    """The second matrix game of QPLEX (Wang et al. 2021): 8 in a corner beside -12, and two 6.

    Equilibria are (0, 0) with 8, and (1, 1) and (2, 2) with 6. Uniform play earns -28/9 in the
    mean. On uniform data the greedy actions of the nearest monotone function earn 6 (squared error
    344 over the nine payoffs), and those of the nearest sum of utilities no more (580.44).
    """

    def __init__(self) -> None:
        super().__init__(QPLEX)


class Random(Matrix):
    """Payoffs drawn uniformly from [0, 1), the same in every copy and run with this ``seed``.

    The best return is the largest payoff; uniform play earns their mean.

    Args:
        agents: N.
        actions: A, of every agent; at most ten million payoffs ``A ** N``.
        seed: of the payoffs only.

    Raises:
        UserError: a value out of range, or too many payoffs.
    """

    def __init__(self, agents: int = 2, actions: int = 3, seed: int = 0) -> None:
        check_count("agents", agents)
        check_count("actions", actions)
        check_count("seed", seed, 0)
        if actions**agents > MAX_PAYOFFS:
            limit = max(n for n in range(1, agents) if actions**n <= MAX_PAYOFFS)
            raise UserError(
                f"agents={agents} with actions={actions} makes {actions}^{agents} payoffs, more "
                f"than {MAX_PAYOFFS:,}; at most {limit} agents can have as many actions"
            )
        generator = torch.Generator().manual_seed(seed)
        super().__init__(torch.rand((actions,) * agents, generator=generator))


def _edge(played: bool) -> tuple[int, int, int] | None:
    """Returns the frame of a cell that was played."""
    return INK if played else None


def _choices(choices: Sequence[int], action: list[int] | None) -> Table:
    """Returns a table with a row of actions for each agent, where there are not two agents."""
    played = itertools.repeat(-1) if action is None else action
    cells = [
        [Cell(str(a), edge=_edge(a == mine)) for a in range(n)]
        for n, mine in zip(choices, played, strict=False)
    ]
    return Table(cells, agent_names(len(choices)), (), "framed: what they played")
