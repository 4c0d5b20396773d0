"""The objects of a VMAS environment as a graph: what is reachable from its world and scenario.

VMAS keeps its state in attributes of many objects: agents, sensors, controllers, joints, buffers. A
scenario may add any. So resets of some environments and saved states walk over all of them.
"""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

# Objects that have attributes, but no state of the environment in them.
OPAQUE = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    functools.partial,
    enum.Enum,
    np.ndarray,
    set,
    frozenset,
)


@functools.cache
def kind(cls: type) -> str:
    """``tensor``, ``list``, ``dict``, ``tuple``, ``object``; ``leaf`` for what has no inside."""
    if issubclass(cls, Tensor):
        return "tensor"
    for container in (list, dict, tuple):
        if issubclass(cls, container):
            return container.__name__
    return "leaf" if issubclass(cls, OPAQUE) or not cls.__dictoffset__ else "object"


def is_node(value: object) -> bool:
    """Whether ``value`` can be changed in place: a list, a dict, or an object with attributes."""
    return kind(type(value)) in ("list", "dict", "object")


def children(node: Any) -> dict[Any, Any]:
    """What a node holds now, by attribute name, index or key; a copy."""
    if isinstance(node, list):
        return dict(enumerate(node))
    return dict(node) if isinstance(node, dict) else dict(vars(node))


def assign(node: Any, content: dict[Any, Any]) -> None:
    """Makes ``content`` all that a node holds."""
    if isinstance(node, list):
        node[:] = content.values()
        return
    # Of objects the attributes themselves, past properties, which check and notify.
    inside = node if isinstance(node, dict) else vars(node)
    inside.clear()
    inside.update(content)


def unpacked(value: Any) -> Iterator[Any]:
    """``value`` itself, or what stands inside of a tuple."""
    if isinstance(value, tuple):
        for item in value:
            yield from unpacked(item)
    else:
        yield value


def nodes(roots: Sequence[Any]) -> list[Any]:
    """Every node that is reachable, once: the roots first, then breadth first."""
    found = list(roots)
    seen = {id(node) for node in found}
    for node in found:  # grows underneath
        for child in children(node).values():
            for value in unpacked(child):
                if is_node(value) and id(value) not in seen:
                    seen.add(id(value))
                    found.append(value)
    return found
