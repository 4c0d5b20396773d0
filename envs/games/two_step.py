"""The two-step game ``games/two_step`` of QMIX: the better half needs more than a sum of utilities.

- **Task**: agent_0 chooses between two matrix games, which both agents then play once.
- **Agents**: ``agent_0`` and ``agent_1``.
- **Observation**, ``[3]``: one-hot of the stage: 0 the first step, 1 game 2A, 2 game 2B. It is the
  environment's state too.
- **Actions**: Discrete(2). In the first step agent_0 leads by 0 to 2A and by 1 to 2B, whatever
  agent_1 plays.
- **Reward**, shared: 0 in the first step. 2A pays 7 always, 2B ``[[0, 1], [1, 8]]``.
- **Episode**: two steps, then a termination; with more ``task.max_steps`` the game begins again
  every two steps, and is truncated at the end.

The best return is 8. On uniform data the best sum of utilities (VDN) values 2B as [[-1.5, 2.5],
[2.5, 6.5]], and an agent alone (IQL) expects at most 4.5 there: both lead to 2A, where 7 is safe. A
monotone function (QMIX) has the payoffs of 2B exactly, and plays 8.

Source: Rashid et al., "QMIX: Monotonic value function factorisation for deep multi-agent
reinforcement learning", ICML 2018, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from marl.envs.games.game import Game, Outcome, Scene, agent_names, shared_reward
from marl.envs.games.render import INK, Cell, Table, shade
from marl.types import register

# What pays at each stage, [stage][action of agent_0][action of agent_1].
PAYOFFS = (((0, 0), (0, 0)), ((7, 7), (7, 7)), ((0, 1), (1, 8)))
BEST = 8
TEXTS = ((("2A", "2A"), ("2B", "2B")), *(tuple(tuple(map(str, r)) for r in p) for p in PAYOFFS[1:]))
LEGENDS = (
    "first step: where it leads; framed: what they played",
    "game 2A: payoff of both; framed: what they played",
    "game 2B: payoff of both; framed: what they played",
)


@register
@dataclass(frozen=True)
class State:
    """State of the game.

    Attributes:
        stage: 0, or 1 and 2 for the games 2A and 2B, ``[B]`` int64.
        before: the stage a step before, ``[B]`` int64; 0 at the start.
    """

    stage: Tensor
    before: Tensor


class TwoStep(Game[State]):
    """The two-step game; rules, best return and source are the module's."""

    agents = agent_names(2)
    choices = (2, 2)
    obs_size = state_size = 3
    length = 2
    final = True
    measures: ClassVar = {
        "chose_b": "last",  # whether 2B was played
        "optimal": "last",  # whether it paid 8
    }

    def bind(self, device: torch.device) -> None:
        self.payoffs = torch.tensor(PAYOFFS, dtype=torch.float32, device=device)

    def start(self, noise: Tensor) -> State:
        stage = torch.zeros(len(noise), dtype=torch.int64, device=noise.device)
        return State(stage, stage)

    def advance(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Outcome]:
        earned = self.payoffs[state.stage, action[:, 0], action[:, 1]]
        stage = torch.where(state.stage == 0, 1 + action[:, 0], 0)
        outcome = Outcome(shared_reward(earned, 2), [state.stage == 2, earned == BEST])
        return State(stage, state.stage), outcome

    def observe(self, state: State) -> Tensor:
        return self.global_state(state).unsqueeze(1).expand(-1, 2, -1)

    def global_state(self, state: State) -> Tensor:
        return one_hot(state.stage, 3).float()

    def picture(self, scene: Scene) -> Table:
        stage = int(scene.state.before)  # 0 at the start, too
        cells = [
            [
                Cell(text, shade(pay, 0, BEST), INK if [i, j] == scene.action else None)
                for j, (text, pay) in enumerate(zip(texts, row, strict=True))
            ]
            for i, (texts, row) in enumerate(zip(TEXTS[stage], PAYOFFS[stage], strict=True))
        ]
        columns = ["agent_1: 0", "agent_1: 1"]
        return Table(cells, ["agent_0: 0", "agent_0: 1"], columns, LEGENDS[stage])
