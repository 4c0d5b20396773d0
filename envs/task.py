"""Environments by name: ``Task("vmas/balance")(32, device)`` gives 32 copies."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from marl.env import VectorEnv
from marl.envs.graph import WORLD, GraphOptions, ObservedGraph, graph_options
from marl.errors import UserError, unknown
from marl.utils.serialization import import_path

# Entry points of other packages' environments: name -> callable(num_envs, device, **kwargs).
ENTRY_POINTS = "marl.tasks"


@dataclass
class Task:
    """An environment by name, with its options.

    ``name`` is ``vmas/<scenario>``, ``mpe/<scenario>`` or ``navigation/<task>`` (particle worlds
    batched in torch), ``games/<game>`` (small games with known answers), ``mpe2/<name>``,
    ``pettingzoo/<registry id>``, a name that an installed package gives, or ``module:factory``, an
    import path to a callable that takes ``num_envs`` and ``device`` and returns a VectorEnv, or
    takes neither and returns a parallel PettingZoo environment."""

    name: str = "vmas/navigation"
    max_steps: int | None = None  # of an episode; null for the environment's own (VMAS: 100)
    groups: dict[str, list[str]] = field(
        default_factory=dict
    )  # group -> agents; empty: found by name
    kwargs: dict[str, Any] = field(default_factory=dict)  # the environment's own options
    actions: str = "continuous"  # VMAS: continuous, discrete or multidiscrete
    state: bool = False  # PettingZoo: observe the environment's state() for critic=state
    workers: int = 0  # PettingZoo: processes that step the copies; 0 for none
    graph: dict[str, Any] = field(
        default_factory=dict
    )  # a graph where there is none: positions ([0, 1], or world in VMAS), velocities, radius

    def __post_init__(self) -> None:
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(f"task.max_steps={self.max_steps} must be at least 1")
        if self.workers < 0:
            raise UserError(f"task.workers={self.workers} must not be negative")

    def __call__(self, num_envs: int, device: torch.device) -> VectorEnv:
        """Makes ``num_envs`` copies.

        Raises:
            UserError: an unknown name or option.
        """
        if not self.graph:
            return self._made(num_envs, device, None)
        options = graph_options(self.graph)
        if options.positions == WORLD:
            if not self.name.startswith("vmas/"):
                raise UserError(
                    f"task.graph: only VMAS tells its world, and this is {self.name!r}; set "
                    "positions to indices of the observation, such as [0, 1]"
                )
            return self._made(num_envs, device, options)
        return ObservedGraph(self._made(num_envs, device, None), options)

    def _made(self, num_envs: int, device: torch.device, graph: GraphOptions | None) -> VectorEnv:
        provider = self.name.split("/")[0]
        if ":" in self.name:
            return self._from_path(num_envs, device)
        if provider == "vmas":
            return self._vmas(num_envs, device, graph)
        if provider in ("mpe", "navigation"):
            return self._particle(num_envs, device)
        if provider == "games":
            return self._game(num_envs, device)
        if provider in ("mpe2", "pettingzoo"):
            return self._pettingzoo(self.name, num_envs, device)
        for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
            if entry.name == self.name:
                return entry.load()(num_envs=num_envs, device=device, **self.kwargs)
        raise unknown("task", self.name, task_names())

    def _vmas(self, num_envs: int, device: torch.device, graph: GraphOptions | None) -> VectorEnv:
        from marl.envs.vmas.env import VmasEnv

        return VmasEnv(
            self.name.removeprefix("vmas/"),
            num_envs,
            device,
            self.max_steps,
            self.actions,
            self.groups or None,
            graph,
            **self.kwargs,
        )

    def _particle(self, num_envs: int, device: torch.device) -> VectorEnv:
        from marl.envs.particle.tasks import make

        return make(self.name, num_envs, device, self.max_steps, self.groups or None, **self.kwargs)

    def _game(self, num_envs: int, device: torch.device) -> VectorEnv:
        from marl.envs.games.env import make

        return make(self.name, num_envs, device, self.max_steps, self.groups or None, **self.kwargs)

    def _pettingzoo(self, name: str, num_envs: int, device: torch.device) -> VectorEnv:
        from marl.envs.pettingzoo.env import make

        return make(
            name,
            num_envs,
            device,
            max_steps=self.max_steps,
            groups=self.groups or None,
            workers=min(self.workers, num_envs),
            state=self.state,
            **self.kwargs,
        )

    def _from_path(self, num_envs: int, device: torch.device) -> VectorEnv:
        factory: Callable[..., Any] = import_path(self.name)
        if "num_envs" in inspect.signature(factory).parameters:
            return factory(num_envs=num_envs, device=device, **self.kwargs)
        return self._pettingzoo(self.name, num_envs, device)


def task_names() -> tuple[str, ...]:
    """Every task that has a name here, other packages' included."""
    from marl.envs.games.env import names as game_names
    from marl.envs.particle.tasks import names as particle_names
    from marl.envs.pettingzoo.env import names
    from marl.envs.vmas.env import SCENARIOS

    others = (entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))
    own = (*(f"vmas/{name}" for name in SCENARIOS), *particle_names(), *game_names())
    return (*own, *names(), *others)
