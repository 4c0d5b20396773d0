"""Tasks: environments by name. ``Task("vmas/balance")(32, device)`` makes 32 copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from marl.env import VectorEnv
from marl.envs.graph import WORLD, ObservedGraph, graph_options
from marl.envs.gymnasium.registry import imported_module
from marl.envs.providers import IMPORTED, PROVIDERS, Provider, find_provider, prefix_of
from marl.envs.providers import task_names as task_names
from marl.envs.vmas.scenario import import_path_of
from marl.envs.wrapping import (
    imports,
    parsed,
    with_absolute_files,
    without_reward_wrappers,
    wrap,
)
from marl.errors import UserError
from marl.utils.field_docs import Option
from marl.utils.user_files import absolute


@dataclass
class Task:
    """An environment by name, with its options.

    ``PROVIDERS`` says which of the options the tasks of each prefix read; an option that a task
    does not read is refused.
    """

    #: Which environment: ``vmas/<scenario>``, ``mpe/<scenario>`` or ``navigation/<task>`` (particle
    #: worlds batched in torch), ``games/<game>`` (small games with known answers),
    #: ``foraging/<size>-<players>p-<foods>f[-coop]`` (level-based foraging), ``mpe2/<name>``,
    #: ``pettingzoo/<registry id>``, ``aec/<registry id>`` (turn-based), ``gymnasium/<id>`` (tuples
    #: of agents, or one agent), a name that an installed package registers, or an import path,
    #: ``module:name`` or ``file.py:name``. It names a VMAS scenario (a subclass or an instance of
    #: its ``BaseScenario``; ``vmas/file.py:name`` is the same), or a factory, which takes
    #: ``num_envs`` and ``device`` and returns a VectorEnv, or takes neither and returns a
    #: PettingZoo environment, parallel or turn-based, or a Gymnasium one.
    name: str = "vmas/navigation"
    #: Time limit of an episode, in steps; null for the environment's own (VMAS: 100).
    max_steps: int | None = None
    #: The agents of each group, ``{group: [agent, ...]}``; empty groups them by name and spaces.
    groups: dict[str, list[str]] = field(default_factory=dict)
    #: The environment's own options, by name.
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: Kind of actions: ``continuous``, ``discrete`` or ``multidiscrete``; only with VMAS.
    actions: str = "continuous"
    #: Whether to observe the environment's ``state()``, for ``critic=state``; only with PettingZoo.
    state: bool = False
    #: Processes that step the copies; 0 steps them in this process. Only with PettingZoo and
    #: Gymnasium; usual up to the number of cores.
    workers: int = 0
    #: A graph of the agents for environments without one: ``positions`` (their indices in an
    #: observation, such as ``[0, 1]``, or ``world`` in VMAS), ``velocities`` (indices), ``radius``
    #: and ``directed``; empty for no graph.
    graph: dict[str, Any] = field(default_factory=dict)
    #: Wrappers around the environment, the first one next to it: ``{reward_scale: 0.1}``,
    #: ``{reward_clip: [-1, 1]}``, ``{reward_function: module:name}``, ``{reward_potential:
    #: module:name}``, ``{stack_observations: 4}``, ``{metric: module:name}`` and your own,
    #: ``{wrapper: module:name, option: value}``. Evaluations report the environment's own rewards.
    wrappers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = absolute(import_path_of(self.name))
        self.wrappers = with_absolute_files(self.wrappers)
        for entry in self.wrappers:
            parsed(entry)
        if self.max_steps is not None and self.max_steps < 1:
            raise UserError(f"task.max_steps={self.max_steps} must be at least 1")
        if self.workers < 0:
            raise UserError(f"task.workers={self.workers} must not be negative")

    def imports(self) -> list[str]:
        """Returns the users' code that makes it: an import path, or an installed package's name."""
        known = prefix_of(self.name) in PROVIDERS and not imported_module(self.name)
        return [*([] if known else [self.name]), *imports(self.wrappers)]

    def __call__(self, num_envs: int, device: torch.device) -> VectorEnv:
        """Makes the environment.

        Args:
            num_envs: B, the number of copies.
            device: where the environment runs and returns tensors.

        Raises:
            UserError: an unknown name or option, or an option that such a task does not read.
        """
        return wrap(self._unwrapped(num_envs, device), self.wrappers, self.name, num_envs)

    def for_evaluation(self) -> Task:
        """Returns the task whose environments give the environment's own rewards, in spite of
        ``wrappers``."""
        others = without_reward_wrappers(self.wrappers)
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return _Evaluated(**values) if others is None else Task(**{**values, "wrappers": others})

    def stacked_observations(self) -> int:
        """Returns how many observations its wrappers stack; 1 where they do not, or where wrappers
        of a user's may change observations too."""
        entries = [parsed(entry) for entry in self.wrappers]
        stacks = [entry for entry in entries if entry[0] == "stack_observations"]
        if len(stacks) != 1 or any(":" in name for name, _, _ in entries):
            return 1
        _, by_place, by_name = stacks[0]
        return by_name["count"] if by_name else by_place[0]

    def _unwrapped(self, num_envs: int, device: torch.device) -> VectorEnv:
        provider = find_provider(self.name)
        if unread := self._unread(provider):
            raise _not_read(self, unread[0])
        for name in self.kwargs:
            if name in provider.reserved:
                setting = f"task.{name}" if hasattr(self, name) else name
                raise UserError(
                    f"task.kwargs.{name} is no option of the environment {self.name!r}; set "
                    f"{setting}={self.kwargs[name]} instead"
                )
        if not self.graph:
            return provider.make(self, num_envs, device)
        options = graph_options(self.graph)
        if options.positions != WORLD:
            return ObservedGraph(provider.make(self, num_envs, device), options)
        if not provider.world_graph:
            raise UserError(
                f"task.graph: positions={WORLD} works only with VMAS, not {self.name!r}; set "
                "positions to indices of the observation, such as [0, 1]"
            )
        return provider.make(self, num_envs, device)

    def own_options(self) -> Iterator[Option]:
        """Yields the environment's own options, which ``kwargs`` sets, with their values here.

        Raises:
            UserError: an unknown task, or a package that is missing.
        """
        for option in find_provider(self.name).options(self.name):
            value = self.kwargs.get(option.key, option.value)
            yield dataclasses.replace(option, value=value)

    def without_unread(self) -> Task:
        """Returns the task without the options that it does not read, which runs of older versions
        may hold."""
        provider = PROVIDERS.get(prefix_of(self.name))
        return replace_with_defaults(self, self._unread(provider) if provider else ())

    def _unread(self, provider: Provider) -> list[str]:
        """Returns the options that differ from their defaults and that ``provider`` does not
        read."""
        defaults = option_defaults()
        changed = (name for name in defaults if getattr(self, name) != defaults[name])
        return [name for name in changed if name not in provider.reads]


@dataclass
class _Evaluated(Task):
    """A task with the environment's own rewards."""

    def __call__(self, num_envs: int, device: torch.device) -> VectorEnv:
        env = self._unwrapped(num_envs, device)
        return wrap(env, self.wrappers, self.name, num_envs, own_reward=True)


def option_defaults() -> dict[str, Any]:
    """Returns the defaults of the options that not every provider reads, by name."""
    default = Task()
    return {
        f.name: getattr(default, f.name)
        for f in dataclasses.fields(Task)
        if f.name not in ("name", "kwargs", "wrappers")
    }


def replace_with_defaults(task: Task, options: Iterable[str]) -> Task:
    """Returns a copy of ``task`` with the named options at their defaults.

    Args:
        task: the task.
        options: names of fields.
    """
    defaults = option_defaults()
    return dataclasses.replace(task, **{name: defaults[name] for name in options})


def _not_read(task: Task, option: str) -> UserError:
    """Returns the error that a task does not read ``option``."""
    readers = [f"{prefix}/…" for prefix, provider in PROVIDERS.items() if option in provider.reads]
    if option in IMPORTED.reads:
        readers.append("import paths of PettingZoo environments")
    return UserError(
        f"task.{option}={getattr(task, option)!r} changes nothing in {task.name!r}: only "
        f"{', '.join(readers)} read it; leave it out, and set the environment's own options by "
        "task.kwargs"
    )
