"""Conversion of dataclasses to JSON and back, for the configurations of runs."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from marl.errors import UserError
from marl.utils import user_files
from marl.utils.moved import current

#: The JSON key that names a dataclass.
TYPE = "_type_"
#: The JSON key of a mapping's pairs, where its keys are not all text.
PAIRS = "_pairs_"
#: Metadata of a dataclass field that names other runs or their files.
REFERENCE = {"reference": True}
#: The folders of this package that hold configurations.
CONFIGURED = ("algorithms", "critics", "envs", "learning", "networks", "policies", "training")


def to_plain(value: Any) -> Any:
    """Returns a dataclass as nested dicts of JSON values, each with its class under ``_type_``.

    The class is ``module:Class``, or ``file.py:Class`` if it was loaded from a file. A mapping
    whose keys are not all text becomes a list of pairs under ``_pairs_``.

    Raises:
        UserError: a value that JSON cannot hold.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {TYPE: user_files.path_of(type(value)), **fields}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: to_plain(item) for key, item in value.items()}
        return {PAIRS: [[to_plain(key), to_plain(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if getattr(value, "ndim", None) == 0:  # a number of numpy or torch
        return value.item()  # type: ignore[union-attr]  # it has an axis count
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(
        f"a setting holds {value!r}, of type {type(value).__name__}, which config.json cannot "
        "hold; use numbers, text, lists, dicts and dataclasses"
    )


def from_plain(value: Any, find: Callable[[str], type] | None = None) -> Any:
    """Returns what ``to_plain`` was given; the classes check their fields as usual.

    Args:
        value: a JSON value.
        find: returns the class that an import path names; by default ``own_class``, so that only
            classes of this package are built.

    Raises:
        UserError: a class is not found by ``find``, or refuses its fields.
    """
    find = find or own_class
    if isinstance(value, list):
        return [from_plain(item, find) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {PAIRS}:
        return {from_plain(key, find): from_plain(item, find) for key, item in value[PAIRS]}
    fields = {key: from_plain(item, find) for key, item in value.items() if key != TYPE}
    return find(value[TYPE])(**fields) if TYPE in value else fields


class NotImportable(UserError):
    """An import path names a module that does not exist here."""


class Foreign(UserError):
    """A configuration names a class that is not of this package.

    Args:
        path: the import path of the class.
    """

    def __init__(self, path: str):
        super().__init__(f"{path!r} is not a configuration of this package")
        self.path = path


def own_class(path: str) -> type:
    """Returns the configuration class of this package that an import path names.

    The class is looked up by its file, and nothing else is imported.

    Args:
        path: ``module:Class``, as any version wrote it.

    Raises:
        Foreign: the class is not of this package.
        UserError: it is not a dataclass.
    """
    module, _, name = current(path).partition(":")
    folders = module.split(".")
    file = Path(__file__).parents[1].joinpath(*folders[1:]).with_suffix(".py")
    ours = folders[0] == "marl" and folders[1:2] and folders[1] in CONFIGURED
    if not (ours and all(part.isidentifier() for part in (*folders, name)) and file.is_file()):
        raise Foreign(path)
    value = vars(importlib.import_module(module)).get(name)
    return _dataclass(path, value if getattr(value, "__module__", None) == module else None)


def any_class(path: str) -> type:
    """Returns the configuration class that an import path names, and imports its module or file.

    Raises:
        UserError: it does not exist, or is not a dataclass.
    """
    try:
        return own_class(path)
    except Foreign:
        return _dataclass(path, import_path(path))


def _dataclass(path: str, value: Any) -> type:
    """Returns ``value`` if it is a dataclass: nothing else that a file names may be called."""
    if not (isinstance(value, type) and dataclasses.is_dataclass(value)):
        raise UserError(f"{path!r} is not a dataclass, and only dataclasses are configurations")
    return value


def imports(value: Any) -> Iterator[str]:
    """Yields the import paths of third-party code that a configuration will import when it is used.

    Each dataclass in ``value``, at any depth, may name its own by a method ``imports``.
    """
    if isinstance(value, Mapping):
        for item in value.values():
            yield from imports(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from imports(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from getattr(value, "imports", list)()
        for field in dataclasses.fields(value):
            yield from imports(getattr(value, field.name))


def import_path(path: str) -> Any:
    """Returns the object that ``package.module:name`` or ``folder/file.py:name`` names.

    Raises:
        UserError: the module, file or name does not exist, or it cannot be imported.
    """
    module, _, name = path.rpartition(":")
    if not module or not name:
        raise UserError(
            f"{path!r} is not an import path; expected package.module:name or folder/file.py:name"
        )
    try:
        value: Any = (
            user_files.load(module)
            if user_files.names_file(path)
            else importlib.import_module(module)
        )
    except (ImportError, SyntaxError) as error:
        reason = " ".join(str(error).split())
        words = f"cannot import {path!r}: {reason[:1].lower()}{reason[1:]}"
        first = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == first:
            file = f"{first}.py" if first == module else f"the package {first}"
            hint = f"run this in the folder that has {file}, or install it"
            raise NotImportable(f"{words}; {hint}") from error
        raise UserError(words) from error
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's own, when the module runs
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"cannot import {path!r}: {type(error).__name__}: {' '.join(str(error).split())} "
            f"({place.filename}, line {place.lineno})"
        ) from error
    for part in name.split("."):
        if not hasattr(value, part):
            raise _no_member(path, module, part, value)
        value = getattr(value, part)
    return value


def _no_member(path: str, module: str, name: str, owner: Any) -> UserError:
    """Returns the error that a module or class has no such member, with those that it defines."""
    words = f"cannot import {path!r}: {module!r} has no {name!r}"
    public = {
        n: v for n, v in getattr(owner, "__dict__", {}).items() if n[0] != "_" and callable(v)
    }
    if close := difflib.get_close_matches(name, public, n=1):
        return UserError(f"{words}; did you mean {close[0]!r}?")
    place = getattr(owner, "__name__", None)
    own = sorted(n for n, v in public.items() if getattr(v, "__module__", None) == place)
    return UserError(f"{words}; it has {', '.join(own[:12])}" if own else words)


def relocate(value: Any, new_path: Callable[[str], str]) -> None:
    """Replaces every reference to another run, in place.

    Args:
        value: a configuration; its dataclasses are searched at any depth.
        new_path: returns the path to use for a stored path.
    """
    if isinstance(value, Mapping):
        for item in value.values():
            relocate(item, new_path)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if "reference" not in field.metadata:
            relocate(item, new_path)
        else:
            paths = [new_path(path) for path in item] if isinstance(item, list) else new_path(item)
            setattr(value, field.name, paths)
