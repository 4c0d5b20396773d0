"""``mpe/simple_speaker_listener``: a speaker that cannot move guides a listener that cannot speak.

- **Task**: the listener goes to one of three landmarks, which only the speaker knows.
- **Agents**: ``speaker_0`` and ``listener_0``.
- **Observation** of the speaker, ``[3]``: 0 to 2 the colour of the goal. Of the listener, ``[11]``:
  0 and 1 velocity, 2 to 7 the offsets to the landmarks, 8 to 10 the speaker's last message.
- **Actions**: the speaker one of three messages, Discrete(3), the listener the five moves; vectors
  in [0, 1] with ``continuous_actions``.
- **Reward**, shared: minus the squared distance of the listener to its landmark.
- **Legacy reward**: each earns the sum of both rewards, twice that.

Source: Lowe et al. 2017 (cooperative communication); mpe2's ``simple_speaker_listener_v4``; no
differences but those of all particle worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.particle.physics import Body, Colour
from marl.envs.particle.scenario import Outcome, Scenario, State, offsets

COLOURS = ((0.65, 0.15, 0.15), (0.15, 0.65, 0.15), (0.15, 0.15, 0.65))  # of the landmarks
PALER = 0.3  # added to the colour of the listener's goal for its own
REACHED = 0.1  # metres within which a landmark is reached


class SpeakerListener(Scenario):
    """Cooperative communication; the module describes it."""

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
        "nearest": "last",  # whether its nearest landmark is its goal
    }

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        super().bind(device, dtype, legacy)
        self.colours = torch.tensor(COLOURS, device=device, dtype=dtype)

    def observe(self, state: State) -> Sequence[Tensor]:
        agents, landmarks = self.places(state)
        to_landmarks = offsets(agents[:, 1:], landmarks).flatten(2)
        message = state.message[:, :1]
        return (
            self.colours[state.chosen],
            torch.cat([state.velocity[:, 1:], to_landmarks, message], dim=-1),
        )

    def outcome(self, state: State) -> Outcome:
        agents, landmarks = self.places(state)
        squared = (landmarks - agents[:, 1:]).square().sum(-1)  # [B, 3]
        goal = squared.gather(1, state.chosen).squeeze(-1)
        distance = goal.sqrt()
        measures = (distance, distance < REACHED, goal <= squared.amin(-1))
        reward = -2 * goal if self.legacy else -goal
        return Outcome(reward.unsqueeze(-1).expand(-1, 2), measures)

    def entity_colours(self, state: State) -> list[Colour]:
        """Returns the colours; the listener has a pale tone of its goal's."""
        colours = super().entity_colours(state)
        red, green, blue = COLOURS[int(state.chosen[0])]
        colours[1] = red + PALER, green + PALER, blue + PALER
        return colours

    def goals(self, state: State) -> list[tuple[int, int]]:
        return [(1, int(state.chosen[0]))]
