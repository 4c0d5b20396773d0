"""Agents cover all landmarks and keep out of each other's way."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from envs.particle.physics import Body, distances
from envs.particle.scenario import Outcome, Scenario, State, check_count, check_share, ways

COVERED = 0.1  # metres within which a landmark counts as covered


class Spread(Scenario):
    """``N`` agents, ``N`` landmarks. All earn minus the sum over landmarks of the distance to the
    nearest agent, weighted ``1 - local_ratio``; each loses ``local_ratio`` for every agent that it
    touches. Seen are the own velocity and position, landmarks and other agents relative to it, and
    two zeros for each other agent's silence."""

    measures: ClassVar = {
        "distance": "mean",  # D: summed over landmarks, to the nearest agent, metres
        "collisions": "sum",  # steps of each pair in touch
        "covered": "last",  # landmarks with an agent within 0.1 m
    }

    def __init__(
        self, N: int = 3, local_ratio: float = 0.5, terminate_on_success: bool = False
    ) -> None:
        check_count("N", N)
        check_share("local_ratio", local_ratio)
        self.size, self.local_ratio, self.ends = N, local_ratio, terminate_on_success
        self.team = slice(0, N)
        self.agents = [Body(f"agent_{i}", size=0.15) for i in range(N)]
        grey = (0.25, 0.25, 0.25)
        self.landmarks = [
            Body(f"landmark_{i}", collides=False, moves=False, colour=grey) for i in range(N)
        ]

    def observe(self, state: State) -> Tensor:
        agents, landmarks = self.places(state)
        to_landmarks = ways(agents, landmarks).flatten(2)
        to_others = self.to_others(agents).flatten(2)
        silence = torch.zeros_like(to_others)
        return torch.cat([state.velocity, agents, to_landmarks, to_others, silence], dim=-1)

    def outcome(self, state: State) -> Outcome:
        agents, landmarks = self.places(state)
        nearest = distances(landmarks, agents).amin(-1)  # [B, N] an agent to every landmark
        touched = self.physics.touching(state.position, self.team, self.team).sum(-1) - 1  # [B, N]
        distance, covered = nearest.sum(-1), nearest < COVERED
        shared = -(1 - self.local_ratio) * distance.unsqueeze(-1)
        return Outcome(
            shared - self.local_ratio * touched,
            (distance, touched.sum(-1) / 2, covered.sum(-1)),
            covered.all(-1) if self.ends else None,
        )
