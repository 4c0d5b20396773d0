"""Predators, led by one that sees and says more, hunt prey that feeds and hides in forests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.particle.physics import Body, distances
from marl.envs.particle.scenario import Outcome, Scenario, State, ways
from marl.envs.particle.scenarios.tag import flight


class WorldComm(Scenario):
    """Every predator earns 5 for each predator and prey in touch, less a tenth of its distance to
    the nearest prey. Prey loses 5 for each predator that touches it and twice what fleeing beyond
    0.9 m costs, earns 2 for each food it touches, and loses a twentieth of its distance to the
    nearest. Others are seen, places and prey's velocities, where they share a forest with oneself
    or both are outside of all; the leader sees everyone. Predators hear the leader.

    Legacy: prey earns that twentieth of the distance to the nearest food in place of losing it.
    """

    landmark_range = 0.9
    channels = 4
    measures: ClassVar = {
        "touches": "sum",  # steps of each predator and prey in touch
        "eaten": "sum",  # steps of each prey at food
        "hidden": "mean",  # share of the prey in a forest
    }

    def __init__(
        self,
        num_good: int = 2,
        num_adversaries: int = 4,
        num_obstacles: int = 1,
        num_food: int = 2,
        num_forests: int = 2,
    ) -> None:
        check_count("num_good", num_good)
        check_count("num_adversaries", num_adversaries)
        check_count("num_obstacles", num_obstacles, least=0)
        check_count("num_food", num_food)
        check_count("num_forests", num_forests, least=0)
        self.predators, self.prey, self.forests = num_adversaries, num_good, num_forests
        self.agents = [*_predators(num_adversaries), *_prey(num_good)]
        self.landmarks = [
            *_things("landmark", num_obstacles, 0.2, (0.25, 0.25, 0.25), collides=True),
            *_things("food", num_food, 0.03, (0.15, 0.15, 0.65)),
            *_things("forest", num_forests, 0.3, (0.6, 0.9, 0.6)),
        ]
        everyone, first_food = (
            num_adversaries + num_good,
            num_adversaries + num_good + num_obstacles,
        )
        self._hunters, self._hunted = slice(0, num_adversaries), slice(num_adversaries, everyone)
        self._food = slice(first_food, first_food + num_food)
        self._woods = slice(first_food + num_food, first_food + num_food + num_forests)

    def observe(self, state: State) -> Sequence[Tensor]:
        agents, landmarks = self.places(state)
        n, velocity = self.predators, state.velocity
        inside, sees = self._sight(state)
        to_others = (self.to_others(agents) * sees).flatten(2)
        prey = velocity[:, self.rest] * sees  # [B, N, N - 1, 2], prey last among the others
        signs = inside.to(agents) * 2 - 1  # [B, N, F]
        seen = torch.cat([velocity, agents, ways(agents, landmarks).flatten(2), to_others], -1)
        said = state.message[:, :1].expand(-1, n, -1)
        hunters = [seen[:, :n], prey[:, :n, n - 1 :].flatten(2), signs[:, :n], said]
        hunted = [seen[:, n:], signs[:, n:], prey[:, n:, n:].flatten(2)]
        return torch.cat(hunters, dim=-1), torch.cat(hunted, dim=-1)

    def _sight(self, state: State) -> tuple[Tensor, Tensor]:
        """Who is in which forest, ``[B, N, F]``, and whom of the others everyone sees, ``[B, N,
        N - 1, 1]``."""
        everyone = slice(0, len(self.agents))
        inside = self.physics.touching(state.position, everyone, self._woods)
        together = (inside.unsqueeze(2) & inside.unsqueeze(1)).any(-1)  # [B, N, N]
        outside = ~inside.any(-1)
        sees = together | (outside.unsqueeze(2) & outside.unsqueeze(1))
        leads = torch.arange(len(self.agents), device=sees.device).unsqueeze(-1) == 0
        rest = self.rest.expand(len(sees), -1, -1)
        return inside, (sees | leads).gather(2, rest).unsqueeze(-1)

    def outcome(self, state: State) -> Outcome:
        position, touching = state.position, self.physics.touching
        hunters, hunted = position[:, self._hunters], position[:, self._hunted]
        touch = touching(position, self._hunted, self._hunters)  # [B, prey, predators]
        touches = touch.sum((1, 2))
        near = distances(hunters, hunted).amin(-1)
        predators = 5 * touches.unsqueeze(-1) - 0.1 * near
        eaten = touching(position, self._hunted, self._food).sum(-1)  # [B, prey]
        hunger = distances(hunted, position[:, self._food]).amin(-1)
        fled = flight(hunted.abs()).sum(-1)
        craving = 0.05 if self.legacy else -0.05
        prey = -5 * touch.sum(-1) - 2 * fled + 2 * eaten + craving * hunger
        hidden = touching(position, self._hunted, self._woods).any(-1)
        measures = (touches, eaten.sum(-1), hidden.float().mean(-1))
        return Outcome(torch.cat([predators, prey], dim=-1), measures)


def _predators(count: int) -> list[Body]:
    red, dark = (0.95, 0.45, 0.45), (0.65, 0.15, 0.15)
    leader = Body("leadadversary_0", 0.075, accel=3.0, max_speed=1.0, talks=True, colour=dark)
    return [
        leader,
        *(Body(f"adversary_{i}", 0.075, accel=3.0, max_speed=1.0, colour=red)
          for i in range(count - 1)),
    ]  # fmt: skip


def _prey(count: int) -> list[Body]:
    green = (0.45, 0.95, 0.45)
    return [Body(f"agent_{i}", 0.045, accel=4.0, max_speed=1.3, colour=green) for i in range(count)]


def _things(
    name: str, count: int, size: float, colour: tuple[float, float, float], collides: bool = False
) -> list[Body]:
    return [
        Body(f"{name}_{i}", size, collides=collides, moves=False, colour=colour)
        for i in range(count)
    ]
