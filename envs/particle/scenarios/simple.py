"""One agent, one landmark to reach."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.particle.physics import Body
from marl.envs.particle.scenario import Outcome, Scenario, State


class Simple(Scenario):
    """The reward is minus the squared distance to the landmark."""

    agents = (Body("agent_0", collides=False, colour=(0.25, 0.25, 0.25)),)
    landmarks = (Body("landmark_0", collides=False, moves=False, colour=(0.75, 0.25, 0.25)),)
    measures: ClassVar = {"distance": "mean"}  # to the landmark, metres

    def observe(self, state: State) -> Tensor:
        return torch.cat([state.velocity, self._way(state)], dim=-1)

    def outcome(self, state: State) -> Outcome:
        squared = self._way(state).square().sum(-1)
        return Outcome(-squared, (squared.sqrt().squeeze(-1),))

    def _way(self, state: State) -> Tensor:
        return state.position[:, 1:] - state.position[:, :1]
