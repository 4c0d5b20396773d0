"""``mpe/simple_spread``: agents cover all landmarks without touching each other.

- **Task**: N agents, N landmarks; any agent may take any landmark.
- **Agents**: ``agent_0`` to ``agent_{N-1}``.
- **Observation**, ``[4 + 2N + 4(N-1)]``, 18 for N=3: 0 and 1 velocity, 2 and 3 position, from 4 on
  the offsets to the N landmarks, then those to the N-1 other agents, then two zeros for each other
  agent's silence. With ``num_landmark_neighbors`` or ``num_agent_neighbors`` only so many, nearest
  first.
- **Actions**: the five moves (``marl.envs.particle.env``).
- **Reward**: ``(1 - local_ratio)`` times minus the sum over landmarks of the distance to the
  nearest agent, shared, and ``local_ratio`` times minus the number of agents that the agent
  touches.
- **Legacy reward**: each earns the sum over agents of minus that distance, less one for every agent
  that it touches, itself too: of N agents ``-N D - N - 2 pairs``.

Source: Lowe et al. 2017 (cooperative navigation); mpe2's ``simple_spread_v3``; no differences but
those of all particle worlds.
"""

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
    nearest_offsets,
    offsets,
)

SIZE = 0.15  # radius of an agent, metres
COVERED = 0.1  # metres within which a landmark counts as covered
STAGES = (0.0, 1.0)  # cost of a collision in each stage of a curriculum


class Spread(Scenario):
    """Cooperative navigation; the module describes it.

    Args:
        N: number of agents and of landmarks.
        local_ratio: weight of the collisions, 0 to 1; only without ``legacy``.
        terminate_on_success: whether an episode ends where all landmarks are covered (within 0.1
            m).
        curriculum_stage: 0 without a cost of collisions, 1 with it; None for 1.
        num_agent_neighbors: how many of the nearest agents are observed; None for all.
        num_landmark_neighbors: how many of the nearest landmarks are observed; None for all.

    Raises:
        UserError: a value out of range.
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
        curriculum_stage: int | None = None,
        num_agent_neighbors: int | None = None,
        num_landmark_neighbors: int | None = None,
    ) -> None:
        check_count("N", N)
        check_number("local_ratio", local_ratio, 0, 1)
        check_stage(curriculum_stage, len(STAGES))
        check_neighbours(num_agent_neighbors, num_landmark_neighbors)
        self.penalty = STAGES[-1 if curriculum_stage is None else curriculum_stage]
        self.agent_neighbours, self.landmark_neighbours = (
            num_agent_neighbors,
            num_landmark_neighbors,
        )
        self.size, self.local_ratio, self.terminates = N, local_ratio, terminate_on_success
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
        to_landmarks = nearest_offsets(
            offsets(agents, landmarks), self.landmark_neighbours
        ).flatten(2)
        to_others = nearest_offsets(self.to_others(agents), self.agent_neighbours).flatten(2)
        silence = torch.zeros_like(to_others)
        return torch.cat([state.velocity, agents, to_landmarks, to_others, silence], dim=-1)

    def outcome(self, state: State) -> Outcome:
        to_agents = distances(state.position, state.position[:, self.team])  # [B, 2N, N]
        nearest = to_agents[:, self.size :].amin(-1)  # [B, N] of every landmark
        touched = (to_agents[:, self.team] < self.reach).sum(-1) - 1  # [B, N] others
        distance, covered = nearest.sum(-1), nearest < COVERED
        return Outcome(
            self._reward(distance.unsqueeze(-1), touched),
            (distance, touched.sum(-1) / 2, covered.sum(-1)),
            covered.all(-1) if self.terminates else None,
        )

    def _reward(self, distance: Tensor, touched: Tensor) -> Tensor:
        """Returns the rewards from the summed distance ``[B, 1]`` and how many others each agent
        touches, ``[B, N]``."""
        if self.legacy:
            own_rewards = -distance - self.penalty * (touched + 1)
            return own_rewards.sum(-1, keepdim=True).expand(-1, self.size)
        ratio = self.local_ratio
        return -(1 - ratio) * distance - ratio * self.penalty * touched
