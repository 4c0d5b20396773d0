"""``mpe/simple_reference``: two agents go to landmarks that only the other one knows; both talk.

- **Task**: each agent has a goal among three landmarks, known to the other agent only.
- **Agents**: ``agent_0`` and ``agent_1``.
- **Observation**, ``[21]``: 0 and 1 velocity, 2 to 7 the offsets to the landmarks, 8 to 10 the
  colour of the other's goal, 11 to 20 the other's last message.
- **Actions**: the five moves times ten messages, Discrete(50), the move varying fastest; or a
  vector of 15 numbers in [0, 1] with ``continuous_actions``.
- **Reward**: ``local_ratio`` times minus the distance of the other agent to the goal that the agent
  knows, and ``1 - local_ratio`` times minus the mean of both distances.
- **Legacy reward**: both earn minus the sum of the two squared distances.

Source: mpe2's ``simple_reference_v3``; no differences but those of all particle worlds.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_number
from marl.envs.particle.physics import Body, Colour
from marl.envs.particle.scenario import (
    LOCAL_RATIO,
    Outcome,
    Scenario,
    State,
    check_legacy_ratio,
    offsets,
)

COLOURS = ((0.75, 0.25, 0.25), (0.25, 0.75, 0.25), (0.25, 0.25, 0.75))  # of the landmarks
REACHED = 0.1  # metres within which a goal is reached


class Reference(Scenario):
    """Two agents that know each other's goal; the module describes it.

    Args:
        local_ratio: weight of an agent's own part of the reward, 0 to 1; only without ``legacy``.

    Raises:
        UserError: ``local_ratio`` out of range.
    """

    agents = tuple(Body(f"agent_{i}", collides=False, talks=True) for i in range(2))
    landmarks = tuple(
        Body(f"landmark_{i}", collides=False, moves=False, colour=COLOURS[i]) for i in range(3)
    )
    channels = 10
    choices = (3, 3)
    measures: ClassVar = {
        "distance": "mean",  # of both to their goals, averaged, metres
        "success": "last",  # share of the two within 0.1 m of theirs
        "nearest": "last",  # share of the two whose nearest landmark is their goal
    }

    def __init__(self, local_ratio: float = LOCAL_RATIO) -> None:
        check_number("local_ratio", local_ratio, 0, 1)
        self.local_ratio = local_ratio

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        check_legacy_ratio(legacy, self.local_ratio)
        super().bind(device, dtype, legacy)
        self.colours = torch.tensor(COLOURS, device=device, dtype=dtype)

    def observe(self, state: State) -> Tensor:
        agents, landmarks = self.places(state)
        to_landmarks = offsets(agents, landmarks).flatten(2)
        colour, message = self.colours[state.chosen], state.message.flip(1)
        return torch.cat([state.velocity, to_landmarks, colour, message], dim=-1)

    def outcome(self, state: State) -> Outcome:
        agents, landmarks = self.places(state)
        distance = offsets(agents.flip(1), landmarks).square().sum(-1).sqrt()  # [B, 2, 3] other's
        goal = distance.gather(2, state.chosen.unsqueeze(-1)).squeeze(-1)  # [B, 2]
        measures = (
            goal.mean(-1),
            (goal < REACHED).float().mean(-1),
            (goal <= distance.amin(-1)).float().mean(-1),
        )
        return Outcome(self._reward(goal), measures)

    def _reward(self, distance: Tensor) -> Tensor:
        """Returns the rewards ``[B, 2]`` from each other agent's distance to its goal, ``[B,
        2]``."""
        if self.legacy:
            return -distance.square().sum(-1, keepdim=True).expand(-1, 2)
        shared = distance.mean(-1, keepdim=True)
        return -(1 - self.local_ratio) * shared - self.local_ratio * distance

    def entity_colours(self, state: State) -> list[Colour]:
        """Returns the colours; an agent has its goal's, which the other sees."""
        goals = [COLOURS[landmark] for _, landmark in self.goals(state)]
        return [*goals, *super().entity_colours(state)[2:]]

    def goals(self, state: State) -> list[tuple[int, int]]:
        of_second, of_first = state.chosen.tolist()
        return [(0, of_first), (1, of_second)]
