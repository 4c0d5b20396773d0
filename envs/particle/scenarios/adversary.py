"""Agents reach a landmark that an adversary has to guess from their ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from envs.particle.physics import Body, distances
from envs.particle.scenario import Outcome, Scenario, State, check_count, ways

REACHED = 0.16  # metres: twice a landmark's radius


class Adversary(Scenario):
    """One adversary, ``N`` agents, ``N`` landmarks, one of them the agents' goal. The adversary
    earns minus its distance to the goal; the agents that distance minus that of the nearest of
    them. All see landmarks and others relative to themselves; agents the goal before."""

    measures: ClassVar = {
        "adversary_distance": "mean",  # to the goal, metres
        "agent_distance": "mean",  # of the nearest agent to the goal, metres
        "adversary_success": "last",  # whether it is within 0.16 m of the goal
        "agent_success": "last",  # whether one of the agents is
    }

    def __init__(self, N: int = 2) -> None:
        check_count("N", N)
        red, blue, dark = (0.85, 0.35, 0.35), (0.35, 0.35, 0.85), (0.15, 0.15, 0.15)
        self.agents = [
            Body("adversary_0", size=0.15, collides=False, colour=red),
            *(Body(f"agent_{i}", size=0.15, collides=False, colour=blue) for i in range(N)),
        ]
        self.landmarks = [
            Body(f"landmark_{i}", size=0.08, collides=False, moves=False, colour=dark)
            for i in range(N)
        ]
        self.choices = (N,)

    def observe(self, state: State) -> Sequence[Tensor]:
        agents, landmarks = self.places(state)
        to_landmarks = ways(agents, landmarks).flatten(2)
        to_others = self.to_others(agents).flatten(2)
        seen = torch.cat([to_landmarks, to_others], dim=-1)
        to_goal = self.chosen_landmark(state, 0) - agents
        return seen[:, :1], torch.cat([to_goal[:, 1:], seen[:, 1:]], dim=-1)

    def outcome(self, state: State) -> Outcome:
        agents, _ = self.places(state)
        away = distances(agents, self.chosen_landmark(state, 0)).squeeze(-1)  # [B, N]
        adversary, nearest = away[:, 0], away[:, 1:].amin(-1)
        size = len(self.agents) - 1
        good = (adversary - nearest).unsqueeze(-1).expand(-1, size)
        return Outcome(
            torch.cat([-adversary.unsqueeze(-1), good], dim=-1),
            (adversary, nearest, adversary < REACHED, nearest < REACHED),
        )
