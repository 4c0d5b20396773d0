"""Gymnasium environments by id: which package registers it, and what to install.

Imports no torch, and Gymnasium only when an environment is named.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from marl.envs.pettingzoo.package_errors import package_errors
from marl.envs.pettingzoo.versions import newest
from marl.errors import UserError, unknown
from marl.utils.argument_docs import argument_options
from marl.utils.field_docs import Option

PREFIX = "gymnasium/"
#: Module that registers environments -> what ``pip install`` calls it, and a pattern of its ids.
PACKAGES = {
    "lbforaging": ("lbforaging", "Foraging"),
    "rware": ("rware", "rware"),
    "highway_env": (
        "highway-env",
        "(exit|highway|intersection|merge|parking|racetrack|roundabout)-",
    ),
}
NAMES = (
    "Foraging-8x8-2p-2f-coop-v3",
    "Foraging-8x8-2p-2f-v3",
    "intersection-multi-agent-v2",
    "rware-small-4ag-v2",
    "rware-tiny-2ag-v2",
)


def names() -> tuple[str, ...]:
    """Returns some known tasks, importing none; all other ids work too."""
    return tuple(PREFIX + name for name in NAMES)


def imported_module(task: str) -> str | None:
    """Returns the module of ``gymnasium/<module>:<id>`` if it is none of the known packages."""
    module = task.removeprefix(PREFIX).rpartition(":")[0]
    return module if task.startswith(PREFIX) and module and module not in PACKAGES else None


def find(identifier: str) -> str:
    """Returns an id that any process can make, with the module that registers it.

    Args:
        identifier: ``<id>`` or ``<module>:<id>``; without a version the newest.

    Raises:
        UserError: an unknown id, or a package that is missing.
    """
    import gymnasium

    module, _, name = identifier.rpartition(":")
    if module := module or _known_package(name):
        _import(module, identifier)
    if not (found := newest(name, gymnasium.registry)):
        known = {*names(), *(f"{PREFIX}{other}" for other in gymnasium.registry)}
        raise unknown("task", PREFIX + identifier, known)
    return f"{module}:{found}" if module else found


def _known_package(name: str) -> str:
    """Returns the module of ``PACKAGES`` that registers an id, or does by its name; ``""`` for
    another's."""
    import gymnasium

    if registered := newest(name, gymnasium.registry):
        module = str(gymnasium.registry[registered].entry_point).partition(".")[0]
        return module if module in PACKAGES else ""
    return next((m for m, (_, ids) in PACKAGES.items() if re.match(ids, name)), "")


def options(identifier: str) -> Iterator[Option]:
    """Yields the arguments of an environment, with the values that its id gives them."""
    import gymnasium

    found = find(identifier)
    values = gymnasium.registry[found.rpartition(":")[2]].kwargs
    for option in argument_options(_creator(found), without=["render_mode"]):
        yield replace(option, value=values.get(option.key, option.value))


def make_gymnasium(identifier: str, render_mode: str | None = None, **kwargs: Any) -> Any:
    """Makes the environment of an id that ``find`` returned, without ``render_mode`` where that is
    ``rgb_array`` and not one of its own."""
    import gymnasium

    _draw_without_display(identifier)
    with package_errors(PREFIX + identifier, every=True):
        modes = getattr(_creator(identifier), "metadata", {}).get("render_modes", ["rgb_array"])
        if render_mode == "rgb_array" and render_mode not in modes:
            render_mode = None
        if render_mode:
            kwargs["render_mode"] = render_mode
        return gymnasium.make(identifier, disable_env_checker=True, **kwargs)


def _draw_without_display(identifier: str) -> None:
    """Tells pyglet, and for highway-env SDL, to draw without a display."""
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("PYGLET_HEADLESS", "true")
    if identifier.startswith("highway_env:") and os.environ.get("SDL_VIDEODRIVER") == "dummy":
        os.environ["SDL_VIDEODRIVER"] = "offscreen"  # under dummy its pictures are black


def _creator(identifier: str) -> Any:
    """Returns the class or function of an id that makes the environment."""
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    module, _, name = identifier.rpartition(":")
    if module:
        _import(module, identifier)
    entry = gymnasium.registry[name].entry_point
    return load_env_creator(entry) if isinstance(entry, str) else entry


def _import(module: str, identifier: str) -> None:
    """Imports a module, which registers environments."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        package = PACKAGES.get(module, (module.partition(".")[0].replace("_", "-"), ""))[0]
        raise UserError(
            f"task {PREFIX + identifier!r} needs a package that is missing ({error}): pip install "
            f"{package}"
        ) from error
