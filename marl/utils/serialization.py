"""Dataclasses to JSON and back: how a run remembers what it was made of."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from marl.errors import UserError
from marl.utils.moved import current

TYPE = "_type_"
REFERENCE = {"reference": True}  # metadata of a field that names other runs or their files


def to_plain(value: Any) -> Any:
    """A dataclass as nested dicts that name their class (``_type_: module:Class``); JSON all
    through."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {TYPE: f"{type(value).__module__}:{type(value).__qualname__}", **fields}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(value: Any) -> Any:
    """The inverse of ``to_plain``; the classes check their fields as always."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {key: from_plain(item) for key, item in value.items() if key != TYPE}
    return _dataclass(value[TYPE])(**fields) if TYPE in value else fields


def _dataclass(path: str) -> type:
    """The dataclass of that import path; nothing else that a file names is called."""
    found = import_path(current(path))
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise UserError(f"{path!r} is not a dataclass, so no configuration")
    return found


def import_path(path: str) -> Any:
    """What ``package.module:name`` points to.

    Raises:
        UserError: there is no such module or name.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise UserError(f"{path!r} is not an import path; expected package.module:name")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"cannot import {path!r}: no module named {error.name!r}") from None
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
