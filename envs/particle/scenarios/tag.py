"""Slow predators hunt fast prey around obstacles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.particle.physics import Body
from marl.envs.particle.scenario import (
    Outcome,
    Scenario,
    State,
    check_neighbours,
    check_stage,
    in_view,
    nearest,
    ways,
)

STAGES = (0.5, 0.75, 1.0)  # of a curriculum: the share of their speed and force that prey has


class Tag(Scenario):
    """Every predator earns 10 for each predator and prey in touch; prey loses 10 for each predator
    that touches it, and more the farther it flees beyond 0.9 m. All see their own velocity and
    place, obstacles, others, and the velocities of other prey. Of so many neighbours only, where
    that is asked for: then with a velocity for each of them, zero for predators."""

    landmark_range = 0.9
    measures: ClassVar = {
        "touches": "sum",  # steps of each predator and prey in touch
        "caught": "last",  # share of the prey in touch
    }

    def __init__(
        self,
        num_good: int = 1,
        num_adversaries: int = 3,
        num_obstacles: int = 2,
        terminate_on_success: bool = False,
        curriculum_stage: int | None = None,  # None: that of the last stage
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
    ) -> None:
        check_count("num_good", num_good)
        check_count("num_adversaries", num_adversaries)
        check_count("num_obstacles", num_obstacles, least=0)
        check_stage(curriculum_stage, len(STAGES))
        check_neighbours(num_agent_neighbors, num_landmark_neighbors)
        self.others_seen, self.landmarks_seen = num_agent_neighbors, num_landmark_neighbors
        self.ends, self.predators, self.prey = terminate_on_success, num_adversaries, num_good
        red, green = (0.85, 0.35, 0.35), (0.35, 0.85, 0.35)
        slow = {"size": 0.075, "accel": 3.0, "max_speed": 1.0, "colour": red}
        share = STAGES[-1 if curriculum_stage is None else curriculum_stage]
        fast = {"size": 0.05, "accel": 4.0 * share, "max_speed": 1.3 * share, "colour": green}
        self.agents = [
            *(Body(f"adversary_{i}", **slow) for i in range(num_adversaries)),
            *(Body(f"agent_{i}", **fast) for i in range(num_good)),
        ]
        self.landmarks = [
            Body(f"landmark_{i}", 0.2, moves=False, colour=(0.25, 0.25, 0.25))
            for i in range(num_obstacles)
        ]

    def observe(self, state: State) -> Tensor | Sequence[Tensor]:
        agents, landmarks = self.places(state)
        n, velocity = self.predators, state.velocity
        to_landmarks = in_view(ways(agents, landmarks), self.landmarks_seen).flatten(2)
        to_others = self.to_others(agents)
        own = [velocity, agents, to_landmarks]
        if self.others_seen is not None:
            return torch.cat([*own, *self._near(to_others, velocity, self.others_seen)], -1)
        seen = torch.cat([*own, to_others.flatten(2)], -1)
        prey = velocity[:, n:].flatten(1).unsqueeze(1).expand(-1, n, -1)
        other_prey = velocity[:, self.rest[n:, n:]].flatten(2)
        return torch.cat([seen[:, :n], prey], -1), torch.cat([seen[:, n:], other_prey], -1)

    def _near(self, to_others: Tensor, velocity: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Ways to the nearest others and velocities of the prey among them, ``[B, N, 2 count]``."""
        of_prey = velocity[:, self.rest] * (self.rest >= self.predators).unsqueeze(-1)
        both = torch.cat([to_others, of_prey], dim=-1)
        near = nearest(both, to_others.square().sum(-1), count)
        return near[..., :2].flatten(2), near[..., 2:].flatten(2)

    def outcome(self, state: State) -> Outcome:
        n = self.predators
        end = len(self.agents)
        touch = self.physics.touching(state.position, slice(n, end), slice(0, n))  # [B, prey, n]
        touches, caught = touch.sum((1, 2)), touch.any(-1)
        fled = flight(state.position[:, n:end].abs()).sum(-1)
        reward = torch.cat(
            [(10.0 * touches).unsqueeze(-1).expand(-1, n), -10.0 * touch.sum(-1) - fled], dim=-1
        )
        measures = (touches, caught.float().mean(-1))
        return Outcome(reward, measures, caught.all(-1) if self.ends else None)


def flight(away: Tensor) -> Tensor:
    """What it costs to be this far from the middle, metres along an axis: nothing up to 0.9, then
    10 a metre, from 1 on ``exp(2 x - 2)`` up to 10."""
    far = (2 * away - 2).exp().clamp(max=10)
    return torch.where(away < 0.9, 0.0, torch.where(away < 1, (away - 0.9) * 10, far))
