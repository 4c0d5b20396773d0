"""Factories of PettingZoo environments by name: picklable, with errors that say what to install.

Imports neither torch nor PettingZoo until an environment is made.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from marl.envs.gymnasium import registry
from marl.envs.pettingzoo.layout import Factory
from marl.envs.pettingzoo.package_errors import package_errors
from marl.envs.pettingzoo.versions import newest, stem, version
from marl.errors import UserError, unknown
from marl.utils.argument_docs import argument_options
from marl.utils.field_docs import Option
from marl.utils.serialization import import_path

MPE2 = (
    "collect_treasure_v1",
    "simple_v3",
    "simple_adversary_v3",
    "simple_crypto_v3",
    "simple_formation_v1",
    "simple_line_v1",
    "simple_push_v3",
    "simple_reference_v3",
    "simple_speaker_listener_v4",
    "simple_spread_v3",
    "simple_tag_v3",
    "simple_world_comm_v3",
)
REGISTRY = (  # without Atari's, which need ROMs
    "butterfly/cooperative_pong-v6",
    "butterfly/knights_archers_zombies-v11",
    "butterfly/pistonball-v6",
    "classic/rps-v2",
    "sisl/multiwalker-v9",
    "sisl/pursuit-v5",
)
TURN_BASED = (  # of the registry, without those that have a parallel version
    "classic/chess-v6",
    "classic/connect_four-v3",
    "classic/go-v5",
    "classic/hanabi-v5",
    "classic/leduc_holdem-v4",
    "classic/texas_holdem-v4",
    "classic/texas_holdem_no_limit-v6",
    "classic/tictactoe-v3",
)
# Tasks whose agents all stay until the episode's end, so that their groups need no ``alive``.
IMMORTAL = re.compile(
    r"(aec/)?mpe2/|aec/classic/"
    r"|(pettingzoo|aec)/(classic/rps|butterfly/(pistonball|cooperative_pong)|sisl/pursuit)\b"
    r"|gymnasium/((lbforaging:)?Foraging|(rware:)?rware)"
)
EXTRAS = {"butterfly": "marl-groups[butterfly]", "sisl": "marl-groups[sisl]"}


def names() -> tuple[str, ...]:
    """Returns the known tasks, importing none; others of the registry and import paths work too."""
    return (
        *(f"mpe2/{name}" for name in MPE2),
        *(f"pettingzoo/{name}" for name in REGISTRY),
        *(f"aec/{name}" for name in TURN_BASED),
        *registry.names(),
    )


def factory(name: str, /, **kwargs: Any) -> Factory:
    """Returns a picklable factory of a task's environment.

    Args:
        name: ``mpe2/<name>``, ``pettingzoo/<registry id>``, ``aec/mpe2/<name>``, ``aec/<registry
            id>``, without a version the newest; ``gymnasium/<id>`` or ``module:factory``.
        kwargs: go to the environment.

    Raises:
        UserError: an unknown environment, or a package that is missing.
    """
    if name.startswith(registry.PREFIX):
        identifier = registry.find(name.removeprefix(registry.PREFIX))
        return functools.partial(registry.make_gymnasium, identifier, **kwargs)
    if found := _find_installed(name):
        make, *arguments = found
        return functools.partial(make, *arguments, **kwargs)
    if ":" not in name:
        raise unknown("task", name, names())
    _load(name)
    return functools.partial(make_imported, name, **kwargs)


def _find_installed(name: str) -> tuple[Callable[..., Any], str, str] | None:
    """Returns the function and the first two arguments that make an environment of mpe2 or of
    PettingZoo's registry; None for another task."""
    kind, _, rest = name.partition("/")
    parallel = kind != "aec"
    if kind == "mpe2" or (kind == "aec" and rest.startswith("mpe2/")):
        function = "parallel_env" if parallel else "env"
        return make_mpe2, _find_mpe2(name, rest.removeprefix("mpe2/")), function
    if kind in ("pettingzoo", "aec"):
        return make_registered, "parallel" if parallel else "aec", _find_registered(kind, rest)
    return None


def task_options(name: str) -> Iterator[Option]:
    """Yields the arguments of a task's environment, of all but those of PettingZoo's registry.

    Args:
        name: as of ``factory``.

    Raises:
        UserError: an unknown environment, or a package that is missing.
    """
    kind, _, rest = name.removeprefix("aec/").partition("/")
    if name.startswith(registry.PREFIX):
        yield from registry.options(name.removeprefix(registry.PREFIX))
    elif ":" in name:
        yield from argument_options(_load(name), without=["num_envs", "device"])
    elif kind == "mpe2":
        module = importlib.import_module(f"mpe2.{_find_mpe2(name, rest)}")
        yield from argument_options(module.raw_env, without=["render_mode"])


# ---------------------------------------------------------------------- called in the workers too


def make_mpe2(name: str, function: str, /, **kwargs: Any) -> Any:
    """Makes the mpe2 environment of a module's name, such as ``simple_spread_v3``, by that module's
    ``parallel_env`` or ``env``."""
    with package_errors(f"mpe2/{name}", every=True):
        return getattr(importlib.import_module(f"mpe2.{name}"), function)(**kwargs)


def make_registered(interface: Any, identifier: str, /, **kwargs: Any) -> Any:
    """Makes the environment of PettingZoo's registry, ``parallel`` or ``aec``; raises UserError
    where its package is missing."""
    import pettingzoo
    from pettingzoo.env_registry.exceptions import FailedToImport

    task = f"{'aec' if interface == 'aec' else 'pettingzoo'}/{identifier}"
    try:
        with package_errors(task, every=True, but=(ImportError, FailedToImport)):
            return pettingzoo.make(interface, identifier, **kwargs)
    except (ImportError, FailedToImport) as error:
        extra = identifier.partition("/")[0]
        package = EXTRAS.get(extra, f"pettingzoo[{extra}]")
        reason = error.__cause__ or error
        raise UserError(
            f"task {task!r} needs a package that is missing ({reason}): pip install '{package}'"
        ) from error


def make_imported(path: str, /, **kwargs: Any) -> Any:
    """Makes the environment of an import path, ``module:factory`` or ``file.py:factory``."""
    with package_errors(path):
        return _load(path)(**kwargs)


def _load(path: str) -> Factory:
    factory = import_path(path)
    if not callable(factory):
        raise UserError(
            f"task {path!r} is a {type(factory).__name__}; expected a function that returns an "
            "environment"
        )
    return factory


# ------------------------------------------------------------------------------------------- names


def _find_mpe2(task: str, name: str) -> str:
    try:
        import mpe2
    except ImportError as error:
        raise UserError(f"task {task!r} needs a package: pip install mpe2") from error
    modules = [m.name for m in pkgutil.iter_modules(mpe2.__path__) if version(m.name)]
    return _find(task, name, modules)


def _find_registered(kind: str, identifier: str) -> str:
    """Returns the id in PettingZoo's registry, which separates versions by a hyphen."""
    import pettingzoo

    identifier = re.sub(r"_v(\d+)$", r"-v\1", identifier)
    if kind == "aec":
        return _find(f"aec/{identifier}", identifier, pettingzoo.aec_registry)
    known = pettingzoo.parallel_registry
    turn_based = [i for i in pettingzoo.aec_registry if i not in known]
    if identifier in (*turn_based, *map(stem, turn_based)):
        raise UserError(
            f"task 'pettingzoo/{identifier}' is turn-based (AEC) only; set "
            f"task=aec/{identifier}, in which one agent acts in a step"
        )
    return _find(f"pettingzoo/{identifier}", identifier, known)


def _find(task: str, name: str, known: Iterable[str]) -> str:
    """Returns ``name`` itself, or its newest version."""
    if found := newest(name, known):
        return found
    raise unknown("task", task, names())
