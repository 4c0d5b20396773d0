"""A graph of entities for environments that tell none: from places in the agents' observations, or
from the world itself where it can be read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.env import VectorEnv
from marl.envs.checks import check_options, check_switch
from marl.errors import UserError
from marl.types import EntityGraph, EntitySpec, Observation, Transition

WORLD = "world"


@dataclass(frozen=True)
class GraphOptions:
    """What ``task.graph`` says.

    Args:
        positions: where in its observation an agent's position is, as indices; or ``world``, for
            all entities of a VMAS world: agents (kind 0) and landmarks (kind 1).
        velocities: indices likewise; zeros where there are none.
        radius: within which entities sense each other, in the unit of the positions.
        directed: whether only agents hear.
    """

    positions: str | tuple[int, ...]
    velocities: tuple[int, ...] = ()
    radius: float = math.inf
    directed: bool = True

    @property
    def spec(self) -> EntitySpec:
        return EntitySpec(2, 2) if self.positions == WORLD else EntitySpec(len(self.positions), 1)


def graph_options(options: Mapping[str, Any]) -> GraphOptions:
    """Raises UserError for what ``task.graph`` cannot be."""
    check_options("task.graph", options, GraphOptions)
    positions = options.get("positions", WORLD)
    if positions != WORLD:
        positions = _indices("positions", positions)
    velocities = _indices("velocities", options.get("velocities", ()), empty=True)
    if velocities and (positions == WORLD or len(velocities) != len(positions)):
        raise UserError(
            f"task.graph: velocities={list(velocities)} must be as many indices as positions has"
        )
    radius, directed = options.get("radius", math.inf), options.get("directed", True)
    if not isinstance(radius, int | float) or isinstance(radius, bool) or not radius > 0:
        raise UserError(f"task.graph: radius={radius!r} must be a positive number")
    check_switch("directed", directed)
    return GraphOptions(positions, velocities, float(radius), directed)


def _indices(name: str, value: Any, empty: bool = False) -> tuple[int, ...]:
    found = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    whole = all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in found)
    if not whole or not (found or (empty and len(value) == 0)):
        raise UserError(
            f"task.graph: {name}={value!r} must be indices into an agent's observation, such as "
            "[0, 1]" + ("" if name == "velocities" else f", or {WORLD} in VMAS")
        )
    return tuple(found)


def cannot_draw(env: VectorEnv) -> str:
    """Returns why an environment gives no picture, ``""`` where it does or nothing is known; it
    must be reset after this."""
    return env.cannot_draw() if hasattr(env, "cannot_draw") else ""  # type: ignore[attr-defined]


class ObservedGraph:
    """An environment whose agents, by what they observe, stand in a graph. Nothing else changes.

    Raises:
        UserError: an index beyond a group's observation, or images.
    """

    def __init__(self, env: VectorEnv, options: GraphOptions):
        self.env, self.options = env, options
        self.num_envs, self.device = env.num_envs, env.device
        self.teams, self.state_size = env.teams, env.state_size
        assert options.positions != WORLD
        for name, group in env.groups.items():
            last = max([*map(int, options.positions), *options.velocities])
            if len(group.observation.shape) != 1 or last >= group.observation.size:
                raise UserError(
                    f"task.graph: group {name!r} observes {list(group.observation.shape)} numbers; "
                    f"there is no index {last}"
                )
        self.groups = {n: replace(g, entities=options.spec) for n, g in env.groups.items()}
        counts = [group.size for group in env.groups.values()]
        ends = np.cumsum([0, *counts]).tolist()
        self._ego = tuple(
            (name, range(a, b)) for name, a, b in zip(env.groups, ends, ends[1:], strict=False)
        )

    def reset(self, seed: int) -> Observation:
        return self._told(self.env.reset(seed))

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        made = self.env.step(action)
        after = self._told(made.next_obs)
        obs = after if made.obs is made.next_obs else self._told(made.obs)
        return replace(made, obs=obs, next_obs=after)

    def _told(self, obs: Observation) -> Observation:
        position = self._picked(obs, [int(i) for i in self.options.positions])
        moving = list(self.options.velocities)
        parts = [seen.alive for seen in obs.groups.values()]
        there = [
            position.new_ones(len(position), size).bool() if alive is None else alive
            for alive, size in zip(parts, (len(r) for _, r in self._ego), strict=True)
        ]
        graph = EntityGraph(
            position=position,
            velocity=self._picked(obs, moving) if moving else torch.zeros_like(position),
            goal=position,
            kind=torch.zeros_like(position[..., 0], dtype=torch.int64),
            mask=torch.cat(there, dim=1),
            ego=self._ego,
            radius=self.options.radius,
            directed=self.options.directed,
        )
        return replace(obs, graph=graph)

    def _picked(self, obs: Observation, index: list[int]) -> Tensor:
        """These numbers of all agents' observations, ``[B, E, D]``."""
        return torch.cat([obs.groups[name].obs[..., index] for name, _ in self._ego], dim=1)

    def state_dict(self) -> dict[str, Any] | None:
        return self.env.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.env.load_state_dict(state)

    def render(self, index: int = 0) -> np.ndarray:
        return self.env.render(index)

    def cannot_draw(self) -> str:
        """As the environment's own, where it has one."""
        return cannot_draw(self.env)

    def close(self) -> None:
        self.env.close()
