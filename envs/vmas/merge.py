"""Restart of some copies of a VMAS environment: a full reset, merged by mask into the state before.

``reset_at`` takes copies one by one, in Python, and disturbs the others (scenarios observe, draw
noise and turn buffers for all of them). Merging costs one reset and one pass over the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from marl.envs.vmas.graph import assign, children, is_node, items, nodes

MISSING = object()


class Snapshot:
    """Copy of all that is reachable from ``roots``, which ``merge`` restores after a reset.

    Args:
        roots: objects of the environment.
        num_envs: B, the number of copies.
    """

    def __init__(self, roots: Sequence[Any], num_envs: int) -> None:
        self._roots = list(roots)
        self._num_envs = num_envs
        self._before = {id(node): (node, children(node)) for node in nodes(roots)}
        # The tensor (so that its id stays in use), a copy of it, and its version.
        self._copies: dict[int, tuple[Tensor, Tensor, int]] = {}
        for _, content in self._before.values():
            for child in content.values():
                for value in items(child):
                    if isinstance(value, Tensor) and id(value) not in self._copies:
                        self._copies[id(value)] = (value, value.clone(), value._version)

    def merge(self, mask: Tensor) -> None:
        """Restores the state before the reset, but for the copies where ``mask [B]`` is True.

        Numbers and references, which all copies share, are restored too.
        """
        self._mask = mask
        self._merged: dict[tuple[int, int], Tensor] = {}
        self._alive: list[Any] = []  # objects whose ids are in use
        self._visited: set[int] = set()
        self._queue: list[tuple[Any, Any]] = [(root, root) for root in self._roots]
        while self._queue:
            previous, current = self._queue.pop()
            if id(previous) not in self._visited:
                self._visited.add(id(previous))
                self._merge_node(previous, current)

    def _merge_node(self, node: Any, current: Any) -> None:
        content, current_content = self._before[id(node)][1], children(current)
        shift = _ring_shift(content, current_content)
        merged = {
            key: self._merge(value, current_content.get(key, MISSING), shift)
            for key, value in content.items()
        }
        if not isinstance(node, list):  # and what the reset added
            merged.update(
                {key: value for key, value in current_content.items() if key not in content}
            )
        assign(node, merged)

    def _merge(self, previous: Any, current: Any, shift: int | None) -> Any:
        if isinstance(previous, Tensor):
            return self._merge_tensor(previous, current, shift)
        if (
            isinstance(previous, tuple)
            and isinstance(current, tuple)
            and len(previous) == len(current)
        ):
            parts = [self._merge(*pair, None) for pair in zip(previous, current, strict=True)]
            unchanged = all(part is old for part, old in zip(parts, previous, strict=True))
            return previous if unchanged else type(previous)(parts)
        if is_node(previous):
            # A new object in place of an old one is merged into it. A reference that the reset
            # moved to another known object is moved back.
            replaced = type(current) is type(previous) and id(current) not in self._before
            self._queue.append((previous, current if replaced else previous))
        return previous

    def _merge_tensor(self, previous: Tensor, current: Any, shift: int | None) -> Tensor:
        _, copy, version = self._copies[id(previous)]
        if current is previous and current._version == version:
            return previous  # the reset left it alone
        axis = 0 if shift is None else 1
        alike = (
            isinstance(current, Tensor)
            and current.shape == copy.shape
            and current.dtype == copy.dtype
        )
        batched = copy.ndim > axis and copy.shape[axis] == self._num_envs
        batched = batched and previous.stride(axis) != 0  # an expanded one is common to all copies
        key = (id(previous), id(current) if alike and batched else 0)
        if key not in self._merged:
            if alike and batched:
                self._alive.append(current)
                current = current.roll(shift, 0) if shift else current
                mask = self._mask.to(copy.device)  # some scenarios keep tensors on the CPU
                copy = torch.where(_broadcast(mask, copy.ndim, axis), current, copy)
            self._merged[key] = copy
        return self._merged[key]


def _broadcast(mask: Tensor, ndim: int, axis: int) -> Tensor:
    return mask.view(*(1,) * axis, -1, *(1,) * (ndim - axis - 1))


def _ring_shift(previous: dict[Any, Any], current: dict[Any, Any]) -> int | None:
    """Returns the shift of a ring buffer ``[time, B, ...]`` (road_traffic's); None for anything
    else.

    All copies share the pointer, so that the newest entry has to move to where the copies that
    continue have theirs.
    """
    if not {"buffer", "pointer", "valid_size"} <= previous.keys() or "pointer" not in current:
        return None
    return int(previous["pointer"]) - int(current["pointer"])
