"""Agents cover all landmarks and keep out of each other's way."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count, check_number
from marl.envs.particle.physics import Body, distances
from marl.envs.particle.scenario import (
    LOCAL_RATIO,
    Outcome,
    Scenario,
    State,
    check_legacy_ratio,
    check_neighbours,
    check_stage,
    in_view,
    ways,
)

SIZE = 0.15  # radius of an agent, metres
COVERED = 0.1  # metres within which a landmark counts as covered
STAGES = (0.0, 1.0)  # of a curriculum: what a collision costs


class Spread(Scenario):
    """``N`` agents, ``N`` landmarks. All earn minus the sum over landmarks of the distance to the
    nearest agent, weighted ``1 - local_ratio``; each loses ``local_ratio`` for every agent that it
    touches. Seen are the own velocity and position, landmarks and other agents relative to it, and
    two zeros for each other agent's silence; all of them, or so many neighbours.

    Legacy: each earns the sum over agents of minus that distance, less one for every agent that it
    touches, itself too: of ``N`` agents ``-N D - N - 2 pairs``.
    """

    measures: ClassVar = {
        "distance": "mean",  # D: summed over landmarks, to the nearest agent, metres
        "collisions": "sum",  # steps of each pair in touch
        "covered": "last",  # landmarks with an agent within 0.1 m
    }

    def __init__(
        self,
        N: int = 3,
        local_ratio: float = LOCAL_RATIO,
        terminate_on_success: bool = False,
        curriculum_stage: int | None = None,  # None: that of the last stage
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
    ) -> None:
        check_count("N", N)
        check_number("local_ratio", local_ratio, 0, 1)
        check_stage(curriculum_stage, len(STAGES))
        check_neighbours(num_agent_neighbors, num_landmark_neighbors)
        self.penalty = STAGES[-1 if curriculum_stage is None else curriculum_stage]
        self.others_seen, self.landmarks_seen = num_agent_neighbors, num_landmark_neighbors
        self.size, self.local_ratio, self.ends = N, local_ratio, terminate_on_success
        self.team, self.reach = slice(0, N), 2 * SIZE
        self.agents = [Body(f"agent_{i}", size=SIZE) for i in range(N)]
        grey = (0.25, 0.25, 0.25)
        self.landmarks = [
            Body(f"landmark_{i}", collides=False, moves=False, colour=grey) for i in range(N)
        ]

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        check_legacy_ratio(legacy, self.local_ratio)
        super().bind(device, dtype, legacy)

    def observe(self, state: State) -> Tensor:
        agents, landmarks = self.places(state)
        to_landmarks = in_view(ways(agents, landmarks), self.landmarks_seen).flatten(2)
        to_others = in_view(self.to_others(agents), self.others_seen).flatten(2)
        silence = torch.zeros_like(to_others)
        return torch.cat([state.velocity, agents, to_landmarks, to_others, silence], dim=-1)

    def outcome(self, state: State) -> Outcome:
        away = distances(state.position, state.position[:, self.team])  # [B, 2N, N]
        nearest = away[:, self.size :].amin(-1)  # [B, N] an agent to every landmark
        touched = (away[:, self.team] < self.reach).sum(-1) - 1  # [B, N] others
        distance, covered = nearest.sum(-1), nearest < COVERED
        return Outcome(
            self._reward(distance.unsqueeze(-1), touched),
            (distance, touched.sum(-1) / 2, covered.sum(-1)),
            covered.all(-1) if self.ends else None,
        )

    def _reward(self, distance: Tensor, touched: Tensor) -> Tensor:
        """From ``[B, 1]`` and how many others each touches, ``[B, N]``."""
        if self.legacy:
            each = -distance - self.penalty * (touched + 1)
            return each.sum(-1, keepdim=True).expand(-1, self.size)
        ratio = self.local_ratio
        return -(1 - ratio) * distance - ratio * self.penalty * touched
