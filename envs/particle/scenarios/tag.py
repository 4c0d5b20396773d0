"""``mpe/simple_tag``: slow predators hunt fast prey around obstacles.

- **Task**: P predators touch G prey as often as they can; L obstacles are in the way.
- **Agents**: ``adversary_0`` to ``adversary_{P-1}`` against ``agent_0`` to ``agent_{G-1}``.
- **Observation**, ``[16]`` of a predator and ``[14]`` of prey for P=3, G=1, L=2: 0 and 1 velocity,
  2 and 3 position, from 4 on the offsets to the L obstacles, then those to the P + G - 1 others,
  then the velocities of the G prey (of prey: of the G - 1 others). With ``num_landmark_neighbors``
  or ``num_agent_neighbors`` only so many, nearest first; the latter with a velocity for each of
  them, zero for predators.
- **Actions**: the five moves (``marl.envs.particle.env``).
- **Reward**: each predator 10 for each pair of predator and prey that touches; prey loses 10 for
  each predator that touches it, and more the farther it flees beyond 0.9 m along an axis
  (``flight``).

Source: Lowe et al. 2017 (predator-prey); mpe2's ``simple_tag_v3``; no differences but those of all
particle worlds.
"""

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
    nearest,
    nearest_offsets,
    offsets,
)

STAGES = (0.5, 0.75, 1.0)  # share of its speed and force that prey has in each curriculum stage


class Tag(Scenario):
    """Predator-prey; the module describes it.

    Args:
        num_good: G, the number of prey.
        num_adversaries: P, the number of predators.
        num_obstacles: L, the number of obstacles.
        terminate_on_success: whether an episode ends where all prey is touched at once.
        curriculum_stage: 0 to 2, with prey at 0.5, 0.75 and all of its speed and force; None for 2.
        num_agent_neighbors: how many of the nearest others are observed; None for all.
        num_landmark_neighbors: how many of the nearest obstacles are observed; None for all.

    Raises:
        UserError: a value out of range.
    """

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
        curriculum_stage: int | None = None,
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
    ) -> None:
        check_count("num_good", num_good)
        check_count("num_adversaries", num_adversaries)
        check_count("num_obstacles", num_obstacles, least=0)
        check_stage(curriculum_stage, len(STAGES))
        check_neighbours(num_agent_neighbors, num_landmark_neighbors)
        self.agent_neighbours, self.landmark_neighbours = (
            num_agent_neighbors,
            num_landmark_neighbors,
        )
        self.terminates, self.predators, self.prey = terminate_on_success, num_adversaries, num_good
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
        to_landmarks = nearest_offsets(
            offsets(agents, landmarks), self.landmark_neighbours
        ).flatten(2)
        to_others = self.to_others(agents)
        common = [velocity, agents, to_landmarks]
        if self.agent_neighbours is not None:
            return torch.cat([*common, *self._near(to_others, velocity, self.agent_neighbours)], -1)
        common = torch.cat([*common, to_others.flatten(2)], -1)
        prey = velocity[:, n:].flatten(1).unsqueeze(1).expand(-1, n, -1)
        other_prey = velocity[:, self.other_index[n:, n:]].flatten(2)
        return torch.cat([common[:, :n], prey], -1), torch.cat([common[:, n:], other_prey], -1)

    def _near(self, to_others: Tensor, velocity: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Returns the offsets to the nearest others, and the velocities of the prey among them,
        ``[B, N, 2 count]`` each."""
        is_prey = (self.other_index >= self.predators).unsqueeze(-1)
        features = torch.cat([to_others, velocity[:, self.other_index] * is_prey], dim=-1)
        near = nearest(features, to_others.square().sum(-1), count)
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
        return Outcome(reward, measures, caught.all(-1) if self.terminates else None)


def flight(distance: Tensor) -> Tensor:
    """Computes the cost of being this far from the middle along an axis.

    Args:
        distance: x, any shape, metres.

    Returns:
        0 up to 0.9 m, then 10 a metre, from 1 m on ``exp(2 x - 2)`` up to 10; of the same shape.
    """
    far = (2 * distance - 2).exp().clamp(max=10)
    return torch.where(distance < 0.9, 0.0, torch.where(distance < 1, (distance - 0.9) * 10, far))
