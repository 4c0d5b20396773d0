"""Exact state of a VMAS environment, as nested dicts and lists of tensors and plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.envs.vmas.graph import assign, children, is_node, nodes
from marl.errors import UserError

PLAIN = (type(None), bool, int, float, str)


def save(roots: Sequence[Any], device: torch.device) -> dict[str, Any]:
    """Returns copies of all that is reachable from ``roots``; what is shared stays shared.

    Args:
        roots: objects of the environment.
        device: where the environment runs.
    """
    return _Writer(roots, device).state


def load(roots: Sequence[Any], device: torch.device, state: dict[str, Any]) -> None:
    """Restores a state into the objects reachable from ``roots``.

    Args:
        roots: objects of an environment that was built with the same arguments.
        device: where the environment runs.
        state: of ``save``.

    Raises:
        UserError: a state of another scenario, or of other arguments.
    """
    _Reader(roots, device, state).read()


class _Writer:
    """Writer of a state: nodes and tensors have numbers, and references are written as these."""

    def __init__(self, roots: Sequence[Any], device: torch.device) -> None:
        reachable = nodes(roots)
        self._device = device
        self._numbers = {id(node): number for number, node in enumerate(reachable)}
        self._tensor_numbers: dict[int, int] = {}
        self._tensors: list[Tensor] = []
        written = [self._node(node) for node in reachable]
        self.state = {"nodes": written, "tensors": self._tensors, "roots": len(roots)}

    def _node(self, node: Any) -> dict[str, Any]:
        content = children(node)
        keys = list(content)
        if isinstance(node, dict):  # whose keys may be agents
            keys = [self._value(key) for key in content]
        values = [self._value(value) for value in content.values()]
        return {"type": type(node).__name__, "keys": keys, "values": values}

    def _value(self, value: Any) -> Any:
        if type(value) in PLAIN:
            return value
        if isinstance(value, Tensor):
            return {"tensor": self._tensor(value), "host": value.device.type != self._device.type}
        if isinstance(value, tuple):
            return {"tuple": [self._value(item) for item in value]}
        if id(value) in self._numbers:
            return {"node": self._numbers[id(value)]}
        if isinstance(value, frozenset):
            return {"frozenset": sorted(map(str, value))}
        if isinstance(value, np.generic):
            return {"numpy": [str(value.dtype), value.item()]}
        return {"fixed": type(value).__name__}  # functions, shapes' classes, devices: never change

    def _tensor(self, value: Tensor) -> int:
        number = self._tensor_numbers.setdefault(id(value), len(self._tensors))
        if number == len(self._tensors):
            self._tensors.append(value.clone())
        return number


class _Reader:
    """Reader of a state into the objects of an environment."""

    def __init__(self, roots: Sequence[Any], device: torch.device, state: dict[str, Any]) -> None:
        self._saved = state["nodes"]
        if state["roots"] != len(roots):
            raise UserError(
                f"the saved state has {state['roots']} root objects where this task has "
                f"{len(roots)}; set the task that it was saved with"
            )
        self._device = device
        self._tensors: list[Tensor] = state["tensors"]
        self._read_tensors: dict[int, Tensor] = {}
        self._nodes: dict[int, Any] = dict(enumerate(roots))
        self._assigned_ids = {id(root) for root in roots}
        self._queue = list(self._nodes)

    def read(self) -> None:
        """Restores all objects."""
        for number in self._queue:  # which grows on the way
            self._fill(self._nodes[number], self._saved[number])

    def _fill(self, node: Any, saved: dict[str, Any]) -> None:
        present = children(node)
        keys = saved["keys"]
        if isinstance(node, dict):
            present_keys = [*present, *(None for _ in keys)]
            keys = [self._value(key, present_keys[i]) for i, key in enumerate(keys)]
        values = zip(keys, saved["values"], strict=True)
        assign(node, {key: self._value(value, present.get(key)) for key, value in values})

    def _value(self, saved: Any, present: Any) -> Any:
        """Returns the saved value; ``present`` is the current one, to be reused or left alone."""
        if not isinstance(saved, dict):
            return saved
        if "tensor" in saved:
            return self._tensor(saved["tensor"], saved["host"])
        if "node" in saved:
            return self._node(saved["node"], present)
        if "tuple" in saved:
            return self._tuple(saved["tuple"], present)
        if "frozenset" in saved:
            return frozenset(saved["frozenset"])
        if "numpy" in saved:
            return np.dtype(saved["numpy"][0]).type(saved["numpy"][1])
        return present

    def _tuple(self, saved: list[Any], present: Any) -> tuple[Any, ...]:
        old = present if isinstance(present, tuple) and len(present) == len(saved) else ()
        present_items = [*old, *(None for _ in saved)]
        parts = [self._value(item, present_items[i]) for i, item in enumerate(saved)]
        return type(present)(parts) if old else tuple(parts)

    def _node(self, number: int, present: Any) -> Any:
        if number not in self._nodes:
            kind = self._saved[number]["type"]
            fits = is_node(present) and type(present).__name__ == kind
            if fits and id(present) not in self._assigned_ids:
                self._nodes[number] = present
            elif kind in ("list", "dict"):
                self._nodes[number] = [] if kind == "list" else {}
            else:
                raise UserError(
                    f"the saved state has a {kind} where this task has a {type(present).__name__}; "
                    "set the task and the options that it was saved with"
                )
            self._assigned_ids.add(id(self._nodes[number]))
            self._queue.append(number)
        return self._nodes[number]

    def _tensor(self, number: int, host: bool) -> Tensor:
        if number not in self._read_tensors:
            device = torch.device("cpu") if host else self._device
            self._read_tensors[number] = self._tensors[number].to(device, copy=True)
        return self._read_tensors[number]
