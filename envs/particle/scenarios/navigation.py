"""What InforMARL's four tasks (Nayak et al. 2023) share: agents go to places around obstacles, and
see each other, the places and the obstacles as a graph.

Bodies move in the order of InforMARL's code, which is OpenAI's MPE's: with the new velocity.
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
from marl.envs.particle.scenario import Outcome, Scenario, State, nearest, ways
from marl.errors import UserError, unknown
from marl.types import EntityGraph, EntitySpec

SIZE = 0.05  # radius of every body, and how near a place counts as reached, metres
INNER = 0.8  # share of the world in which goals and obstacles lie
REACHED, HIT = 5.0, 5.0  # earned at a place; lost for each agent and once for any obstacle touched
AWAY = 1e4  # metres: where obstacles are that an episode does without
INFORMATION = ("local", "neighbourhood", "global")
AGENT, GOAL, OBSTACLE = 0, 1, 2  # kinds of the graph's entities


class Navigation(Scenario):
    """``N`` agents, as many places to be, and obstacles in a square without walls.

    An agent earns 5 within 0.05 m of its place, else minus the distance to it; it loses 5 for each
    agent that it touches and 5 if it touches any obstacle. The paper's reward is the sum over
    agents (``algorithm.reward=team_sum``).

    Args:
        num_obstacles: how many, or ``[least, most]`` for a number drawn anew in every episode.
        world_size: side of the square, metres.
        information: what agents see besides their own velocity, place and aim: nothing (local),
            the nearest agents and obstacles (neighbourhood), or all of them (global).
        neighbours: how many of the nearest.
        radius: metres within which something is sensed, as a neighbour and along the graph's edges.
        directed: things do not hear from agents; false for edges both ways.
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
        self.fewest, self.most = _span(num_obstacles)
        green, dark = (0.15, 0.75, 0.15), (0.25, 0.25, 0.25)
        self.agents = [Body(f"agent_{i}", SIZE, max_speed=2.0) for i in range(N)]
        self.landmarks = [
            *(Body(f"goal_{i}", SIZE, collides=False, moves=False, colour=green)
              for i in range(self.goal_count)),
            *(Body(f"obstacle_{i}", SIZE, moves=False, colour=dark) for i in range(self.most)),
        ]  # fmt: skip
        self._agents, self._goals = slice(0, N), slice(N, N + self.goal_count)
        self._obstacles = slice(N + self.goal_count, N + len(self.landmarks))
        self._check_room()

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        super().bind(device, dtype, legacy=True)
        kinds = [AGENT] * self.size + [GOAL] * self.goal_count + [OBSTACLE] * self.most
        self._kind = torch.tensor(kinds, device=device)
        reach, apart = self.layout()
        self._reach, self._apart = reach.to(device, dtype), apart.to(device, dtype)

    # ---------------------------------------------------------------------------------- beginnings

    def counts(self) -> tuple[int, int]:
        """G, the landmarks that the places are, or hang on; F, how many bodies ``fixed`` gives."""
        return self.size, 0

    def fixed(self, noise: Tensor) -> Tensor | None:
        """Where there is a shape: its landmarks, and what else obstacles keep off, ``[B, F, 2]``,
        from ``noise [B, G, 2]``."""
        return None

    def clearance(self) -> float:
        """How far obstacles keep from what is fixed, metres."""
        return 2 * SIZE

    def layout(self) -> tuple[Tensor, Tensor]:
        """How far from the middle along an axis obstacles, agents and random goals lie, ``[E]``,
        and how far from each other and from what is fixed, ``[F + E, F + E]``, metres. An agent may
        stand on a goal."""
        goals = 0 if self.fixed_count else self.goal_count
        counts = torch.tensor([self.fixed_count, self.most, self.size, goals])
        kind = torch.arange(4).repeat_interleave(counts)
        clear, touch = self.clearance(), 2 * SIZE
        with_given, with_obstacles = [0.0, clear, 0.0, 0.0], [clear, touch, touch, touch]
        with_agents, with_goals = [0.0, touch, touch, 0.0], [0.0, touch, 0.0, touch]
        apart = torch.tensor([with_given, with_obstacles, with_agents, with_goals])
        reach = torch.tensor([0, INNER, 1, INNER]) * self.half
        return reach[kind[self.fixed_count :]], apart[kind.unsqueeze(-1), kind]

    @property
    def noise_size(self) -> int:
        return 2 * (self.size + len(self.landmarks)) + 1

    def start(self, noise: Tensor) -> State:
        """``chosen`` holds how many obstacles there are, the step at which each agent first reached
        its place (0: not yet), and which place is whose."""
        batch, agents = len(noise), self.size
        count = self.fewest + (noise[:, -1:] * (self.most - self.fewest + 1)).long()
        count = count.clamp(max=self.most)
        position = self._placed(noise[:, :-1].unflatten(1, (-1, 2)), count)
        never = torch.zeros(batch, agents, dtype=torch.int64, device=noise.device)
        return State(
            position=position,
            velocity=position.new_zeros(batch, agents, 2),
            message=position.new_zeros(batch, agents, 0),
            chosen=torch.cat([count, never, self.assigned(position)], dim=1),
            steps=torch.zeros_like(never[:, 0]),
            totals=position.new_zeros(batch, len(self.measures)),
        )

    def _placed(self, noise: Tensor, count: Tensor) -> Tensor:
        """Agents, goals and obstacles ``[B, E, 2]`` from ``noise [B, E, 2]``, which is of
        obstacles, agents and goals."""
        sizes = [self.most, self.size, self.goal_count]
        given = self.fixed(noise[:, -self.goal_count :])
        drawn = noise if given is None else noise[:, : -self.goal_count]
        position = place(drawn, self._reach, self._apart, given)
        if given is not None:
            position = torch.cat([position, given[:, : self.goal_count]], dim=1)
        obstacles, agents, goals = position.split(sizes, dim=1)
        gone = torch.arange(self.most, device=noise.device) >= count
        return torch.cat([agents, goals, obstacles.masked_fill(gone.unsqueeze(-1), AWAY)], dim=1)

    def _check_room(self) -> None:
        """Raises UserError where bodies would overlap, with a world that is large enough."""
        asked = self.half
        while crowding(*self.layout()) > CROWDED or self.spacing() < 2 * SIZE:
            self.half *= 1.02  # ends: bodies and distances between them stay small
        if self.half > asked:
            raise UserError(
                f"N={self.size} agents and {self.most} obstacles do not fit into "
                f"world_size={2 * asked:g} without overlap; {math.ceil(20 * self.half) / 10:g} is "
                f"large enough"
            )

    def spacing(self) -> float:
        """The least distance between two places of a shape, metres."""
        return math.inf

    # ---------------------------------------------------------------------------------------- steps

    def targets(self, position: Tensor) -> Tensor:
        """The places to be, ``[B, N, 2]``, of entities at ``position [B, E, 2]``."""
        return position[:, self._goals]

    def assigned(self, position: Tensor) -> Tensor:
        """The place of every agent, ``[B, N]`` int64: so that the sum of the distances is least."""
        return match(distances(position[:, self._agents], self.targets(position)))

    def happen(self, state: State, noise: Tensor) -> State:
        count, first, _ = state.chosen.split([1, self.size, self.size], dim=1)
        assigned = self.assigned(state.position)
        arrives = (first == 0) & (self._away(state.position, assigned) < SIZE)
        first = torch.where(arrives, state.steps.unsqueeze(-1), first)
        return replace(state, chosen=torch.cat([count, first, assigned], dim=1))

    def outcome(self, state: State) -> Outcome:
        touching, everyone = self.physics.touching, self._agents
        _, first, assigned = state.chosen.split([1, self.size, self.size], dim=1)
        away = self._away(state.position, assigned)
        met = touching(state.position, everyone, everyone).sum(-1) - 1  # [B, N] other agents
        hit = touching(state.position, everyone, self._obstacles).any(-1)
        there = away < SIZE
        reward = torch.where(there, REACHED, -away) - HIT * (met + hit)
        measures = (
            torch.where(first > 0, first / state.steps.unsqueeze(-1), 1.0).mean(-1),
            met.sum(-1) / 2 + hit.sum(-1),
            (first > 0).all(-1),
            away.mean(-1),
            there.float().mean(-1),
        )
        return Outcome(reward, measures)

    def _away(self, position: Tensor, assigned: Tensor) -> Tensor:
        """Metres from every agent to its place, ``[B, N]``."""
        places = self.targets(position).gather(1, assigned.unsqueeze(-1).expand(-1, -1, 2))
        return (places - position[:, self._agents]).square().sum(-1).sqrt()

    # ---------------------------------------------------------------------------------- information

    def aims(self, agents: Tensor, goals: Tensor) -> Tensor:
        """Where an agent is to go, as far as it knows by itself, relative to it, ``[B, N, A]``."""
        raise NotImplementedError

    def observe(self, state: State) -> Tensor:
        agents = state.position[:, self._agents]
        seen = [state.velocity, agents, self.aims(agents, state.position[:, self._goals])]
        if self.information != "local":
            to_obstacles = ways(agents, state.position[:, self._obstacles])
            bodies = torch.cat([self.to_others(agents), to_obstacles], dim=2)
            seen.append(self._told(bodies).flatten(2))
        return torch.cat(seen, dim=-1)

    def _told(self, to_bodies: Tensor) -> Tensor:
        """All of ``[B, N, M, 2]`` that are there, or the nearest within the radius; else zeros."""
        away = to_bodies.square().sum(-1).sqrt()
        reach = self.radius if self.information == "neighbourhood" else AWAY / 2
        sensed = to_bodies.masked_fill((away >= reach).unsqueeze(-1), 0.0)
        return sensed if self.information == "global" else nearest(sensed, away, self.neighbours)

    def entities(self) -> EntitySpec:
        return EntitySpec(space=2, kinds=3)

    def graph(self, state: State) -> EntityGraph:
        there = torch.arange(self.most, device=state.chosen.device) < state.chosen[:, :1]
        always = there.new_ones(len(there), self._obstacles.start)
        mask = torch.cat([always, there], dim=1)
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
        """The goal of every entity, ``[B, E, 2]``; who has none has its own position."""
        return position


def check_length(name: str, value: object) -> None:
    """Raises UserError where ``value`` is no positive number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise UserError(f"{name}={value!r} must be a positive number of metres")


def _span(count: Any) -> tuple[int, int]:
    """The fewest and the most of ``3`` or ``[0, 10]``."""
    pair: Any = count if isinstance(count, Sequence) and len(count) == 2 else (count, count)
    least, most = pair
    check_count("num_obstacles", least, least=0)
    check_count("num_obstacles", most, least=least)
    return least, most
