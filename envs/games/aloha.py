"""Slotted Aloha on a grid: who sends at the same time as a neighbour loses its packet's slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count, check_number, check_switch
from marl.envs.games.game import Game, Outcome, Scene, numbered, shared
from marl.envs.games.render import BAD, FAINT, GOOD, INK, Cell, Colour, Table
from marl.types import register

SUCCESS, FAILURE = 0.1, -10.0  # rewards


@register
@dataclass(frozen=True)
class State:
    backlog: Tensor  # [B, N] int64 packets that wait
    fate: Tensor  # [B, N] int64 of the last step: 1 sent, -1 collided, 0 neither


class Aloha(Game[State]):
    """``rows * columns`` agents in a grid, row by row, each with packets to send and each seeing
    the number of its own only. An agent stays idle (0) or sends (1). A packet is sent where no
    neighbour sends at the same time; it collides and stays otherwise. A neighbour that sends
    without a packet disturbs all the same, and loses nothing. Everybody earns 0.1 for each packet
    sent by anyone and -10 for each that collided. Then a new packet arrives at each agent with
    probability ``arrival``, unless ``capacity`` of them wait.

    At most every second agent sends: at most 0.5 a step, 10 in the 20 steps of the 2 x 5 grid. Two
    halves in turns, as on a chessboard, earn 9.549 on average. Where all send always, each of the
    10 collides in the first step: -100.

    From the code of Wang et al., "Context-aware sparse deep coordination graphs", ICLR 2022, which
    Chen & Zhang (ICML 2023) use unchanged: one packet in the beginning, 20 steps. There the
    last of a row and the first of the next are neighbours too, which a grid does not say.

    Args:
        wrap: keep those neighbours of the authors' code; else the grid's only.
        arrival: probability.
        capacity: packets that can wait at an agent.

    Raises:
        UserError: a value out of range.
    """

    sight = 1
    length = 20
    measures: ClassVar = {
        "sent": "sum",  # packets
        "collided": "sum",  # packets
        "backlog": "mean",  # packets that wait after a step, all agents'
    }

    def __init__(
        self,
        rows: int = 2,
        columns: int = 5,
        wrap: bool = True,
        arrival: float = 0.6,
        capacity: int = 5,
    ) -> None:
        check_count("rows", rows)
        check_count("columns", columns)
        check_switch("wrap", wrap)
        check_number("arrival", arrival, 0, 1)
        check_count("capacity", capacity)
        self.rows, self.columns, self.wrap = rows, columns, wrap
        self.arrival, self.capacity = arrival, capacity
        self.size = self.step_noise = rows * columns
        self.agents, self.choices = numbered(self.size), (2,) * self.size

    def bind(self, device: torch.device) -> None:
        place = torch.arange(self.size)
        row, column = place // self.columns, place % self.columns
        apart = (row - row[:, None]).abs() + (column - column[:, None]).abs()
        near = apart == 1
        if self.wrap:
            near |= (place - place[:, None]).abs() == 1
        self.near = near.float().to(device)  # [N, N]

    def start(self, noise: Tensor) -> State:
        backlog = torch.ones(len(noise), self.size, dtype=torch.int64, device=noise.device)
        return State(backlog, torch.zeros_like(backlog))

    def advance(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Outcome]:
        tries = (action == 1) & (state.backlog > 0)
        disturbed = action.float() @ self.near > 0
        sent, collided = tries & ~disturbed, tries & disturbed
        arrived = noise < self.arrival
        backlog = (state.backlog - sent.long() + arrived.long()).clamp(max=self.capacity)
        gained, lost = sent.sum(-1), collided.sum(-1)  # [B]
        reward = shared(SUCCESS * gained + FAILURE * lost, self.size)
        moved = State(backlog, sent.long() - collided.long())
        return moved, Outcome(reward, (gained, lost, backlog.sum(-1)))

    def observe(self, state: State) -> Tensor:
        return state.backlog.float().unsqueeze(-1)

    def picture(self, scene: Scene) -> Table:
        backlog, fate = scene.state.backlog.tolist(), scene.state.fate.tolist()
        played = scene.action or [0] * self.size
        cells = [
            Cell(str(packets), self._fill(packets), _edge(end, sends))
            for packets, end, sends in zip(backlog, fate, played, strict=True)
        ]
        wide = self.columns
        grid = [cells[first : first + wide] for first in range(0, self.size, wide)]
        return Table(
            grid, legend="packets that wait; green: sent, red: collided, dark: sent nothing"
        )

    def _fill(self, packets: int) -> Colour:
        """Bluer, the more packets wait."""
        share = packets / self.capacity
        red, green, blue = FAINT
        return round(red - 120 * share), round(green - 60 * share), blue


def _edge(fate: int, sends: int) -> Colour | None:
    """How the last step ended for an agent."""
    if not sends:
        return None
    return {1: GOOD, -1: BAD}.get(fate, INK)
