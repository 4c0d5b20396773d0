"""Restarting some copies of a VMAS environment: a full reset, merged by mask into what was before.

``reset_at`` takes copies one by one, in Python, and disturbs the others (scenarios observe, draw
noise and turn buffers for all of them). Merging costs one reset and one pass over the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from marl.envs.vmas.graph import assign, children, is_node, nodes, unpacked

MISSING = object()


class Snapshot:
    """All that is reachable from ``roots`` now. After a reset, ``merge`` brings it back."""

    def __init__(self, roots: Sequence[Any], num_envs: int) -> None:
        self._roots = list(roots)
        self._num_envs = num_envs
        self._before = {id(node): (node, children(node)) for node in nodes(roots)}
        # The tensor, kept alive, a copy of it, and how often it was written to.
        self._copies: dict[int, tuple[Tensor, Tensor, int]] = {}
        for _, content in self._before.values():
            for child in content.values():
                for value in unpacked(child):
                    if isinstance(value, Tensor) and id(value) not in self._copies:
                        self._copies[id(value)] = (value, value.clone(), value._version)

    def merge(self, mask: Tensor) -> None:
        """Copies where ``mask [B]`` stay as they are after the reset; all else becomes what it was.

        So do numbers and references, which all copies share.
        """
        self._mask = mask
        self._merged: dict[tuple[int, int], Tensor] = {}
        self._keep: list[Any] = []  # objects whose ids are in use
        self._visited: set[int] = set()
        self._queue: list[tuple[Any, Any]] = [(root, root) for root in self._roots]
        while self._queue:
            before, now = self._queue.pop()
            if id(before) not in self._visited:
                self._visited.add(id(before))
                self._merge_node(before, now)

    def _merge_node(self, node: Any, now: Any) -> None:
        content, current = self._before[id(node)][1], children(now)
        shift = _ring_shift(content, current)
        merged = {
            key: self._merge(value, current.get(key, MISSING), shift)
            for key, value in content.items()
        }
        if not isinstance(node, list):  # keep what came into being during the reset
            merged.update({key: value for key, value in current.items() if key not in content})
        assign(node, merged)

    def _merge(self, before: Any, now: Any, shift: int | None) -> Any:
        if isinstance(before, Tensor):
            return self._merge_tensor(before, now, shift)
        if isinstance(before, tuple) and isinstance(now, tuple) and len(before) == len(now):
            parts = [self._merge(*pair, None) for pair in zip(before, now, strict=True)]
            unchanged = all(part is old for part, old in zip(parts, before, strict=True))
            return before if unchanged else type(before)(parts)
        if is_node(before):
            # A new object in an old one's place is merged into it. A reference that now points at
            # another known object points back at its own.
            replaced = type(now) is type(before) and id(now) not in self._before
            self._queue.append((before, now if replaced else before))
        return before

    def _merge_tensor(self, before: Tensor, now: Any, shift: int | None) -> Tensor:
        _, copy, version = self._copies[id(before)]
        if now is before and now._version == version:
            return before  # the reset left it alone
        axis = 0 if shift is None else 1
        alike = isinstance(now, Tensor) and now.shape == copy.shape and now.dtype == copy.dtype
        batched = copy.ndim > axis and copy.shape[axis] == self._num_envs
        batched = batched and before.stride(axis) != 0  # an expanded one is common to all copies
        key = (id(before), id(now) if alike and batched else 0)
        if key not in self._merged:
            if alike and batched:
                self._keep.append(now)
                now = now.roll(shift, 0) if shift else now
                mask = self._mask.to(copy.device)  # some scenarios keep tensors on the CPU
                copy = torch.where(_broadcast(mask, copy.ndim, axis), now, copy)
            self._merged[key] = copy
        return self._merged[key]


def _broadcast(mask: Tensor, ndim: int, axis: int) -> Tensor:
    return mask.view(*(1,) * axis, -1, *(1,) * (ndim - axis - 1))


def _ring_shift(before: dict[Any, Any], now: dict[Any, Any]) -> int | None:
    """None, but for ring buffers ``[time, B, ...]`` (road_traffic's): how far the newest entry has
    to move to stand where the copies that go on have theirs, since all share the pointer."""
    if not {"buffer", "pointer", "valid_size"} <= before.keys() or "pointer" not in now:
        return None
    return int(before["pointer"]) - int(now["pointer"])
