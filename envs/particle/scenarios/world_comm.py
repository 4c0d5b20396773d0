"""``mpe/simple_world_comm``: predators with a leader hunt prey that feeds and hides in forests.

- **Task**: P predators, the first their leader, touch G prey; L obstacles, F food, W forests.
- **Agents**: ``leadadversary_0`` and ``adversary_0`` to ``adversary_{P-2}`` against ``agent_0`` to
  ``agent_{G-1}``.
- **Observation**, ``[34]`` of a predator and ``[28]`` of prey by default: 0 and 1 velocity, 2 and 3
  position, from 4 on the offsets to obstacles, food and forests, then those to the P + G - 1
  others. A predator has then the velocities of the G prey, for each forest 1 inside and -1 outside,
  and the leader's last message (4); prey has the forests, then the velocities of the G - 1 other
  prey. Offsets and velocities of others are zero unless both share a forest or are outside of all;
  the leader sees everyone.
- **Actions**: the five moves; the leader's times four messages, Discrete(20).
- **Reward**: each predator 5 for each pair of predator and prey that touches, less a tenth of its
  distance to the nearest prey. Prey loses 5 for each predator that touches it and twice the cost of
  fleeing beyond 0.9 m (``flight`` of simple_tag), earns 2 for each food that it touches, and loses
  a twentieth of its distance to the nearest food.
- **Legacy reward**: prey earns that twentieth in place of losing it.

Source: mpe2's ``simple_world_comm_v3``; no differences but those of all particle worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.particle.physics import Body, distances
from marl.envs.particle.scenario import Outcome, Scenario, State, offsets
from marl.envs.particle.scenarios.tag import flight


class WorldComm(Scenario):
    """Predators, prey, food and forests; the module describes them.

    Args:
        num_good: G, the number of prey.
        num_adversaries: P, the number of predators, the leader included.
        num_obstacles: L.
        num_food: F.
        num_forests: W.

    Raises:
        UserError: a number out of range.
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
            *_landmarks("landmark", num_obstacles, 0.2, (0.25, 0.25, 0.25), collides=True),
            *_landmarks("food", num_food, 0.03, (0.15, 0.15, 0.65)),
            *_landmarks("forest", num_forests, 0.3, (0.6, 0.9, 0.6)),
        ]
        everyone = num_adversaries + num_good
        first_food = everyone + num_obstacles
        self._hunters, self._hunted = slice(0, num_adversaries), slice(num_adversaries, everyone)
        self._food = slice(first_food, first_food + num_food)
        self._forests = slice(first_food + num_food, first_food + num_food + num_forests)

    def observe(self, state: State) -> Sequence[Tensor]:
        agents, landmarks = self.places(state)
        n, velocity = self.predators, state.velocity
        inside, visible = self._visibility(state)
        to_others = (self.to_others(agents) * visible).flatten(2)
        prey = velocity[:, self.other_index] * visible  # [B, N, N - 1, 2], prey last among others
        signs = inside.to(agents) * 2 - 1  # [B, N, W]
        to_landmarks = offsets(agents, landmarks).flatten(2)
        common = torch.cat([velocity, agents, to_landmarks, to_others], -1)
        message = state.message[:, :1].expand(-1, n, -1)
        hunters = [common[:, :n], prey[:, :n, n - 1 :].flatten(2), signs[:, :n], message]
        hunted = [common[:, n:], signs[:, n:], prey[:, n:, n:].flatten(2)]
        return torch.cat(hunters, dim=-1), torch.cat(hunted, dim=-1)

    def _visibility(self, state: State) -> tuple[Tensor, Tensor]:
        """Returns which agent is in which forest, ``[B, N, W]``, and which of the others each agent
        sees, ``[B, N, N - 1, 1]``."""
        everyone = slice(0, len(self.agents))
        inside = self.physics.touching(state.position, everyone, self._forests)
        together = (inside.unsqueeze(2) & inside.unsqueeze(1)).any(-1)  # [B, N, N]
        outside = ~inside.any(-1)
        visible = together | (outside.unsqueeze(2) & outside.unsqueeze(1))
        leads = torch.arange(len(self.agents), device=visible.device).unsqueeze(-1) == 0
        other_index = self.other_index.expand(len(visible), -1, -1)
        return inside, (visible | leads).gather(2, other_index).unsqueeze(-1)

    def outcome(self, state: State) -> Outcome:
        position, touching = state.position, self.physics.touching
        hunters, hunted = position[:, self._hunters], position[:, self._hunted]
        touch = touching(position, self._hunted, self._hunters)  # [B, prey, predators]
        touches = touch.sum((1, 2))
        to_prey = distances(hunters, hunted).amin(-1)
        predators = 5 * touches.unsqueeze(-1) - 0.1 * to_prey
        eaten = touching(position, self._hunted, self._food).sum(-1)  # [B, prey]
        to_food = distances(hunted, position[:, self._food]).amin(-1)
        fled = flight(hunted.abs()).sum(-1)
        food_weight = 0.05 if self.legacy else -0.05
        prey = -5 * touch.sum(-1) - 2 * fled + 2 * eaten + food_weight * to_food
        hidden = touching(position, self._hunted, self._forests).any(-1)
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


def _landmarks(
    name: str, count: int, size: float, colour: tuple[float, float, float], collides: bool = False
) -> list[Body]:
    return [
        Body(f"{name}_{i}", size, collides=collides, moves=False, colour=colour)
        for i in range(count)
    ]
