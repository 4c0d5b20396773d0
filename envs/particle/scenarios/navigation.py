"""Base of InforMARL's tasks ``navigation/target``, ``coverage``, ``formation`` and ``line``.

- **Task**: N agents go to N places around obstacles in a square without walls, and observe each
  other, the places and the obstacles as a graph. ``marl.envs.particle.scenarios.navigation_tasks``
  says which places.
- **Agents**: ``agent_0`` to ``agent_{N-1}``.
- **Observation**: 0 and 1 velocity, 2 and 3 position, from 4 on the offset to the agent's goal
  (target), the nearest goal (coverage), the landmark (formation), or the two landmarks (line). With
  ``information=neighbourhood`` then the offsets to the ``neighbours`` nearest agents and obstacles
  within ``radius``, zeros where there are fewer; with ``global`` those to all N - 1 other agents
  and all obstacles, zeros for those that an episode does without.
- **Graph**: agents (kind 0), goals (1) and obstacles (2), with position, velocity and goal; edges
  within ``radius``.
- **Actions**: the five moves (``marl.envs.particle.env``), at most 2 m/s.
- **Reward**: 5 within 0.05 m of the agent's place, else minus the distance to it; minus 5 for each
  agent that it touches, and minus 5 if it touches any obstacle. The paper's reward is the sum over
  agents (``algorithm.reward=team_sum``).

Source: Nayak et al. 2023 (InforMARL, ICML) and its code, in whose order bodies move, which is
OpenAI MPE's: with the new velocity. Differences: edges lead to agents only, as in the paper; the
code forgot that (``directed=false``). Bodies never overlap at the start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.particle.matching import match
from marl.envs.particle.physics import Body, distances
from marl.envs.particle.placement import CROWDED, crowding, place
from marl.envs.particle.scenario import Outcome, Scenario, State, nearest, offsets
from marl.errors import UserError, unknown
from marl.types import EntityGraph, EntitySpec

SIZE = 0.05  # radius of every body, and distance within which a place is reached, metres
INNER = 0.8  # share of the world in which goals and obstacles lie
REACHED, HIT = 5.0, 5.0  # reward at a place; cost of each agent and of any obstacle touched
AWAY = 1e4  # metres: position of obstacles that an episode does without
INFORMATION = ("local", "neighbourhood", "global")
AGENT, GOAL, OBSTACLE = 0, 1, 2  # kinds of the graph's entities


class Navigation(Scenario):
    """Base class of InforMARL's four tasks; the module describes them.

    Args:
        N: number of agents and of places.
        num_obstacles: how many obstacles, or ``[least, most]`` for a new number in every episode.
        world_size: side of the square, metres.
        information: what agents observe besides their own: ``local`` (nothing), ``neighbourhood``
            (the nearest agents and obstacles) or ``global`` (all of them).
        neighbours: how many of the nearest; only with ``information=neighbourhood``.
        radius: distance within which bodies are sensed, as neighbours and along the graph's edges,
            metres.
        directed: whether edges lead to agents only; false for edges both ways.

    Raises:
        UserError: a value out of range, or a world too small for its bodies.
    """

    measures: ClassVar = {
        "time": "last",  # T: share of the episode until an agent first reached its place, or 1
        "collisions": "sum",  # #col: steps of each pair of agents and each agent at an obstacle
        "success": "last",  # S: whether every agent has reached its place at some time
        "distance": "mean",  # to the places, averaged over agents, metres
        "in_place": "last",  # share of the agents at their places
    }

    def __init__(
        self,
        N: int = 3,
        num_obstacles: int | Sequence[int] = 3,
        world_size: float = 2.0,
        information: str = "local",
        neighbours: int = 3,
        radius: float = 1.0,
        directed: bool = True,
    ) -> None:
        check_count("N", N)
        check_count("neighbours", neighbours)
        check_length("world_size", world_size)
        check_length("radius", radius)
        if information not in INFORMATION:
            raise unknown("information", information, INFORMATION)
        self.size, self.half, self.directed = N, world_size / 2, directed
        self.goal_count, self.fixed_count = self.counts()
        self.information, self.neighbours, self.radius = information, neighbours, float(radius)
        self.min_obstacles, self.max_obstacles = _range(num_obstacles)
        green, dark = (0.15, 0.75, 0.15), (0.25, 0.25, 0.25)
        self.agents = [Body(f"agent_{i}", SIZE, max_speed=2.0) for i in range(N)]
        self.landmarks = [
            *(Body(f"goal_{i}", SIZE, collides=False, moves=False, colour=green)
              for i in range(self.goal_count)),
            *(Body(f"obstacle_{i}", SIZE, moves=False, colour=dark)
              for i in range(self.max_obstacles)),
        ]  # fmt: skip
        self._agents, self._goals = slice(0, N), slice(N, N + self.goal_count)
        self._obstacles = slice(N + self.goal_count, N + len(self.landmarks))
        self._check_room()

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        super().bind(device, dtype, legacy=True)
        kinds = [AGENT] * self.size + [GOAL] * self.goal_count + [OBSTACLE] * self.max_obstacles
        self._kind = torch.tensor(kinds, device=device)
        reach, apart = self.layout()
        self._reach, self._apart = reach.to(device, dtype), apart.to(device, dtype)

    # -------------------------------------------------------------------------------------- starts

    def counts(self) -> tuple[int, int]:
        """Returns G, the number of landmarks that define the places, and F, that of ``fixed``."""
        return self.size, 0

    def fixed(self, noise: Tensor) -> Tensor | None:
        """Returns the bodies of a shape that are placed before all others; None without a shape.

        Args:
            noise: uniform in [0, 1), ``[B, G, 2]``.

        Returns:
            The shape's landmarks, then what else obstacles must avoid, ``[B, F, 2]``, metres.
        """
        return None

    def clearance(self) -> float:
        """Returns the distance of obstacles from what is fixed, metres."""
        return 2 * SIZE

    def layout(self) -> tuple[Tensor, Tensor]:
        """Returns where obstacles, agents and random goals may be placed; an agent may be on a
        goal.

        Returns:
            Their largest distances from the middle along an axis, ``[E]``, and their least
            distances from each other and from what is fixed, ``[F + E, F + E]``, metres.
        """
        goals = 0 if self.fixed_count else self.goal_count
        counts = torch.tensor([self.fixed_count, self.max_obstacles, self.size, goals])
        kind = torch.arange(4).repeat_interleave(counts)
        clear, touch = self.clearance(), 2 * SIZE
        with_fixed, with_obstacles = [0.0, clear, 0.0, 0.0], [clear, touch, touch, touch]
        with_agents, with_goals = [0.0, touch, touch, 0.0], [0.0, touch, 0.0, touch]
        apart = torch.tensor([with_fixed, with_obstacles, with_agents, with_goals])
        reach = torch.tensor([0, INNER, 1, INNER]) * self.half
        return reach[kind[self.fixed_count :]], apart[kind.unsqueeze(-1), kind]

    @property
    def noise_size(self) -> int:
        return 2 * (self.size + len(self.landmarks)) + 1

    def start(self, noise: Tensor) -> State:
        """Returns the state of a new episode, from ``noise [B, noise_size]``.

        ``chosen`` holds the number of obstacles, the step at which each agent first reached its
        place (0: not yet), and the place of each agent.
        """
        batch, agents = len(noise), self.size
        span = self.max_obstacles - self.min_obstacles + 1
        count = self.min_obstacles + (noise[:, -1:] * span).long()
        count = count.clamp(max=self.max_obstacles)
        position = self._place(noise[:, :-1].unflatten(1, (-1, 2)), count)
        never = torch.zeros(batch, agents, dtype=torch.int64, device=noise.device)
        return State(
            position=position,
            velocity=position.new_zeros(batch, agents, 2),
            message=position.new_zeros(batch, agents, 0),
            chosen=torch.cat([count, never, self.assign(position)], dim=1),
            steps=torch.zeros_like(never[:, 0]),
            totals=position.new_zeros(batch, len(self.measures)),
        )

    def _place(self, noise: Tensor, count: Tensor) -> Tensor:
        """Returns the positions of agents, goals and obstacles, ``[B, E, 2]``.

        Args:
            noise: of obstacles, agents and goals, in this order, ``[B, E, 2]``.
            count: number of obstacles, ``[B, 1]``.
        """
        sizes = [self.max_obstacles, self.size, self.goal_count]
        fixed = self.fixed(noise[:, -self.goal_count :])
        free_noise = noise if fixed is None else noise[:, : -self.goal_count]
        position = place(free_noise, self._reach, self._apart, fixed)
        if fixed is not None:
            position = torch.cat([position, fixed[:, : self.goal_count]], dim=1)
        obstacles, agents, goals = position.split(sizes, dim=1)
        absent = torch.arange(self.max_obstacles, device=noise.device) >= count
        return torch.cat([agents, goals, obstacles.masked_fill(absent.unsqueeze(-1), AWAY)], dim=1)

    def _check_room(self) -> None:
        """Raises UserError where bodies would overlap; it names a world that is large enough."""
        half = self.half
        while crowding(*self.layout()) > CROWDED or self.spacing() < 2 * SIZE:
            self.half *= 1.02  # terminates: bodies and their distances do not grow with it
        if self.half > half:
            raise UserError(
                f"N={self.size} agents and {self.max_obstacles} obstacles do not fit into "
                f"world_size={2 * half:g} without overlap; set world_size="
                f"{math.ceil(20 * self.half) / 10:g}, which is large enough"
            )

    def spacing(self) -> float:
        """Returns the least distance between two places of a shape, metres."""
        return math.inf

    # ---------------------------------------------------------------------------------------- steps

    def targets(self, position: Tensor) -> Tensor:
        """Returns the places, ``[B, N, 2]``, of entities at ``position [B, E, 2]``, metres."""
        return position[:, self._goals]

    def assign(self, position: Tensor) -> Tensor:
        """Returns each agent's place, with the least sum of distances.

        Args:
            position: of all entities, ``[B, E, 2]``, metres.

        Returns:
            Indices of places, ``[B, N]`` int64.
        """
        return match(distances(position[:, self._agents], self.targets(position)))

    def apply_events(self, state: State, noise: Tensor) -> State:
        count, first, _ = state.chosen.split([1, self.size, self.size], dim=1)
        assignment = self.assign(state.position)
        arrives = (first == 0) & (self._distance(state.position, assignment) < SIZE)
        first = torch.where(arrives, state.steps.unsqueeze(-1), first)
        return replace(state, chosen=torch.cat([count, first, assignment], dim=1))

    def outcome(self, state: State) -> Outcome:
        touching, everyone = self.physics.touching, self._agents
        _, first, assignment = state.chosen.split([1, self.size, self.size], dim=1)
        distance = self._distance(state.position, assignment)
        touched = touching(state.position, everyone, everyone).sum(-1) - 1  # [B, N] other agents
        hits = touching(state.position, everyone, self._obstacles).any(-1)
        in_place = distance < SIZE
        reward = torch.where(in_place, REACHED, -distance) - HIT * (touched + hits)
        measures = (
            torch.where(first > 0, first / state.steps.unsqueeze(-1), 1.0).mean(-1),
            touched.sum(-1) / 2 + hits.sum(-1),
            (first > 0).all(-1),
            distance.mean(-1),
            in_place.float().mean(-1),
        )
        return Outcome(reward, measures)

    def _distance(self, position: Tensor, assignment: Tensor) -> Tensor:
        """Returns each agent's distance to its place, ``[B, N]``, metres."""
        places = self.targets(position).gather(1, assignment.unsqueeze(-1).expand(-1, -1, 2))
        return (places - position[:, self._agents]).square().sum(-1).sqrt()

    # ---------------------------------------------------------------------------------- information

    def aims(self, agents: Tensor, goals: Tensor) -> Tensor:
        """Returns the offsets that an agent knows of where to go, ``[B, N, 2]`` or ``[B, N, 4]``.

        Args:
            agents: ``[B, N, 2]``, metres.
            goals: the landmarks that define the places, ``[B, G, 2]``, metres.
        """
        raise NotImplementedError

    def observe(self, state: State) -> Tensor:
        agents = state.position[:, self._agents]
        parts = [state.velocity, agents, self.aims(agents, state.position[:, self._goals])]
        if self.information != "local":
            to_obstacles = offsets(agents, state.position[:, self._obstacles])
            bodies = torch.cat([self.to_others(agents), to_obstacles], dim=2)
            parts.append(self._sense(bodies).flatten(2))
        return torch.cat(parts, dim=-1)

    def _sense(self, to_bodies: Tensor) -> Tensor:
        """Returns those of the offsets ``[B, N, M, 2]`` that an agent senses: all, or the nearest
        within the radius; zeros in place of the others."""
        distance = to_bodies.square().sum(-1).sqrt()
        reach = self.radius if self.information == "neighbourhood" else AWAY / 2
        sensed = to_bodies.masked_fill((distance >= reach).unsqueeze(-1), 0.0)
        if self.information == "global":
            return sensed
        return nearest(sensed, distance, self.neighbours)

    def entities(self) -> EntitySpec:
        return EntitySpec(space=2, kinds=3)

    def graph(self, state: State) -> EntityGraph:
        index = torch.arange(self.max_obstacles, device=state.chosen.device)
        present = index < state.chosen[:, :1]  # obstacles
        always = present.new_ones(len(present), self._obstacles.start)
        mask = torch.cat([always, present], dim=1)
        position = state.position.masked_fill(~mask.unsqueeze(-1), 0.0).float()
        return EntityGraph(
            position=position,
            velocity=F.pad(state.velocity.float(), (0, 0, 0, len(self.landmarks))),
            goal=self.graph_goals(position),
            kind=self._kind.expand(len(position), -1),
            mask=mask,
            radius=self.radius,
            directed=self.directed,
        )

    def graph_goals(self, position: Tensor) -> Tensor:
        """Returns the goal of every entity, ``[B, E, 2]``; its own position where it has none."""
        return position


def check_length(name: str, value: object) -> None:
    """Raises UserError where ``value`` is no positive number.

    Args:
        name: the option, for the error.
        value: its value, metres.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise UserError(f"{name}={value!r} must be a positive number of metres")


def _range(count: Any) -> tuple[int, int]:
    """Returns the least and the most obstacles of ``3`` or ``[0, 10]``."""
    pair: Any = count if isinstance(count, Sequence) and len(count) == 2 else (count, count)
    least, largest = pair
    check_count("num_obstacles", least, least=0)
    check_count("num_obstacles", largest, least=least)
    return least, largest
