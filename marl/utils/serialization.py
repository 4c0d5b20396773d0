"""Dataclasses to JSON and back: how a run remembers what it was made of."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from marl.errors import UserError
from marl.utils import user_files
from marl.utils.moved import current

TYPE = "_type_"
REFERENCE = {"reference": True}  # metadata of a field that names other runs or their files
# The folders of this package that hold configurations.
CONFIGURED = ("algorithms", "critics", "envs", "learning", "networks", "policies", "training")


def to_plain(value: Any) -> Any:
    """A dataclass as nested dicts that name their class (``_type_: module:Class``, or the file that
    it is from); JSON all through."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {TYPE: user_files.path_of(type(value)), **fields}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(value: Any, find: Callable[[str], type] | None = None) -> Any:
    """The inverse of ``to_plain``; the classes check their fields as always.

    Args:
        value: what JSON tells.
        find: the class that an import path names; by default ``own_class``, so that only classes
            of this package are built.
    """
    find = find or own_class
    if isinstance(value, list):
        return [from_plain(item, find) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {key: from_plain(item, find) for key, item in value.items() if key != TYPE}
    return find(value[TYPE])(**fields) if TYPE in value else fields


class Foreign(UserError):
    """A configuration's class is not of this package; ``path`` is where it would come from."""

    def __init__(self, path: str):
        super().__init__(f"{path!r} is no configuration of this package")
        self.path = path


def own_class(path: str) -> type:
    """Returns the configuration of this package that the import path, of any version, names. It is
    looked up by its file, and nothing else is imported.

    Raises:
        Foreign: it is not of this package.
        UserError: it is no dataclass.
    """
    module, _, name = current(path).partition(":")
    folders = module.split(".")
    file = Path(__file__).parents[1].joinpath(*folders[1:]).with_suffix(".py")
    ours = folders[0] == "marl" and folders[1:2] and folders[1] in CONFIGURED
    if not (ours and all(part.isidentifier() for part in (*folders, name)) and file.is_file()):
        raise Foreign(path)
    found = vars(importlib.import_module(module)).get(name)
    return _dataclass(path, found if getattr(found, "__module__", None) == module else None)


def any_class(path: str) -> type:
    """Returns the configuration that the import path names, importing whatever it is in.

    Raises:
        UserError: there is none, or it is no dataclass.
    """
    try:
        return own_class(path)
    except Foreign:
        return _dataclass(path, import_path(path))


def _dataclass(path: str, found: Any) -> type:
    """Checks that ``found`` is a dataclass; nothing else that a file names is called."""
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise UserError(f"{path!r} is not a dataclass, so no configuration")
    return found


def imports(value: Any) -> Iterator[str]:
    """Yields what the dataclasses in ``value``, however deep, will import of other people's code
    when they are used: what their method ``imports`` tells, where they have one."""
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
    """What ``package.module:name`` or ``folder/file.py:name`` points to.

    Raises:
        UserError: there is no such module, file or name, or it cannot be imported.
    """
    module, _, name = path.rpartition(":")
    if not module or not name:
        raise UserError(
            f"{path!r} is not an import path; expected package.module:name or folder/file.py:name"
        )
    try:
        found: Any = (
            user_files.load(module)
            if user_files.names_file(path)
            else importlib.import_module(module)
        )
    except (ImportError, SyntaxError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"cannot import {path!r}: {words[:1].lower()}{words[1:]}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise UserError(f"cannot import {path!r}: {module!r} has no {part!r}")
        found = getattr(found, part)
    return found


def relocate(value: Any, moved: Callable[[str], str]) -> None:
    """Replaces every reference to another run, in dataclasses however deep in ``value``, by what
    ``moved`` makes of its path."""
    if isinstance(value, Mapping):
        for item in value.values():
            relocate(item, moved)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return
    for field in dataclasses.fields(value):
        given = getattr(value, field.name)
        if "reference" not in field.metadata:
            relocate(given, moved)
        else:
            found = [moved(path) for path in given] if isinstance(given, list) else moved(given)
            setattr(value, field.name, found)
