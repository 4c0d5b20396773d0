"""The memory task ``games/cue``: a cue is shown in the first step and needed in the last.

- **Task**: each agent plays in the last step the cue that it alone saw in the first.
- **Agents**: ``agent_0`` to ``agent_{N-1}``.
- **Observation**, ``[cues + 1]``: indices 0 to cues - 1 are the one-hot of the agent's own cue in
  the first step, and zeros afterwards; the last index is 1 in the last step, whose action counts.
- **State**, ``[N * cues + 1]``, for critics that read it: the one-hots of all cues in every step,
  and the share of the episode that has passed.
- **Actions**: Discrete(cues). Only the last one matters.
- **Reward**, shared: in the last step the share of the agents whose action is their cue, else 0.
- **Episode**: ``length`` steps, then a termination. The cues are uniform and independent. With
  fewer ``task.max_steps`` nothing is earned.

The best return is 1, which needs a memory of ``length - 1`` steps. Policies without memory earn at
most 1/cues in the mean, since the last observation says nothing of the cue. An agent that observes
its own last action could carry the cue by repeating it; observations here do not hold it. With
``length=1`` the cue is seen when it is needed, and anyone can reach 1.

Source: the idea is that of the memory tasks in Osband et al., "Behaviour suite for reinforcement
learning", ICLR 2020, here for several agents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from marl.envs.checks import check_count
from marl.envs.games.game import Game, Outcome, Scene, agent_names, shared_reward
from marl.envs.games.render import BAD, BLUE, FAINT, GOOD, Cell, Table
from marl.types import register


@register
@dataclass(frozen=True)
class State:
    """State of the task.

    Attributes:
        cue: each agent's cue, ``[B, N]`` int64.
        time: steps so far, ``[B]`` int64.
    """

    cue: Tensor
    time: Tensor


class Cue(Game[State]):
    """The memory task; rules, best return and source are the module's.

    Args:
        length: steps of an episode, the first with the cue and the last with the answer.
        cues: number of cues, and of actions.
        agents: N.

    Raises:
        UserError: a value out of range.
    """

    final = True
    measures: ClassVar = {"correct": "last"}  # share of the agents whose last action is their cue

    def __init__(self, length: int = 6, cues: int = 4, agents: int = 2) -> None:
        check_count("length", length)
        check_count("cues", cues, 2)
        check_count("agents", agents)
        self.length, self.cues, self.size = length, cues, agents
        self.agents, self.choices = agent_names(agents), (cues,) * agents
        self.obs_size, self.state_size = cues + 1, agents * cues + 1
        self.start_noise = agents

    def start(self, noise: Tensor) -> State:
        time = torch.zeros(len(noise), dtype=torch.int64, device=noise.device)
        return State((noise * self.cues).long().clamp(max=self.cues - 1), time)

    def advance(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Outcome]:
        answers = state.time == self.length - 1
        correct = (action == state.cue).float().mean(-1) * answers
        reward = shared_reward(correct, self.size)
        return State(state.cue, state.time + 1), Outcome(reward, [correct])

    def observe(self, state: State) -> Tensor:
        shown = one_hot(state.cue, self.cues) * (state.time == 0)[:, None, None]
        answers = (state.time == self.length - 1)[:, None, None].expand(-1, self.size, 1)
        return torch.cat([shown, answers], dim=-1).float()

    def global_state(self, state: State) -> Tensor:
        passed = state.time.unsqueeze(-1) / self.length
        return torch.cat([one_hot(state.cue, self.cues).flatten(1).float(), passed], dim=-1)

    def picture(self, scene: Scene) -> Table:
        cues = scene.state.cue.tolist()
        over = int(scene.state.time) >= self.length
        played = scene.action or [None] * self.size
        cells = [
            [Cell(str(cue), BLUE), Cell("" if a is None else str(a), _fill(over, a == cue))]
            for cue, a in zip(cues, played, strict=True)
        ]
        legend = f"blue: the cue, shown in the first step; the action of step {self.length} counts"
        return Table(cells, self.agents, ("cue", "action"), legend)


def _fill(over: bool, correct: bool) -> tuple[int, int, int]:
    """Returns the colour of an action: it has one where it counts."""
    if not over:
        return FAINT
    return GOOD if correct else BAD
