"""Import paths whose module is a file, such as ``./my_tasks.py:duel``."""

from __future__ import annotations

import importlib.util
import os
import sys
import zlib
from pathlib import Path
from types import ModuleType

from marl.errors import UserError
from marl.utils import moved

#: Prefix of the names of modules that are loaded from files.
PREFIX = "marl_file_"


def names_file(path: str) -> bool:
    """Returns whether the module of an import path is a file."""
    return path.rpartition(":")[0].endswith(".py")


def absolute(path: str) -> str:
    """Returns an import path that means the same in every working directory."""
    if not names_file(path):
        return path
    file, _, name = path.rpartition(":")
    return f"{os.path.abspath(os.path.expanduser(file))}:{name}"


def path_of(kind: type) -> str:
    """Returns the import path of a class.

    It is ``module:name``, or ``file.py:name`` where the class was loaded from a file, or where
    ``module:name`` would be read as an old name of a class of ours.
    """
    path = f"{kind.__module__}:{kind.__qualname__}"
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file and (kind.__module__.startswith(PREFIX) or moved.current(path) != path):
        return f"{file}:{kind.__qualname__}"
    return path


def load(file: str) -> ModuleType:
    """Returns the module in ``file``, which runs once per process.

    The folder of the file is appended to ``sys.path``, so that the file can import what lies beside
    it.

    Raises:
        UserError: the file does not exist.
    """
    path = Path(os.path.abspath(os.path.expanduser(file)))
    name = f"{PREFIX}{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise UserError(f"the file {str(path)!r} to import from does not exist; check its path")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # true for every file that ends in .py
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
