"""``mpe/simple_push``: an agent goes to its goal, an adversary pushes it away.

- **Task**: one of two landmarks is the agent's goal; the adversary does not know which.
- **Agents**: ``adversary_0`` and ``agent_0``, opponents.
- **Observation** of the adversary, ``[8]``: 0 and 1 velocity, 2 to 5 the offsets to the landmarks,
  6 and 7 the offset to the agent. Of the agent, ``[19]``: 0 and 1 velocity, 2 and 3 the offset to
  its goal, 4 to 6 its colour, which is its goal's, 7 to 10 the offsets to the landmarks, 11 to 16
  their colours, 17 and 18 the offset to the adversary.
- **Actions**: the five moves (``marl.envs.particle.env``).
- **Reward**: the agent minus its distance to the goal; the adversary that distance minus its own.

Source: Lowe et al. 2017 (keep-away); mpe2's ``simple_push_v3``; no differences but those of all
particle worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.particle.physics import Body, Colour, distances
from marl.envs.particle.scenario import Outcome, Scenario, State, offsets

COLOURS = ((0.1, 0.9, 0.1), (0.1, 0.1, 0.9))  # of the landmarks
AGENT_COLOURS = ((0.25, 0.75, 0.25), (0.25, 0.25, 0.75))  # of the agent, by its goal


class Push(Scenario):
    """Keep-away; the module describes it."""

    agents = (
        Body("adversary_0", colour=(0.75, 0.25, 0.25)),
        Body("agent_0", colour=(0.35, 0.35, 0.85)),
    )
    landmarks = tuple(
        Body(f"landmark_{i}", collides=False, moves=False, colour=COLOURS[i]) for i in range(2)
    )
    choices = (2,)
    measures: ClassVar = {
        "agent_distance": "mean",  # to the goal, metres
        "adversary_distance": "mean",  # to the goal, metres
        "touches": "sum",  # steps in touch
    }

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        super().bind(device, dtype, legacy)
        self.colours = torch.tensor(COLOURS, device=device, dtype=dtype)
        self.agent_colours = torch.tensor(AGENT_COLOURS, device=device, dtype=dtype)

    def observe(self, state: State) -> Sequence[Tensor]:
        agents, landmarks = self.places(state)
        to_landmarks = offsets(agents, landmarks).flatten(2)
        to_other = agents.flip(1) - agents
        to_goal = self.chosen_landmark(state, 0) - agents[:, 1:]
        agent_colour = self.agent_colours[state.chosen]  # [B, 1, 3]
        colours = self.colours.flatten().expand(len(agents), 1, -1)
        agent = [state.velocity[:, 1:], to_goal, agent_colour, to_landmarks[:, 1:], colours,
                 to_other[:, 1:]]  # fmt: skip
        adversary = [state.velocity[:, :1], to_landmarks[:, :1], to_other[:, :1]]
        return torch.cat(adversary, dim=-1), torch.cat(agent, dim=-1)

    def outcome(self, state: State) -> Outcome:
        agents, _ = self.places(state)
        distance = distances(agents, self.chosen_landmark(state, 0)).squeeze(-1)  # [B, 2]
        adversary, agent = distance.unbind(-1)
        touch = self.physics.touching(state.position, slice(0, 1), slice(1, 2)).flatten()
        return Outcome(torch.stack([agent - adversary, -agent], -1), (agent, adversary, touch))

    def entity_colours(self, state: State) -> list[Colour]:
        colours = super().entity_colours(state)
        colours[1] = AGENT_COLOURS[int(state.chosen[0])]
        return colours

    def goals(self, state: State) -> list[tuple[int, int]]:
        return [(1, int(state.chosen[0]))]
