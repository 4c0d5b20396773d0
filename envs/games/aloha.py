"""Slotted Aloha on a grid, ``games/aloha``: neighbours that send at the same time collide.

- **Task**: agents with queues of packets share a channel with their neighbours.
- **Agents**: ``agent_0`` to ``agent_{N-1}``, N = rows * columns, in the grid row by row.
- **Observation**, ``[1]``: index 0 is the number of the agent's own packets.
- **Actions**: Discrete(2), 0 stays idle and 1 sends. A packet is sent where no neighbour sends at
  the same time; else it collides and stays. A neighbour that sends without a packet disturbs all
  the same, and loses nothing.
- **Reward**, shared: 0.1 for each packet sent by anyone, -10 for each that collided. Then a new
  packet arrives at each agent with probability ``arrival``, unless it has ``capacity`` of them.
- **Episode**: 20 steps, then a truncation; it begins with one packet at each agent.

At most every second agent can send: at most 0.5 a step, 10 in the 20 steps of the 2 x 5 grid. Two
halves in turn, as on a chessboard, earn 9.549 in the mean. Where all always send, each of the 10
collides in the first step: -100.

Source: the code of Wang et al., "Context-aware sparse deep coordination graphs", ICLR 2022, which
Chen & Zhang (ICML 2023) use unchanged. There the last agent of a row and the first of the next are
neighbours too, which a grid would not have; ``wrap=false`` removes that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count, check_number, check_switch
from marl.envs.games.game import Game, Outcome, Scene, agent_names, shared_reward
from marl.envs.games.render import BAD, FAINT, GOOD, INK, Cell, Colour, Table
from marl.types import register

SUCCESS, FAILURE = 0.1, -10.0  # rewards of a packet


@register
@dataclass(frozen=True)
class State:
    """State of the queues.

    Attributes:
        backlog: number of waiting packets, ``[B, N]`` int64.
        fate: result of the last step, 1 sent, -1 collided, 0 neither, ``[B, N]`` int64.
    """

    backlog: Tensor
    fate: Tensor


class Aloha(Game[State]):
    """Slotted Aloha on a grid; rules, best returns and source are the module's.

    Args:
        rows: rows of the grid.
        columns: columns of the grid.
        wrap: whether the last agent of a row and the first of the next are neighbours, as in the
            authors' code.
        arrival: probability of a new packet, for each agent and step.
        capacity: most packets that can wait at an agent.

    Raises:
        UserError: a value out of range.
    """

    obs_size = 1
    length = 20
    measures: ClassVar = {
        "sent": "sum",  # packets
        "collided": "sum",  # packets
        "backlog": "mean",  # waiting packets after a step, of all agents
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
        self.agents, self.choices = agent_names(self.size), (2,) * self.size

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
        arrivals = noise < self.arrival
        backlog = (state.backlog - sent.long() + arrivals.long()).clamp(max=self.capacity)
        successes, collisions = sent.sum(-1), collided.sum(-1)  # [B]
        reward = shared_reward(SUCCESS * successes + FAILURE * collisions, self.size)
        next_state = State(backlog, sent.long() - collided.long())
        return next_state, Outcome(reward, (successes, collisions, backlog.sum(-1)))

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
        return Table(grid, legend="waiting packets; green: sent, red: collided, dark: sent nothing")

    def _fill(self, packets: int) -> Colour:
        """Returns a colour that is the bluer, the more packets wait."""
        share = packets / self.capacity
        red, green, blue = FAINT
        return round(red - 120 * share), round(green - 60 * share), blue


def _edge(fate: int, sends: int) -> Colour | None:
    """Returns the frame of an agent's cell by the result of its last step."""
    if not sends:
        return None
    return {1: GOOD, -1: BAD}.get(fate, INK)
