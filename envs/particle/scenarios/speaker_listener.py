"""A speaker that knows the goal but cannot move tells a listener that can but does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.particle.physics import Body, Colour
from marl.envs.particle.scenario import Outcome, Scenario, State, ways

COLOURS = ((0.65, 0.15, 0.15), (0.15, 0.65, 0.15), (0.15, 0.15, 0.65))  # of the landmarks
PALER = 0.3
REACHED = 0.1  # metres


class SpeakerListener(Scenario):
    """Both earn minus the squared distance of the listener to its landmark, one of three. The
    speaker sees that landmark's colour, the listener its own velocity, the landmarks, and what the
    speaker said.

    Legacy: each earns the sum of both rewards, twice that.
    """

    agents = (
        Body(
            "speaker_0", 0.075, collides=False, moves=False, talks=True, colour=(0.25, 0.25, 0.25)
        ),
        Body("listener_0", 0.075, collides=False, colour=(0.6, 0.6, 0.6)),
    )
    landmarks = tuple(
        Body(f"landmark_{i}", 0.04, collides=False, moves=False, colour=COLOURS[i])
        for i in range(3)
    )
    channels = 3
    choices = (3,)
    measures: ClassVar = {
        "distance": "mean",  # of the listener to its landmark, metres
        "success": "last",  # whether it is within 0.1 m
        "nearest": "last",  # whether no other landmark is nearer to it: understood
    }

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        super().bind(device, dtype, legacy)
        self.colours = torch.tensor(COLOURS, device=device, dtype=dtype)

    def observe(self, state: State) -> Sequence[Tensor]:
        agents, landmarks = self.places(state)
        to_landmarks = ways(agents[:, 1:], landmarks).flatten(2)
        heard = state.message[:, :1]
        return (
            self.colours[state.chosen],
            torch.cat([state.velocity[:, 1:], to_landmarks, heard], dim=-1),
        )

    def outcome(self, state: State) -> Outcome:
        agents, landmarks = self.places(state)
        squared = (landmarks - agents[:, 1:]).square().sum(-1)  # [B, 3]
        goal = squared.gather(1, state.chosen).squeeze(-1)
        away = goal.sqrt()
        measures = (away, away < REACHED, goal <= squared.amin(-1))
        reward = -2 * goal if self.legacy else -goal
        return Outcome(reward.unsqueeze(-1).expand(-1, 2), measures)

    def looks(self, state: State) -> list[Colour]:
        """The listener has a pale tone of its goal's colour."""
        colours = super().looks(state)
        red, green, blue = COLOURS[int(state.chosen[0])]
        colours[1] = red + PALER, green + PALER, blue + PALER
        return colours

    def goals(self, state: State) -> list[tuple[int, int]]:
        return [(1, int(state.chosen[0]))]
