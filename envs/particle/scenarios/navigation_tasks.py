"""InforMARL's tasks (Nayak et al. 2023): Target, Coverage, Formation and Line.

``marl.envs.particle.scenarios.navigation`` describes observations, actions, rewards and source.
Differences: the paper describes the last three in words only, and their code was not published.
Places without an owner are matched with agents so that the sum of the distances is least, and pay
as Target's do; the circle and the line are mpe2's, scaled with the world.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from marl.envs.particle.scenario import State, nearest, offsets
from marl.envs.particle.scenarios.formation import between, circle, line_ends
from marl.envs.particle.scenarios.navigation import SIZE, Navigation


class Target(Navigation):
    """``navigation/target``: every agent goes to a goal of its own, and knows where it is."""

    def assign(self, position: Tensor) -> Tensor:
        return torch.arange(self.size, device=position.device).expand(len(position), -1)

    def aims(self, agents: Tensor, goals: Tensor) -> Tensor:
        return goals - agents

    def graph_goals(self, position: Tensor) -> Tensor:
        return torch.cat([position[:, self._goals], position[:, self.size :]], dim=1)

    def goals(self, state: State) -> list[tuple[int, int]]:
        return [(agent, agent) for agent in range(self.size)]


class Coverage(Navigation):
    """``navigation/coverage``: each goal is taken by any agent; an agent knows the nearest."""

    def aims(self, agents: Tensor, goals: Tensor) -> Tensor:
        to_goals = offsets(agents, goals)
        return nearest(to_goals, to_goals.square().sum(-1), 1).squeeze(2)


class Formation(Navigation):
    """``navigation/formation``: agents stand evenly on the circle around a landmark.

    Its radius is a quarter of the world's side, the first place at the smallest angle of an agent.
    Agents know where the landmark is.
    """

    def counts(self) -> tuple[int, int]:
        return 1, 1

    @property
    def ring(self) -> float:
        """Radius of the circle, in metres."""
        return self.half / 2

    def fixed(self, noise: Tensor) -> Tensor:
        return (noise * 2 - 1) * self.half / 2

    def clearance(self) -> float:
        return self.ring + 2 * SIZE

    def spacing(self) -> float:
        return 2 * self.ring * math.sin(math.pi / self.size) if self.size > 1 else math.inf

    def targets(self, position: Tensor) -> Tensor:
        return circle(position[:, self._agents], position[:, self._goals], self.ring)

    def aims(self, agents: Tensor, goals: Tensor) -> Tensor:
        return goals - agents


class Line(Navigation):
    """``navigation/line``: agents stand evenly on the line between two landmarks, ends included.

    The landmarks are 0.625 of the world's side apart; agents know where they are.
    """

    def counts(self) -> tuple[int, int]:
        return 2, 2 + self.size

    def fixed(self, noise: Tensor) -> Tensor:
        ends = line_ends(noise * 2 - 1) * self.half
        return torch.cat([ends, between(ends, self.size)], dim=1)

    def spacing(self) -> float:
        return 1.25 * self.half / (self.size - 1) if self.size > 1 else math.inf

    def targets(self, position: Tensor) -> Tensor:
        return between(position[:, self._goals], self.size)

    def aims(self, agents: Tensor, goals: Tensor) -> Tensor:
        return offsets(agents, goals).flatten(2)
