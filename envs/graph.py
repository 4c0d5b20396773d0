"""Entity graphs for environments without one, from positions in the agents' observations.

VMAS builds the graph of its whole world instead (``positions=world``).
"""

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
from marl.envs.wrappers import Wrapper
from marl.envs.wrappers import cannot_draw as cannot_draw
from marl.errors import UserError
from marl.types import EntityGraph, EntitySpec, Observation, Transition

WORLD = "world"


@dataclass(frozen=True)
class GraphOptions:
    """Options of ``task.graph``."""

    #: Indices of an agent's position in its observation; or ``world``, for all entities of a VMAS
    #: world: agents (kind 0) and landmarks (kind 1).
    positions: str | tuple[int, ...]
    #: Indices of an agent's velocity in its observation; empty for zeros.
    velocities: tuple[int, ...] = ()
    #: Distance within which entities sense each other, in the unit of the positions.
    radius: float = math.inf
    #: Whether edges lead to agents only; false for edges both ways.
    directed: bool = True

    @property
    def spec(self) -> EntitySpec:
        """Specification of the graph's entities."""
        return EntitySpec(2, 2) if self.positions == WORLD else EntitySpec(len(self.positions), 1)


def graph_options(options: Mapping[str, Any]) -> GraphOptions:
    """Returns the checked options of ``task.graph``.

    Raises:
        UserError: an unknown option, or a value out of range.
    """
    check_options("task.graph", options, GraphOptions)
    positions = options.get("positions", WORLD)
    if positions != WORLD:
        positions = _indices("positions", positions)
    velocities = _indices("velocities", options.get("velocities", ()), empty=True)
    if velocities and (positions == WORLD or len(velocities) != len(positions)):
        raise UserError(
            f"task.graph: velocities={list(velocities)} must be as many indices as positions has; "
            "leave them out for zeros"
        )
    radius, directed = options.get("radius", math.inf), options.get("directed", True)
    if not isinstance(radius, int | float) or isinstance(radius, bool) or not radius > 0:
        raise UserError(f"task.graph: radius={radius!r} must be a positive number")
    check_switch("directed", directed)
    return GraphOptions(positions, velocities, float(radius), directed)


def _indices(name: str, value: Any, empty: bool = False) -> tuple[int, ...]:
    """Returns a list of indices as a tuple; raises UserError for anything else."""
    indices = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    whole = all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in indices)
    if not whole or not (indices or (empty and len(value) == 0)):
        raise UserError(
            f"task.graph: {name}={value!r} must be indices into an agent's observation, such as "
            "[0, 1]" + ("" if name == "velocities" else f", or {WORLD} in VMAS")
        )
    return tuple(indices)


class ObservedGraph(Wrapper):
    """An environment with a graph of its agents, built from their observations.

    Nothing else of the environment changes.

    Args:
        env: the environment.
        options: where positions and velocities are; not ``world``.

    Raises:
        UserError: an index beyond a group's observation, or images.
    """

    def __init__(self, env: VectorEnv, options: GraphOptions):
        super().__init__(env)
        self.options = options
        assert options.positions != WORLD
        for name, group in env.groups.items():
            last = max([*map(int, options.positions), *options.velocities])
            if len(group.observation.shape) != 1 or last >= group.observation.size:
                raise UserError(
                    f"task.graph: group {name!r} observes {list(group.observation.shape)} numbers, "
                    f"which have no index {last}; expected indices into one axis of numbers"
                )
        self.groups = {n: replace(g, entities=options.spec) for n, g in env.groups.items()}
        counts = [group.size for group in env.groups.values()]
        ends = np.cumsum([0, *counts]).tolist()
        self._ego = tuple(
            (name, range(a, b)) for name, a, b in zip(env.groups, ends, ends[1:], strict=False)
        )

    def reset(self, seed: int) -> Observation:
        return self._with_graph(self.env.reset(seed))

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = self.env.step(action)
        next_obs = self._with_graph(transition.next_obs)
        same = transition.obs is transition.next_obs
        obs = next_obs if same else self._with_graph(transition.obs)
        return replace(transition, obs=obs, next_obs=next_obs)

    def _with_graph(self, obs: Observation) -> Observation:
        """Returns the observation with the graph of its agents."""
        position = self._columns(obs, [int(i) for i in self.options.positions])
        velocities = list(self.options.velocities)
        flags = [group.alive for group in obs.groups.values()]
        present = [
            position.new_ones(len(position), size).bool() if alive is None else alive
            for alive, size in zip(flags, (len(r) for _, r in self._ego), strict=True)
        ]
        graph = EntityGraph(
            position=position,
            velocity=self._columns(obs, velocities) if velocities else torch.zeros_like(position),
            goal=position,
            kind=torch.zeros_like(position[..., 0], dtype=torch.int64),
            mask=torch.cat(present, dim=1),
            ego=self._ego,
            radius=self.options.radius,
            directed=self.options.directed,
        )
        return replace(obs, graph=graph)

    def _columns(self, obs: Observation, index: list[int]) -> Tensor:
        """Returns the entries ``index`` of all agents' observations, ``[B, E, D]``."""
        return torch.cat([obs.groups[name].obs[..., index] for name, _ in self._ego], dim=1)

    def state_dict(self) -> dict[str, Any] | None:
        return self.env.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.env.load_state_dict(state)
