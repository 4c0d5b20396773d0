"""Factories of PettingZoo environments by name: picklable, with errors that say what to install.

Imports neither torch nor PettingZoo until an environment is made.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from marl.envs.pettingzoo.layout import Factory
from marl.envs.vmas.scenario import is_scenario
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
# Tasks whose agents all stay until the episode's end, so that their groups need no ``alive``.
IMMORTAL = re.compile(
    r"mpe2/|pettingzoo/(classic/rps|butterfly/pistonball|butterfly/cooperative_pong|sisl/pursuit)\b"
)
EXTRAS = {"butterfly": "marl-groups[butterfly]", "sisl": "marl-groups[sisl]"}


def names() -> tuple[str, ...]:
    """Returns the known tasks, importing none; others of the registry and import paths work too."""
    return (*(f"mpe2/{name}" for name in MPE2), *(f"pettingzoo/{name}" for name in REGISTRY))


def factory(name: str, **kwargs: Any) -> Factory:
    """Returns a picklable factory of a task's environment.

    Args:
        name: ``mpe2/<name>``, ``pettingzoo/<registry id>`` or ``module:factory``; without a version
            the newest.
        kwargs: go to the environment.

    Raises:
        UserError: an unknown or turn-based environment, or a package that is missing.
    """
    kind, _, rest = name.partition("/")
    if kind == "mpe2":
        return functools.partial(make_mpe2, _find_mpe2(rest), **kwargs)
    if kind == "pettingzoo":
        return functools.partial(make_registered, _find_registered(rest), **kwargs)
    if ":" not in name:
        raise unknown("task", name, names())
    _load(name)
    return functools.partial(make_imported, name, **kwargs)


def task_options(name: str) -> Iterator[Option]:
    """Yields the arguments of a task's environment, of ``mpe2/…`` and import paths only.

    Args:
        name: as of ``factory``.

    Raises:
        UserError: an unknown environment, or a package that is missing.
    """
    kind, _, rest = name.partition("/")
    if ":" in name:
        yield from argument_options(_load(name), without=["num_envs", "device"])
    elif kind == "mpe2":
        module = importlib.import_module(f"mpe2.{_find_mpe2(rest)}")
        yield from argument_options(module.raw_env, without=["render_mode"])


def picture(env: Any) -> np.ndarray:
    """Returns the environment's picture of itself, ``[H, W, 3]`` uint8.

    Raises:
        ValueError: it draws nothing, or something else than a picture.
    """
    image = env.render()
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"render() gave {type(image).__name__}; expected an [H, W, 3] array, as environments "
            "give with render_mode='rgb_array'"
        )
    return np.ascontiguousarray(image, dtype=np.uint8)


def create(make: Factory) -> Any:
    """Makes one environment, with ``render_mode="rgb_array"`` where its factory takes that.

    Raises:
        UserError: a turn-based environment, or one without ``possible_agents``.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame without a display
    env = _with_rendering(make)
    if hasattr(env, "agent_iter"):
        raise UserError(
            f"{env} is turn-based (AEC); expected a parallel environment, in which all agents act "
            "at once; pettingzoo.utils.aec_to_parallel converts those that can be"
        )
    if is_scenario(env):
        raise UserError(
            f"{make} returned a VMAS scenario; name its class, which is a subclass of "
            "BaseScenario, in place of the function"
        )
    if not getattr(env, "possible_agents", None):
        raise UserError(
            f"{env} has no possible_agents; expected a list of all agents that can ever appear"
        )
    return env


def _with_rendering(make: Factory) -> Any:
    if not _takes_render_mode(make):
        return make()
    try:
        return make(render_mode="rgb_array")
    except Exception:  # perhaps it draws on a display only; any other error comes again
        return make()


def _takes_render_mode(make: Factory) -> bool:
    if "render_mode" in getattr(make, "keywords", {}):
        return False  # already chosen
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):
        return False
    keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return keyword or "render_mode" in parameters


# ---------------------------------------------------------------------- called in the workers too


def make_mpe2(name: str, **kwargs: Any) -> Any:
    """Makes the mpe2 environment of a module's name, such as ``simple_spread_v3``."""
    with package_errors(f"mpe2/{name}", every=True):
        return importlib.import_module(f"mpe2.{name}").parallel_env(**kwargs)


def make_registered(identifier: str, **kwargs: Any) -> Any:
    """Makes the environment of PettingZoo's registry; raises UserError where its package is
    missing."""
    import pettingzoo
    from pettingzoo.env_registry.exceptions import FailedToImport

    task = f"pettingzoo/{identifier}"
    try:
        with package_errors(task, every=True, but=(ImportError, FailedToImport)):
            return pettingzoo.make("parallel", identifier, **kwargs)
    except (ImportError, FailedToImport) as error:
        extra = identifier.partition("/")[0]
        package = EXTRAS.get(extra, f"pettingzoo[{extra}]")
        reason = error.__cause__ or error
        raise UserError(
            f"task {task!r} needs a package that is missing ({reason}): pip install '{package}'"
        ) from error


def make_imported(path: str, **kwargs: Any) -> Any:
    """Makes the environment of an import path, ``module:factory`` or ``file.py:factory``."""
    with package_errors(path):
        return _load(path)(**kwargs)


@contextlib.contextmanager
def package_errors(
    task: str, every: bool = False, but: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turns the errors of an environment's package into one sentence with its own words.

    An author finds other errors, as in a task of his own, by their traceback; a wrong argument
    (TypeError) is explained elsewhere.

    Args:
        task: its name, for the sentence.
        every: whether all errors are turned, or those only of what the machine lacks, such as a
            package or ROMs.
        but: errors that pass unchanged.

    Raises:
        UserError: in place of the package's error.
    """
    try:
        yield
    except Exception as error:
        turned = every or _lacks_something(error)
        if isinstance(error, (UserError, TypeError, *but)) or not turned:
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"task {task!r} cannot be made: {words}") from error


def _lacks_something(error: Exception) -> bool:
    """Returns whether it is an error of files or imports, or one of gymnasium's, without importing
    gymnasium."""
    modules = {kind.__module__ for kind in type(error).__mro__}
    return isinstance(error, ImportError | OSError) or "gymnasium.error" in modules


def _load(path: str) -> Factory:
    factory = import_path(path)
    if not callable(factory):
        raise UserError(
            f"task {path!r} is a {type(factory).__name__}; expected a function that returns an "
            "environment"
        )
    return factory


# ------------------------------------------------------------------------------------------- names


def _find_mpe2(name: str) -> str:
    try:
        import mpe2
    except ImportError as error:
        raise UserError(f"task 'mpe2/{name}' needs a package: pip install mpe2") from error
    modules = [m.name for m in pkgutil.iter_modules(mpe2.__path__) if _version(m.name)]
    return _find(f"mpe2/{name}", name, modules)


def _find_registered(identifier: str) -> str:
    import pettingzoo

    known = pettingzoo.parallel_registry
    turn_based = [i for i in pettingzoo.aec_registry if i not in known]
    if identifier in (*turn_based, *(i.rpartition("-v")[0] for i in turn_based)):
        raise UserError(
            f"task 'pettingzoo/{identifier}' is turn-based (AEC) only; expected a parallel "
            "environment, in which all agents act at once, such as 'pettingzoo/classic/rps-v2'"
        )
    return _find(f"pettingzoo/{identifier}", identifier, known)


def _find(task: str, name: str, known: Iterable[str]) -> str:
    """Returns ``name`` itself, or its newest version."""
    versions = [other for other in known if other == name or _stem(other) == name]
    if not versions:
        raise unknown("task", task, names())
    return name if name in versions else max(versions, key=_version)


def _version(name: str) -> int:
    match = re.search(r"[_-]v(\d+)$", name)
    return int(match[1]) if match else 0


def _stem(name: str) -> str:
    return re.sub(r"[_-]v\d+$", "", name)
