"""Two agents, each to a landmark that only the other knows; both move and talk."""

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
    ways,
)

COLOURS = ((0.75, 0.25, 0.25), (0.25, 0.75, 0.25), (0.25, 0.25, 0.75))  # of the landmarks
REACHED = 0.1  # metres


class Reference(Scenario):
    """An agent's own reward is minus the other's distance to the landmark it knows for it, shared
    by ``1 - local_ratio``. It sees its velocity, the landmarks, the colour of the other's goal and
    the other's last message, one of ten.

    Legacy: both earn minus the sum of the two squared distances.
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
        "nearest": "last",  # share of the two that no other landmark is nearer to: understood
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
        known, heard = self.colours[state.chosen], state.message.flip(1)
        return torch.cat([state.velocity, ways(agents, landmarks).flatten(2), known, heard], dim=-1)

    def outcome(self, state: State) -> Outcome:
        agents, landmarks = self.places(state)
        away = ways(agents.flip(1), landmarks).square().sum(-1).sqrt()  # [B, 2, 3] of the other
        goal = away.gather(2, state.chosen.unsqueeze(-1)).squeeze(-1)  # [B, 2]
        measures = (
            goal.mean(-1),
            (goal < REACHED).float().mean(-1),
            (goal <= away.amin(-1)).float().mean(-1),
        )
        return Outcome(self._reward(goal), measures)

    def _reward(self, away: Tensor) -> Tensor:
        if self.legacy:
            return -away.square().sum(-1, keepdim=True).expand(-1, 2)
        shared = away.mean(-1, keepdim=True)
        return -(1 - self.local_ratio) * shared - self.local_ratio * away

    def looks(self, state: State) -> list[Colour]:
        """An agent has its goal's colour, which the other sees."""
        goals = [COLOURS[landmark] for _, landmark in self.goals(state)]
        return [*goals, *super().looks(state)[2:]]

    def goals(self, state: State) -> list[tuple[int, int]]:
        of_second, of_first = state.chosen.tolist()
        return [(0, of_first), (1, of_second)]
