"""Import paths whose module is a file, such as ``./my_tasks.py:duel``."""

from __future__ import annotations

import importlib.util
import os
import sys
import zlib
from pathlib import Path
from types import ModuleType

from marl.errors import UserError

PREFIX = "marl_file_"  # of the modules' names


def names_file(path: str) -> bool:
    """Returns whether the module of an import path is a file."""
    return path.rpartition(":")[0].endswith(".py")


def absolute(path: str) -> str:
    """Returns an import path that leads to the same from every folder."""
    if not names_file(path):
        return path
    file, _, name = path.rpartition(":")
    return f"{os.path.abspath(os.path.expanduser(file))}:{name}"


def path_of(kind: type) -> str:
    """Returns the import path of a class, of its file where it was loaded from one."""
    module = kind.__module__
    if module.startswith(PREFIX):
        module = str(sys.modules[module].__file__)
    return f"{module}:{kind.__qualname__}"


def load(file: str) -> ModuleType:
    """Returns the module in ``file``, which is run once per process. What lies beside the file can
    be imported by it.

    Raises:
        UserError: there is no such file.
    """
    path = Path(os.path.abspath(os.path.expanduser(file)))
    name = f"{PREFIX}{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r} to import from")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # as of every file that ends in .py
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
