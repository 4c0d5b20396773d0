"""Providers of environments: a table of task prefixes, and the factories of import paths."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from marl.env import VectorEnv
from marl.envs.checks import check_factory_options
from marl.envs.first_step import FirstStepCheck
from marl.envs.graph import WORLD, graph_options
from marl.envs.vmas.scenario import is_scenario
from marl.envs.vmas.scenario import options as scenario_options
from marl.errors import unknown
from marl.utils.field_docs import Option
from marl.utils.serialization import import_path

if TYPE_CHECKING:
    from marl.envs.task import Task

#: Prefixes of registries that hold more tasks than ``task_names`` lists.
REGISTRIES = ("foraging", "pettingzoo", "aec", "gymnasium")
# Entry points of other packages' environments: the task's name -> its factory.
ENTRY_POINTS = "marl.tasks"


@dataclass(frozen=True)
class Provider:
    """Makes the environments of a prefix."""

    #: Function of the task, the number of copies and the device that returns the environment.
    make: Callable[[Task, int, torch.device], VectorEnv]
    #: Options of the task that ``make`` reads, besides ``kwargs``; others are refused.
    reads: frozenset[str]
    #: Function that returns the tasks known by name.
    names: Callable[[], Iterable[str]] = tuple
    #: Function of a task's name that returns the options which ``task.kwargs`` sets.
    options: Callable[[str], Iterable[Option]] = lambda name: ()
    #: Whether ``task.graph`` may take its positions from the ``world``.
    world_graph: bool = False
    #: Names that ``task.kwargs`` cannot have, for ``make`` sets them itself.
    reserved: frozenset[str] = frozenset()


def find_provider(name: str) -> Provider:
    """Returns the provider of the task ``name``.

    Raises:
        UserError: an unknown task, or an import path to nothing.
    """
    if (prefix := prefix_of(name)) in PROVIDERS:
        return PROVIDERS[prefix]
    if ":" in name:
        return _imported(name)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            return _imported(f"{entry.module}:{entry.attr}")
    raise unknown("task", name, task_names())


def prefix_of(name: str) -> str:
    """Returns the prefix of a task, up to its first slash; ``""`` for an import path.

    An id of Gymnasium may hold a colon too: ``gymnasium/module:id``.
    """
    prefix = name.partition("/")[0]
    return prefix if prefix == "gymnasium" or ":" not in name else ""


def _imported(path: str) -> Provider:
    """Returns the provider of an import path: of VMAS for a scenario, of batched environments where
    its factory takes ``num_envs``, else of PettingZoo's."""
    value = import_path(path)
    if is_scenario(value):
        options = partial(_scenario_options, value)
        return replace(PROVIDERS["vmas"], make=partial(_vmas, value), options=options)
    if _takes_num_envs(value):
        return replace(BATCHED, make=partial(_batched, path))
    return replace(IMPORTED, make=partial(_pettingzoo, path))


def _takes_num_envs(factory: Any) -> bool:
    try:
        return "num_envs" in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # not callable, or without a signature
        return False


def _vmas(scenario: Any, task: Task, num_envs: int, device: torch.device) -> VectorEnv:
    """Makes the environment of a user's scenario, or of the task's name where that is None."""
    from marl.envs.vmas.env import VmasEnv

    world = graph_options(task.graph) if task.graph else None
    return VmasEnv(
        task.name.removeprefix("vmas/") if scenario is None else scenario,
        num_envs,
        device,
        task.max_steps,
        task.actions,
        task.groups or None,
        world if world and world.positions == WORLD else None,
        **task.kwargs,
    )


def _particle(task: Task, num_envs: int, device: torch.device) -> VectorEnv:
    from marl.envs.particle.tasks import make

    return make(task.name, num_envs, device, task.max_steps, task.groups or None, **task.kwargs)


def _game(task: Task, num_envs: int, device: torch.device) -> VectorEnv:
    from marl.envs.games.tasks import make

    return make(task.name, num_envs, device, task.max_steps, task.groups or None, **task.kwargs)


def _foraging(task: Task, num_envs: int, device: torch.device) -> VectorEnv:
    from marl.envs.foraging.tasks import make

    return make(task.name, num_envs, device, task.max_steps, task.groups or None, **task.kwargs)


def _pettingzoo(path: str | None, task: Task, num_envs: int, device: torch.device) -> VectorEnv:
    """Makes the environment of an import path, or of the task's name where ``path`` is None."""
    from marl.envs.pettingzoo.env import make

    return make(
        path or task.name,
        num_envs,
        device,
        max_steps=task.max_steps,
        groups=task.groups or None,
        workers=min(task.workers, num_envs),
        state=task.state,
        options=task.kwargs,
    )


def _batched(path: str, task: Task, num_envs: int, device: torch.device) -> VectorEnv:
    from marl.envs.pettingzoo.package_errors import package_errors

    with package_errors(task.name):
        factory = import_path(path)
        check_factory_options(task.name, task.kwargs, factory)
        env = factory(num_envs=num_envs, device=device, **task.kwargs)
    return FirstStepCheck(env, task.name, num_envs)


def _vmas_options(name: str) -> Iterable[Option]:
    return scenario_options(name.removeprefix("vmas/"))


def _scenario_options(scenario: Any, name: str) -> Iterable[Option]:
    return scenario_options(scenario)


def _particle_options(name: str) -> Iterable[Option]:
    from marl.envs.particle.tasks import task_options

    return task_options(name)


def _game_options(name: str) -> Iterable[Option]:
    from marl.envs.games.tasks import task_options

    return task_options(name)


def _foraging_options(name: str) -> Iterable[Option]:
    from marl.envs.foraging.tasks import task_options

    return task_options(name)


def _pettingzoo_options(name: str) -> Iterable[Option]:
    from marl.envs.pettingzoo.factories import task_options

    return task_options(name)


def _vmas_names() -> Iterable[str]:
    from marl.envs.vmas.build import SCENARIOS

    return (f"vmas/{name}" for name in SCENARIOS)


def _particle_names(prefix: str) -> Iterable[str]:
    from marl.envs.particle.tasks import names

    return (name for name in names() if name.startswith(prefix))


def _game_names() -> Iterable[str]:
    from marl.envs.games.tasks import names

    return names()


def _foraging_names() -> Iterable[str]:
    from marl.envs.foraging.tasks import names

    return names()


def _pettingzoo_names(prefix: str) -> Iterable[str]:
    from marl.envs.pettingzoo.factories import names

    return (name for name in names() if name.startswith(prefix))


# Options that the providers read.
NATIVE = frozenset({"max_steps", "groups", "graph"})
PETTINGZOO = NATIVE | {"state", "workers"}
# Arguments that a run sets.
COPIES = frozenset({"num_envs", "device"})
#: The provider of every prefix.
PROVIDERS = {
    "vmas": Provider(
        partial(_vmas, None),
        NATIVE | {"actions"},
        _vmas_names,
        _vmas_options,
        True,
        NATIVE | COPIES | {"actions", "scenario"},
    ),
    **{
        prefix: Provider(
            _particle,
            NATIVE,
            partial(_particle_names, f"{prefix}/"),
            _particle_options,
            reserved=NATIVE | COPIES,
        )
        for prefix in ("mpe", "navigation")
    },
    "games": Provider(
        _game, NATIVE - {"graph"}, _game_names, _game_options, reserved=NATIVE | COPIES
    ),
    "foraging": Provider(
        _foraging, NATIVE - {"graph"}, _foraging_names, _foraging_options, reserved=NATIVE | COPIES
    ),
    **{
        prefix: Provider(
            partial(_pettingzoo, None),
            PETTINGZOO,
            partial(_pettingzoo_names, f"{prefix}/"),
            _pettingzoo_options,
        )
        for prefix in ("mpe2", "pettingzoo", "aec")
    },
    "gymnasium": Provider(
        partial(_pettingzoo, None),
        NATIVE | {"workers"},
        partial(_pettingzoo_names, "gymnasium/"),
        _pettingzoo_options,
    ),
}
#: The provider of import paths to PettingZoo environments.
IMPORTED = Provider(partial(_pettingzoo, None), PETTINGZOO, options=_pettingzoo_options)
#: The provider of import paths to batched environments, whose factory takes ``num_envs``.
BATCHED = Provider(
    partial(_batched, ""), frozenset({"graph"}), options=_pettingzoo_options, reserved=COPIES
)


def task_names() -> tuple[str, ...]:
    """Returns every task that is known by name, those of installed packages included."""
    names = (name for provider in PROVIDERS.values() for name in provider.names())
    registered = (entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))
    return (*names, *registered)
