"""PettingZoo environments by name: picklable factories, and errors that say what to install.

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
from marl.errors import UserError, unknown
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
# Tasks whose agents all stay until the episode's end, so that nobody needs an `alive`.
IMMORTAL = re.compile(
    r"mpe2/|pettingzoo/(classic/rps|butterfly/pistonball|butterfly/cooperative_pong|sisl/pursuit)\b"
)
EXTRAS = {"butterfly": "marl-groups[butterfly]", "sisl": "marl-groups[sisl]"}


def names() -> tuple[str, ...]:
    """The known tasks, importing none; others of the registry, and import paths, work too."""
    return (*(f"mpe2/{name}" for name in MPE2), *(f"pettingzoo/{name}" for name in REGISTRY))


def factory(name: str, **kwargs: Any) -> Factory:
    """A picklable factory of ``mpe2/<name>``, ``pettingzoo/<id>`` or ``module:factory``.

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


def picture(env: Any) -> np.ndarray:
    """Returns what the environment draws, ``[H, W, 3]`` bytes.

    Raises:
        ValueError: it draws nothing, or something else.
    """
    image = env.render()
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"render() gave {type(image).__name__}; expected an [H, W, 3] array, as environments "
            "give with render_mode='rgb_array'"
        )
    return np.ascontiguousarray(image, dtype=np.uint8)


def create(make: Factory) -> Any:
    """One environment, able to draw itself where its factory takes ``rgb_array`` for its
    ``render_mode``."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame without a display
    env = _with_rendering(make)
    if hasattr(env, "agent_iter"):
        raise UserError(
            f"{env} is turn-based (AEC); expected a parallel environment, in which all agents act "
            "at once; pettingzoo.utils.aec_to_parallel converts those that can be"
        )
    if not getattr(env, "possible_agents", None):
        raise UserError(f"{env} has no possible_agents, so its agents cannot be known beforehand")
    return env


def _with_rendering(make: Factory) -> Any:
    if not _takes_render_mode(make):
        return make()
    try:
        return make(render_mode="rgb_array")
    except Exception:  # it draws for people only, say; whatever else is wrong comes again
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


# ------------------------------------------------------------------------------- run in the workers


def make_mpe2(name: str, **kwargs: Any) -> Any:
    with one_sentence(f"mpe2/{name}", every=True):
        return importlib.import_module(f"mpe2.{name}").parallel_env(**kwargs)


def make_registered(identifier: str, **kwargs: Any) -> Any:
    import pettingzoo
    from pettingzoo.env_registry.exceptions import FailedToImport

    task = f"pettingzoo/{identifier}"
    try:
        with one_sentence(task, every=True, but=(ImportError, FailedToImport)):
            return pettingzoo.make("parallel", identifier, **kwargs)
    except (ImportError, FailedToImport) as error:
        extra = identifier.partition("/")[0]
        package = EXTRAS.get(extra, f"pettingzoo[{extra}]")
        reason = error.__cause__ or error
        raise UserError(
            f"task {task!r} needs a package that is missing ({reason}): pip install '{package}'"
        ) from error


def make_imported(path: str, **kwargs: Any) -> Any:
    with one_sentence(path):
        return _load(path)(**kwargs)


@contextlib.contextmanager
def one_sentence(
    task: str, every: bool = False, but: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Ends a package's errors in a sentence with its own words: ``every`` one, or those that tell
    what the machine lacks, such as a package or ROMs. An author finds others, as in a task of his
    own, by their traceback, and a wrong argument (TypeError) is explained elsewhere.

    Raises:
        UserError: in their place.
    """
    try:
        yield
    except Exception as error:
        told = every or _lacks_something(error)
        if isinstance(error, (UserError, TypeError, *but)) or not told:
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"task {task!r} cannot be made: {words}") from error


def _lacks_something(error: Exception) -> bool:
    """Returns whether it is an error of files or imports, or one of gymnasium's, which is not
    imported for that."""
    modules = {kind.__module__ for kind in type(error).__mro__}
    return isinstance(error, ImportError | OSError) or "gymnasium.error" in modules


def _load(path: str) -> Factory:
    found = import_path(path)
    if not callable(found):
        raise UserError(f"task {path!r} is a {type(found).__name__}, expected something to call")
    return found


# ------------------------------------------------------------------------------------ finding names


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
    """``name`` itself, or the newest version of it."""
    versions = [other for other in known if other == name or _stem(other) == name]
    if not versions:
        raise unknown("task", task, names())
    return name if name in versions else max(versions, key=_version)


def _version(name: str) -> int:
    found = re.search(r"[_-]v(\d+)$", name)
    return int(found[1]) if found else 0


def _stem(name: str) -> str:
    return re.sub(r"[_-]v\d+$", "", name)
