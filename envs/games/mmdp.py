"""The two-state game ``games/mmdp`` of QPLEX, in which sums of utilities diverge off policy.

- **Task**: both agents stay in the good state by playing 0, all the time.
- **Agents**: ``agent_0`` and ``agent_1``.
- **Observation**, ``[2]``: one-hot of the state, 0 good and 1 lost; the environment's state too.
- **Actions**: Discrete(2).
- **Reward**, shared: in the good state 1 if both play 0, who stay there; 0 if one of them does, and
  they stay; 0 if both play 1, and the state is lost, for good. In the lost state 0.
- **Episode**: 100 steps, then a truncation.

The best return is 100. Uniform play earns 1/4 in every step in the good state and loses it with the
same probability: 1 - 0.75^100 in the mean, almost 1.

Source: the authors' code of Wang et al., "QPLEX: Duplex dueling multi-agent Q-learning", ICLR 2021,
``mmdp_game_1``. There the end after 100 steps is a termination that agents do not see; here it is a
truncation, which is bootstrapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from marl.envs.games.game import Game, Outcome, Scene, agent_names, shared_reward
from marl.envs.games.render import BAD, FAINT, GOOD, INK, Cell, Table
from marl.types import register


@register
@dataclass(frozen=True)
class State:
    """State of the game.

    Attributes:
        lost: 0 good or 1 lost, ``[B]`` int64.
    """

    lost: Tensor


class TwoStateMdp(Game[State]):
    """The two-state game; rules, best return and source are the module's."""

    agents = agent_names(2)
    choices = (2, 2)
    obs_size = state_size = 2
    length = 100
    measures: ClassVar = {"good": "mean"}  # share of the steps that led to the good state

    def start(self, noise: Tensor) -> State:
        return State(torch.zeros(len(noise), dtype=torch.int64, device=noise.device))

    def advance(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Outcome]:
        ones = action.sum(-1)
        good = state.lost == 0
        stays = good & (ones < 2)
        reward = shared_reward(good & (ones == 0), 2)
        return State((~stays).long()), Outcome(reward, [stays])

    def observe(self, state: State) -> Tensor:
        return self.global_state(state).unsqueeze(1).expand(-1, 2, -1)

    def global_state(self, state: State) -> Tensor:
        return one_hot(state.lost, 2).float()

    def picture(self, scene: Scene) -> Table:
        lost = bool(scene.state.lost)
        fills = {(0, 0): GOOD, (1, 1): BAD}
        cells = [
            [
                Cell(
                    _result(i, j), fills.get((i, j), FAINT), INK if [i, j] == scene.action else None
                )
                for j in range(2)
            ]
            for i in range(2)
        ]
        cells.append([Cell("lost" if lost else "good", BAD if lost else GOOD)])
        rows = ["agent_0: 0", "agent_0: 1", "state"]
        columns = ["agent_1: 0", "agent_1: 1"]
        return Table(cells, rows, columns, "what pays in the good state; framed: what they played")


def _result(first: int, second: int) -> str:
    """Returns what a joint action does in the good state."""
    return {0: "1", 1: "0", 2: "lost"}[first + second]
