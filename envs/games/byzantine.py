"""The two-state toy game of EIR-MAPPO (Li et al. 2024), in which a partner may be a traitor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_switch
from marl.envs.games.game import Game, Outcome, Scene, numbered, shared
from marl.envs.games.render import BITS, Table
from marl.types import register


@register
@dataclass(frozen=True)
class State:
    bit: Tensor  # [B] int64
    before: Tensor  # [B] int64 a step ago; the same in the beginning
    played: Tensor  # [B, 2] int64 in the last step; 0 in the beginning


class Byzantine(Game[State]):
    """Two agents, two actions, one bit that both see, drawn evenly in the beginning. At 0 they earn
    1 by equal actions, which make the bit 1; at 1 they earn 1 by different actions, which keep it.
    Otherwise both earn 0, and the bit is 0 next.

    The best earns 1 in each of the 100 steps: 100. An agent that plays uniformly at random gets
    each step's reward with probability 1/2 whatever the other does, also one that knows this: 50 is
    what it guarantees, and no more can be guaranteed; a deterministic agent can be held to 0.

    From the code of Li et al., "Byzantine robust cooperative multi-agent reinforcement learning as
    a Bayesian game", ICLR 2024. Who is a traitor is for the algorithm to say, for instance with
    ``task.groups`` and ``teams``.

    Args:
        history: agents see the bit before and both last actions, too, as in the authors' setting;
            else the bit and their own number only.

    Raises:
        UserError: ``history`` is neither true nor false.
    """

    agents = numbered(2)
    choices = (2, 2)
    length = 100
    start_noise = 1
    measures: ClassVar = {"ones": "mean"}  # share of the steps that led to 1

    def __init__(self, history: bool = True) -> None:
        check_switch("history", history)
        self.history, self.sight = history, 5 if history else 2

    def bind(self, device: torch.device) -> None:
        self.numbers = torch.arange(2.0, device=device)

    def start(self, noise: Tensor) -> State:
        bit = (noise[:, 0] < 0.5).long()
        return State(bit, bit, bit.new_zeros(len(bit), 2))

    def advance(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Outcome]:
        equal = action[:, 0] == action[:, 1]
        earned = equal == (state.bit == 0)  # and the bit is 1 exactly after a reward
        moved = State(earned.long(), state.bit, action)
        return moved, Outcome(shared(earned, 2), [earned])

    def observe(self, state: State) -> Tensor:
        bit = state.bit.float().unsqueeze(-1)  # [B, 1]
        own = [bit.expand(-1, 2), self.numbers.expand(len(bit), 2)]  # [B, N] each
        if not self.history:
            return torch.stack(own, dim=-1)
        past = torch.cat([state.before.unsqueeze(-1), state.played], dim=-1).float()  # [B, 3]
        return torch.cat([torch.stack(own, dim=-1), past.unsqueeze(1).expand(-1, 2, -1)], dim=-1)

    def picture(self, scene: Scene) -> Table:
        before, played, bit = int(scene.state.before), scene.action, int(scene.state.bit)
        past = [BITS[before], *(BITS[a] for a in played)] if played else [None] * 3
        legend = "at 0 equal actions earn, at 1 different ones"
        return Table([[*past, BITS[bit]]], (), ("state", *self.agents, "new state"), legend)
