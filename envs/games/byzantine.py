"""The two-state game ``games/byzantine`` of EIR-MAPPO, in which a partner may be a traitor.

- **Task**: two agents see one bit. At 0 they earn by equal actions, at 1 by different ones.
- **Agents**: ``agent_0`` and ``agent_1``.
- **Observation**, ``[5]``: index 0 is the bit, 1 the agent's number (0 or 1), 2 the bit a step
  before, 3 and 4 the last actions of both agents (0 at the start); with ``history=false`` ``[2]``,
  the first two.
- **Actions**: Discrete(2).
- **Reward**, shared: 1 at bit 0 for equal actions, which make the bit 1, and at bit 1 for different
  actions, which keep it; else 0, and the next bit is 0.
- **Episode**: 100 steps, then a truncation; the first bit is 0 or 1 with probability 1/2.

The best return is 100, 1 in each step. An agent that plays uniformly at random earns each step's
reward with probability 1/2 whatever the other does, even one that knows this: 50 is guaranteed, and
no more can be. A deterministic agent can be held to 0.

Source: the code of Li et al., "Byzantine robust cooperative multi-agent reinforcement learning as a
Bayesian game", ICLR 2024. Here the traitor is not part of the environment but of the setup, for
instance by ``task.groups`` and ``teams``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_switch
from marl.envs.games.game import Game, Outcome, Scene, agent_names, shared_reward
from marl.envs.games.render import BITS, Table
from marl.types import register


@register
@dataclass(frozen=True)
class State:
    """State of the game.

    Attributes:
        bit: the bit, ``[B]`` int64.
        before: the bit a step before, ``[B]`` int64; the same at the start.
        played: actions of the last step, ``[B, 2]`` int64; 0 at the start.
    """

    bit: Tensor
    before: Tensor
    played: Tensor


class Byzantine(Game[State]):
    """The two-state game; rules, best returns and source are the module's.

    Args:
        history: whether agents see the bit before and both last actions too, as in the authors'
            setting; else the bit and their own number only.

    Raises:
        UserError: ``history`` is neither true nor false.
    """

    agents = agent_names(2)
    choices = (2, 2)
    length = 100
    start_noise = 1
    measures: ClassVar = {"ones": "mean"}  # share of the steps that led to 1

    def __init__(self, history: bool = True) -> None:
        check_switch("history", history)
        self.history, self.obs_size = history, 5 if history else 2

    def bind(self, device: torch.device) -> None:
        self.numbers = torch.arange(2.0, device=device)

    def start(self, noise: Tensor) -> State:
        bit = (noise[:, 0] < 0.5).long()
        return State(bit, bit, bit.new_zeros(len(bit), 2))

    def advance(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Outcome]:
        equal = action[:, 0] == action[:, 1]
        success = equal == (state.bit == 0)  # the bit is 1 exactly after a reward
        next_state = State(success.long(), state.bit, action)
        return next_state, Outcome(shared_reward(success, 2), [success])

    def observe(self, state: State) -> Tensor:
        bit = state.bit.float().unsqueeze(-1)  # [B, 1]
        present = torch.stack([bit.expand(-1, 2), self.numbers.expand(len(bit), 2)], dim=-1)
        if not self.history:
            return present  # [B, N, 2]
        past = torch.cat([state.before.unsqueeze(-1), state.played], dim=-1).float()  # [B, 3]
        return torch.cat([present, past.unsqueeze(1).expand(-1, 2, -1)], dim=-1)

    def picture(self, scene: Scene) -> Table:
        before, played, bit = int(scene.state.before), scene.action, int(scene.state.bit)
        past = [BITS[before], *(BITS[a] for a in played)] if played else [None] * 3
        legend = "at 0 equal actions earn, at 1 different ones"
        return Table([[*past, BITS[bit]]], (), ("state", *self.agents, "new state"), legend)
