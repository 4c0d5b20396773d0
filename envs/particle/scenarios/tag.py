"""Slow predators hunt fast prey around obstacles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from envs.particle.physics import Body
from envs.particle.scenario import Outcome, Scenario, State, check_count, ways


class Tag(Scenario):
    """Every predator earns 10 for each predator and prey in touch; prey loses 10 for each predator
    that touches it, and more the farther it flees beyond 0.9 m. All see their own velocity and
    place, obstacles, others, and the velocities of other prey."""

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
    ) -> None:
        check_count("num_good", num_good)
        check_count("num_adversaries", num_adversaries)
        check_count("num_obstacles", num_obstacles, least=0)
        self.ends, self.predators, self.prey = terminate_on_success, num_adversaries, num_good
        red, green = (0.85, 0.35, 0.35), (0.35, 0.85, 0.35)
        slow = {"size": 0.075, "accel": 3.0, "max_speed": 1.0, "colour": red}
        fast = {"size": 0.05, "accel": 4.0, "max_speed": 1.3, "colour": green}
        self.agents = [
            *(Body(f"adversary_{i}", **slow) for i in range(num_adversaries)),
            *(Body(f"agent_{i}", **fast) for i in range(num_good)),
        ]
        self.landmarks = [
            Body(f"landmark_{i}", 0.2, moves=False, colour=(0.25, 0.25, 0.25))
            for i in range(num_obstacles)
        ]

    def observe(self, state: State) -> Sequence[Tensor]:
        agents, landmarks = self.places(state)
        n, velocity = self.predators, state.velocity
        to_others = self.to_others(agents).flatten(2)
        seen = torch.cat([velocity, agents, ways(agents, landmarks).flatten(2), to_others], -1)
        prey = velocity[:, n:].flatten(1).unsqueeze(1).expand(-1, n, -1)
        other_prey = velocity[:, self.rest[n:, n:]].flatten(2)
        return torch.cat([seen[:, :n], prey], -1), torch.cat([seen[:, n:], other_prey], -1)

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
