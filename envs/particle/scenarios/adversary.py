"""Agents reach a landmark that an adversary has to guess from their ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count, check_number
from marl.envs.particle.physics import Body, Colour, distances
from marl.envs.particle.scenario import Outcome, Scenario, State, check_neighbours, in_view, ways

GOAL_COLOUR = (0.15, 0.65, 0.15)


class Adversary(Scenario):
    """One adversary, ``N`` agents, ``N`` landmarks, one of them the agents' goal. The adversary
    earns minus its distance to the goal; the agents that distance minus that of the nearest of
    them. All see landmarks and others, or so many neighbours, relative to themselves; agents the
    goal before.

    ``success_radius`` (metres; twice a landmark's) is for the measures alone. Lowe et al. 2017 do
    not tell theirs; the replication by Google reports 0.4.

    Legacy: the adversary earns minus the square of its distance; the agents' reward is the same.
    """

    measures: ClassVar = {
        "adversary_distance": "mean",  # to the goal, metres
        "agent_distance": "mean",  # of the nearest agent to the goal, metres
        "adversary_success": "last",  # whether it is within ``success_radius`` of the goal
        "agent_success": "last",  # whether one of the agents is
    }

    def __init__(
        self,
        N: int = 2,
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
        success_radius: float = 0.16,
    ) -> None:
        check_count("N", N)
        check_number("success_radius", success_radius, 0.0)
        self.reached = success_radius
        check_neighbours(num_agent_neighbors, num_landmark_neighbors)
        self.others_seen, self.landmarks_seen = num_agent_neighbors, num_landmark_neighbors
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
        to_landmarks = in_view(ways(agents, landmarks), self.landmarks_seen).flatten(2)
        to_others = in_view(self.to_others(agents), self.others_seen).flatten(2)
        seen = torch.cat([to_landmarks, to_others], dim=-1)
        to_goal = self.chosen_landmark(state, 0) - agents
        return seen[:, :1], torch.cat([to_goal[:, 1:], seen[:, 1:]], dim=-1)

    def outcome(self, state: State) -> Outcome:
        agents, _ = self.places(state)
        away = distances(agents, self.chosen_landmark(state, 0)).squeeze(-1)  # [B, N]
        adversary, nearest = away[:, 0], away[:, 1:].amin(-1)
        size = len(self.agents) - 1
        good = (adversary - nearest).unsqueeze(-1).expand(-1, size)
        bad = -(adversary.square() if self.legacy else adversary).unsqueeze(-1)
        return Outcome(
            torch.cat([bad, good], dim=-1),
            (adversary, nearest, adversary < self.reached, nearest < self.reached),
        )

    def looks(self, state: State) -> list[Colour]:
        colours = super().looks(state)
        colours[len(self.agents) + int(state.chosen[0])] = GOAL_COLOUR
        return colours

    def goals(self, state: State) -> list[tuple[int, int]]:
        return [(agent, int(state.chosen[0])) for agent in range(1, len(self.agents))]
