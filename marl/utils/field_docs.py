"""Documentation of dataclass fields: the ``#:`` comments that stand where they are declared."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

COMMENT = re.compile(r"\s*#: ?(?P<text>.*)")
FIELD = re.compile(r"\s*(?P<name>\w+)\s*:(?P<rest>.*)")
TRAILING = re.compile(r".*\s#: ?(?P<text>.*)")


@dataclass(frozen=True)
class Option:
    """One field of a configuration, as a user sees it."""

    #: Dotted name on the command line, such as ``algorithm.joint.graph``.
    key: str
    #: Type as it is annotated.
    type: str
    #: Value in the given configuration.
    value: Any
    #: Text of the ``#:`` comment; empty if the field has none.
    doc: str


def field_docs(config: type) -> dict[str, str]:
    """Returns the ``#:`` text of every field of a dataclass, inherited ones included.

    A field that a subclass declares again without a comment keeps the text of its base class.
    """
    docs: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if dataclasses.is_dataclass(base):
            docs |= _docs_in(_source(base))
    return {field.name: docs.get(field.name, "") for field in dataclasses.fields(config)}


def options(config: Any, prefix: str = "") -> Iterator[Option]:
    """Yields the options of a configuration and of the dataclasses in it, in order of declaration.

    Args:
        config: an instance of a dataclass.
        prefix: of every key, such as ``algorithm.``.
    """
    docs = field_docs(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from options(value, f"{prefix}{field.name}.")
        else:
            yield Option(prefix + field.name, _type(field), value, docs[field.name])


def _type(field: dataclasses.Field[Any]) -> str:
    return (
        field.type
        if isinstance(field.type, str)
        else getattr(field.type, "__name__", str(field.type))
    )


def _source(config: type) -> str:
    try:
        return inspect.getsource(config)
    except (OSError, TypeError):  # made in a session, or by make_dataclass
        return ""


def _docs_in(source: str) -> dict[str, str]:
    docs: dict[str, str] = {}
    comment: list[str] = []
    for line in source.splitlines():
        if match := COMMENT.fullmatch(line):
            comment.append(match["text"].strip())
            continue
        if match := FIELD.fullmatch(line):
            trailing = TRAILING.fullmatch(match["rest"])
            text = " ".join(comment) or (trailing["text"].strip() if trailing else "")
            if text:
                docs[match["name"]] = text
        comment = []
    return docs
