"""Graph of the entities of a VMAS world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from marl.envs.graph import GraphOptions
from marl.types import EntityGraph


class Entities:
    """Agents by group, then landmarks, as they are at the moment of a call.

    Args:
        env: a ``vmas.simulator.environment.Environment``.
        indices: group -> the places of its agents among all.
        options: of the graph.
    """

    def __init__(
        self, env: Any, indices: Mapping[str, Sequence[int]], options: GraphOptions
    ) -> None:
        self._agents = [env.agents[i] for group in indices.values() for i in group]
        self._world, self._options = env.world, options
        kinds = [0] * len(self._agents) + [1] * len(env.world.landmarks)
        self._kind = torch.tensor(kinds, device=env.world.device).expand(env.num_envs, -1)
        ends = [0, *accumulate(len(group) for group in indices.values())]
        self._ego = tuple((n, range(ends[i], ends[i + 1])) for i, n in enumerate(indices))

    def __call__(self) -> EntityGraph:
        """Returns the graph; an entity's goal is where its ``goal`` is, or itself without one."""
        entities = [*self._agents, *self._world.landmarks]
        position = torch.stack([e.state.pos for e in entities], dim=1)
        goals = [getattr(getattr(e, "goal", None), "state", e.state).pos for e in entities]
        return EntityGraph(
            position=position,
            velocity=torch.stack([e.state.vel for e in entities], dim=1),
            goal=torch.stack(goals, dim=1),
            kind=self._kind,
            mask=torch.ones_like(position[..., 0], dtype=torch.bool),
            ego=self._ego,
            radius=self._options.radius,
            directed=self._options.directed,
        )
