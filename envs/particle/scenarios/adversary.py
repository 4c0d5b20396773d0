"""``mpe/simple_adversary``: agents reach a landmark that an adversary has to guess from their
paths.

- **Task**: N agents, N landmarks, one of them the agents' goal, and one adversary (physical
  deception).
- **Agents**: ``adversary_0`` against ``agent_0`` to ``agent_{N-1}``.
- **Observation** of the adversary, ``[4N]``, 8 for N=2: from 0 on the offsets to the N landmarks,
  then those to the N agents. Of an agent, ``[4N + 2]``, 10: 0 and 1 the offset to the goal, then
  the offsets to the N landmarks, then those to the adversary and the other agents. With
  ``num_landmark_neighbors`` or ``num_agent_neighbors`` only so many, nearest first.
- **Actions**: the five moves (``marl.envs.particle.env``).
- **Reward**: the adversary minus its distance to the goal; the agents, shared, that distance minus
  that of the nearest of them.
- **Legacy reward**: the adversary earns minus the square of its distance; the agents' is the same.

Source: Lowe et al. 2017 (physical deception); mpe2's ``simple_adversary_v3``; no differences but
those of all particle worlds. The radius of success, for the measures only, is not in the paper; the
replication by Google reports 0.4 m, and the default here is twice a landmark's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count, check_number
from marl.envs.particle.physics import Body, Colour, distances
from marl.envs.particle.scenario import (
    Outcome,
    Scenario,
    State,
    check_neighbours,
    nearest_offsets,
    offsets,
)

GOAL_COLOUR = (0.15, 0.65, 0.15)


class Adversary(Scenario):
    """Physical deception; the module describes it.

    Args:
        N: number of agents and of landmarks, besides the adversary.
        num_agent_neighbors: how many of the nearest others are observed; None for all.
        num_landmark_neighbors: how many of the nearest landmarks are observed; None for all.
        success_radius: distance to the goal that counts as success, metres; read by measures only.

    Raises:
        UserError: a value out of range.
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
        self.success_radius = success_radius
        check_neighbours(num_agent_neighbors, num_landmark_neighbors)
        self.agent_neighbours, self.landmark_neighbours = (
            num_agent_neighbors,
            num_landmark_neighbors,
        )
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
        to_landmarks = nearest_offsets(
            offsets(agents, landmarks), self.landmark_neighbours
        ).flatten(2)
        to_others = nearest_offsets(self.to_others(agents), self.agent_neighbours).flatten(2)
        common = torch.cat([to_landmarks, to_others], dim=-1)
        to_goal = self.chosen_landmark(state, 0) - agents
        return common[:, :1], torch.cat([to_goal[:, 1:], common[:, 1:]], dim=-1)

    def outcome(self, state: State) -> Outcome:
        agents, _ = self.places(state)
        distance = distances(agents, self.chosen_landmark(state, 0)).squeeze(-1)  # [B, 1 + N]
        adversary, nearest = distance[:, 0], distance[:, 1:].amin(-1)
        size = len(self.agents) - 1
        good = (adversary - nearest).unsqueeze(-1).expand(-1, size)
        bad = -(adversary.square() if self.legacy else adversary).unsqueeze(-1)
        return Outcome(
            torch.cat([bad, good], dim=-1),
            (adversary, nearest, adversary < self.success_radius, nearest < self.success_radius),
        )

    def entity_colours(self, state: State) -> list[Colour]:
        colours = super().entity_colours(state)
        colours[len(self.agents) + int(state.chosen[0])] = GOAL_COLOUR
        return colours

    def goals(self, state: State) -> list[tuple[int, int]]:
        return [(agent, int(state.chosen[0])) for agent in range(1, len(self.agents))]
