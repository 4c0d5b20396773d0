"""Cooperative matrix games: everybody chooses once, at the same time, and all earn the same."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count, check_number
from marl.envs.games.game import Game, Outcome, Scene, numbered, shared
from marl.envs.games.render import INK, Cell, Table, shade
from marl.errors import UserError
from marl.types import register

LARGEST = 10_000_000  # entries of a payoff tensor

CLIMBING = ((11, -30, 0), (-30, 7, 6), (0, 0, 5))


@register
@dataclass(frozen=True)
class State:
    one: Tensor  # [B, N, 1] what everybody sees, always 1


class Matrix(Game[State]):
    """``payoff[a_0][a_1]...`` is what everybody earns where agent ``i`` plays ``a_i``: nested
    lists, as deep as there are agents. The best is its largest entry.

    All see the constant 1. An episode is one step and ends in a termination; with more
    ``max_steps`` the same game is repeated, without a memory of its own, and truncated at last.

    Raises:
        UserError: lists of different lengths in one depth, or something in them that is no number.
    """

    sight = 1
    length = 1
    final = True
    measures: ClassVar = {"optimal": "mean"}  # share of the steps that earned the largest payoff

    def __init__(self, payoff: Any = ((1, 0), (0, 1))) -> None:
        try:
            self.payoff = torch.as_tensor(payoff, dtype=torch.float32)  # [A_0, ..., A_N-1]
        except (TypeError, ValueError) as error:
            raise UserError(
                f"payoff={payoff!r} must be nested lists of numbers, all those in one depth "
                "of the same length, as [[1,0],[0,1]]"
            ) from error
        if not self.payoff.dim() or not self.payoff.numel() or not self.payoff.isfinite().all():
            raise UserError(
                f"payoff={payoff!r} must be finite numbers in at least one list, as [[1,0],[0,1]]"
            )
        self.choices = tuple(self.payoff.shape)
        self.agents = numbered(len(self.choices))
        self.best = self.payoff.max().item()

    def bind(self, device: torch.device) -> None:
        self.flat = self.payoff.flatten().to(device)
        self.strides = torch.tensor(self.payoff.contiguous().stride(), device=device)  # [N]

    def start(self, noise: Tensor) -> State:
        return State(noise.new_ones(noise.shape[0], len(self.agents), 1))

    def advance(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Outcome]:
        earned = self.flat[(action * self.strides).sum(-1)]  # [B]
        return state, Outcome(shared(earned, len(self.agents)), [earned >= self.best])

    def observe(self, state: State) -> Tensor:
        return state.one

    def picture(self, scene: Scene) -> Table:
        if len(self.agents) != 2:
            return _choices(self.choices, scene.action)
        least, most = self.payoff.min().item(), self.best
        cells = [
            [
                Cell(f"{value:.3g}", shade(value, least, most), _edge([i, j] == scene.action))
                for j, value in enumerate(row)
            ]
            for i, row in enumerate(self.payoff.tolist())
        ]
        rows, columns = self.choices
        return Table(
            cells,
            [f"agent_0: {i}" for i in range(rows)],
            [f"agent_1: {j}" for j in range(columns)],
            "what both earn; framed: what they played",
        )


class Climbing(Matrix):
    """The climbing game (Claus & Boutilier 1998): the best is 11, and next to it lies -30.

    Equilibria are (0, 0) with 11 and (1, 1) with 7. Uniform play earns -31/9, and against a uniform
    partner the third action pays best, 5/3 to agent_0 and 11/3 to agent_1 on average."""

    def __init__(self) -> None:
        super().__init__(CLIMBING)


class Penalty(Matrix):
    """The penalty game (Claus & Boutilier 1998): 10 in two corners, ``penalty`` in the other two, 2
    in the middle, 0 elsewhere. The best is 10; uniform play earns (22 + 2 penalty) / 9.

    Args:
        penalty: k of the paper, at most 0, for those who aim at different corners.
    """

    def __init__(self, penalty: float = -100.0) -> None:
        check_number("penalty", penalty, high=0)
        super().__init__(((10, 0, penalty), (0, 2, 0), (penalty, 0, 10)))


class Random(Matrix):
    """Payoffs drawn uniformly from [0, 1), the same for every copy and run with this ``seed``.
    The best is their largest; uniform play earns their mean.

    Args:
        agents, actions: N and A; A ** N payoffs are held, at most ten million.
        seed: of the payoffs alone.
    """

    def __init__(self, agents: int = 2, actions: int = 3, seed: int = 0) -> None:
        check_count("agents", agents)
        check_count("actions", actions)
        check_count("seed", seed, 0)
        if actions**agents > LARGEST:
            most = max(n for n in range(1, agents) if actions**n <= LARGEST)
            raise UserError(
                f"agents={agents} with actions={actions} makes {actions}^{agents} payoffs, more "
                f"than {LARGEST:,}; at most {most} agents can have as many actions"
            )
        drawn = torch.Generator().manual_seed(seed)
        super().__init__(torch.rand((actions,) * agents, generator=drawn))


def _edge(played: bool) -> tuple[int, int, int] | None:
    return INK if played else None


def _choices(choices: Sequence[int], action: list[int] | None) -> Table:
    """A row for every agent, its actions side by side: for other than two agents."""
    played = itertools.repeat(-1) if action is None else action
    cells = [
        [Cell(str(a), edge=_edge(a == mine)) for a in range(n)]
        for n, mine in zip(choices, played, strict=False)
    ]
    return Table(cells, numbered(len(choices)), (), "framed: what they played")
