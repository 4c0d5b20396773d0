"""``mpe/simple``: one agent, one landmark to reach.

- **Task**: the agent goes to the landmark.
- **Agents**: ``agent_0``.
- **Observation**, ``[4]``: 0 and 1 velocity, 2 and 3 the offset to the landmark.
- **Actions**: the five moves (``marl.envs.particle.env``).
- **Reward**: minus the squared distance to the landmark.

Source: mpe2's ``simple_v3``; no differences but those of all particle worlds.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.particle.physics import Body
from marl.envs.particle.scenario import Outcome, Scenario, State


class Simple(Scenario):
    """One agent, one landmark; the module describes it."""

    agents = (Body("agent_0", collides=False, colour=(0.25, 0.25, 0.25)),)
    landmarks = (Body("landmark_0", collides=False, moves=False, colour=(0.75, 0.25, 0.25)),)
    measures: ClassVar = {"distance": "mean"}  # to the landmark, metres

    def observe(self, state: State) -> Tensor:
        return torch.cat([state.velocity, self._offset(state)], dim=-1)

    def outcome(self, state: State) -> Outcome:
        squared = self._offset(state).square().sum(-1)
        return Outcome(-squared, (squared.sqrt().squeeze(-1),))

    def _offset(self, state: State) -> Tensor:
        """Returns the offset from the agent to the landmark, ``[B, 1, 2]``."""
        return state.position[:, 1:] - state.position[:, :1]
