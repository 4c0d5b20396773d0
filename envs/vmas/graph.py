"""Objects of a VMAS environment as a graph: all that is reachable from its world and scenario.

VMAS keeps its state in attributes of many objects: agents, sensors, controllers, joints, buffers; a
scenario may add any. Therefore restarts of some copies, and saved states, walk over all of them.
"""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

# Types whose attributes hold no state of the environment.
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
    """Returns ``tensor``, ``list``, ``dict``, ``tuple`` or ``object``; ``leaf`` for anything
    without contents."""
    if issubclass(cls, Tensor):
        return "tensor"
    for container in (list, dict, tuple):
        if issubclass(cls, container):
            return container.__name__
    return "leaf" if issubclass(cls, OPAQUE) or not cls.__dictoffset__ else "object"


def is_node(value: object) -> bool:
    """Returns whether ``value`` can be changed in place: a list, dict or object with attributes."""
    return kind(type(value)) in ("list", "dict", "object")


def children(node: Any) -> dict[Any, Any]:
    """Returns a copy of a node's contents, by attribute name, index or key."""
    if isinstance(node, list):
        return dict(enumerate(node))
    return dict(node) if isinstance(node, dict) else dict(vars(node))


def assign(node: Any, content: dict[Any, Any]) -> None:
    """Replaces a node's contents.

    Args:
        node: a list, dict or object, changed in place.
        content: by attribute name, index or key.
    """
    if isinstance(node, list):
        node[:] = content.values()
        return
    # The attributes themselves rather than properties, which check and notify.
    attributes = node if isinstance(node, dict) else vars(node)
    attributes.clear()
    attributes.update(content)


def items(value: Any) -> Iterator[Any]:
    """Yields ``value`` itself, or the items of a tuple, however deep."""
    if isinstance(value, tuple):
        for item in value:
            yield from items(item)
    else:
        yield value


def nodes(roots: Sequence[Any]) -> list[Any]:
    """Returns every reachable node once, the roots first, then breadth first."""
    reachable = list(roots)
    ids = {id(node) for node in reachable}
    for node in reachable:  # which grows on the way
        for child in children(node).values():
            for value in items(child):
                if is_node(value) and id(value) not in ids:
                    ids.add(id(value))
                    reachable.append(value)
    return reachable
