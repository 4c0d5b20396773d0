"""Old names of modules and classes. Importable without torch.

Runs and records of earlier versions name them, and are read for as long as the project lives.
Imports of old names work for one release, with a warning.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from marl.utils.moved_names import (
    CONFIGURATIONS,
    MODULES,
    OLD_PACKAGES,
    PACKAGES,
    SAME_MODULES,
    SYMBOLS,
)


def current(path: str) -> str:
    """Returns the import path that a class of a stored configuration has today.

    Only what this project had is renamed: of the old top-level packages ``envs`` and ``algorithms``
    these are the classes in ``CONFIGURATIONS``, because users have packages of these names too.

    Args:
        path: ``module:name``, written by any version.

    Returns:
        ``module:name`` of today; ``path`` itself where nothing moved.
    """
    module, _, name = path.partition(":")
    if _is_top_level(module) and name not in CONFIGURATIONS.get(module, ()):
        return path
    return _renamed(path)


def _is_top_level(module: str) -> bool:
    return module.partition(".")[0] in OLD_PACKAGES


def _renamed(path: str) -> str:
    """Returns ``current(path)`` for any name of a module that is known to be an old one of ours."""
    if path in SYMBOLS:
        return SYMBOLS[path]
    module, colon, name = path.partition(":")
    today = f"marl.{module}" if module in SAME_MODULES else module
    return f"{MODULES.get(module, today)}{colon}{name}"


def old_names(module: str) -> Callable[[str], Any]:
    """Returns a ``__getattr__`` for a module that finds what once stood in ``module``."""

    def find(name: str) -> Any:
        missing = AttributeError(f"module {module!r} has no attribute {name!r}")
        new_module, _, new_name = _renamed(f"{module}:{name}").partition(":")
        if name.startswith("__") or (new_module, new_name) == (module, name):
            raise missing
        value = getattr(importlib.import_module(new_module), new_name, missing)
        if value is missing:
            raise missing
        _warn(f"{module}.{name}", f"{new_module}.{new_name}")
        return value

    return find


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is now {new}; the old name is removed in the next release",
        FutureWarning,
        stacklevel=3,
    )


class OldModules(MetaPathFinder, Loader):
    """Finder of modules by their old names, whose attributes are looked up where they are today."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in PACKAGES or fullname not in {*MODULES, *SAME_MODULES}:
            return None
        if _is_top_level(fullname) and _belongs_to_others(fullname.partition(".")[0]):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = old_names(module.__name__)  # type: ignore[method-assign]  # PEP 562


def _belongs_to_others(package: str) -> bool:
    """Returns whether a package of this name can be imported that is not ours."""
    spec = PathFinder.find_spec(package)
    if spec is None or spec.origin is None:
        return spec is not None
    return Path(spec.origin).resolve().parent != Path(__file__).resolve().parents[2] / package


def install() -> None:
    """Makes the old names importable."""
    if not any(isinstance(finder, OldModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, OldModules())
