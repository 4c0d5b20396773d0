"""The coordination game ``games/coordination`` of Chen & Zhang (2023): all agents stand together.

- **Task**: N agents with a bit each; the joint action is best where all bits are 0, and good where
  all are 1.
- **Agents**: ``agent_0`` to ``agent_{N-1}``.
- **Observation**, ``[N]``: index i is the bit of agent i, the same for all.
- **Actions**: Discrete(2). An agent's action becomes its bit, except with probability ``slip``,
  independently, the opposite.
- **Reward**, shared, by the *new* bits: where zeros and ones differ by at most ``l``, 1 if there
  are more ones and else 0; where they differ by more, 3 for more zeros and 2 for more ones.
- **Episode**: 25 steps, then a truncation; a first bit is 0 with probability 1/N.

The next bits do not depend on the bits before, so that the best policy is one joint action for
every step, worth the mean reward over slips. For the paper's N and l all play 0: 2.45 a step for
N=2, 2.216 for N=3, 2.765 for N=5, 2.962 for N=10; times 25 for an episode, times 20 with the
paper's discount 0.95 and no end. That all play 1 is an equilibrium too: 1.65, 1.704, 1.911, 1.986.

Source: the code of Chen & Zhang, "Context-aware Bayesian network actor-critic methods for
cooperative multi-agent reinforcement learning", ICML 2023, as their MAPPO plays it. Their tabular
experiment differs (``marl.envs.games.tabular``): it pays by the bits *before* the step and starts
anywhere with the same probability, so that its value is the reward of the first bits plus 0.95
times that of this game.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count, check_number
from marl.envs.games.game import Game, Outcome, Scene, agent_names, shared_reward
from marl.envs.games.render import BITS, Table
from marl.errors import UserError
from marl.types import register


@register
@dataclass(frozen=True)
class State:
    """State of the coordination game.

    Attributes:
        bits: 0 or 1 of every agent, ``[B, N]`` int64.
    """

    bits: Tensor


class Coordination(Game[State]):
    """The coordination game; rules, best returns and source are the module's.

    Args:
        N: number of agents, at least 2.
        l: margin by which zeros and ones must differ to earn 2 or 3. The paper has 1, 1, 2 and 3
            for 2, 3, 5 and 10 agents; None for N / 4 rounded up, which is the same.
        slip: probability that a bit is not the action, at most 1/2.

    Raises:
        UserError: a value out of range.
    """

    length = 25
    measures: ClassVar = {"best": "mean"}  # share of the steps that earned 3

    def __init__(self, N: int = 3, l: int | None = None, slip: float = 0.1) -> None:  # noqa: E741  # the paper's letter
        check_count("N", N, 2)
        self.margin = -(-N // 4) if l is None else l
        check_count("l", self.margin, 0)
        if self.margin >= N:
            raise UserError(f"l={l} must be less than N={N}: with more, nothing earns 2 or 3")
        check_number("slip", slip, 0, 0.5)
        self.size, self.slip = N, slip
        self.agents, self.choices = agent_names(N), (2,) * N
        self.obs_size = self.start_noise = self.step_noise = N

    def bind(self, device: torch.device) -> None:
        table = [self.reward(ones) for ones in range(self.size + 1)]
        self.rewards = torch.tensor(table, device=device)  # by the number of ones

    def reward(self, ones: int) -> float:
        """Returns the shared reward where so many bits are 1."""
        zeros = self.size - ones
        if abs(zeros - ones) <= self.margin:
            return float(ones > zeros)
        return 3.0 if zeros > ones else 2.0

    def start(self, noise: Tensor) -> State:
        return State((noise >= 1 / self.size).long())

    def advance(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Outcome]:
        bits = torch.where(noise < self.slip, 1 - action, action)
        earned = self.rewards[bits.sum(-1)]
        return State(bits), Outcome(shared_reward(earned, self.size), [earned == 3])

    def observe(self, state: State) -> Tensor:
        return state.bits.float().unsqueeze(1).expand(-1, self.size, -1)

    def picture(self, scene: Scene) -> Table:
        played = [BITS[a] for a in scene.action] if scene.action else [None] * self.size
        cells = [played, [BITS[bit] for bit in scene.state.bits.tolist()]]
        legend = f"zeros and ones must differ by more than {self.margin}"
        return Table(cells, ("played", "new bits"), [f"#{i}" for i in range(self.size)], legend)
