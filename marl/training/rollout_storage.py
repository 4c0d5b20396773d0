"""Storage of a rollout, allocated once and filled step by step or block by block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from marl.types import Rollout, tree_map, tree_tensors
from marl.utils.programs import Leaves


class RolloutStorage:
    """A rollout of T steps of B copies, and the metrics of each step.

    Args:
        steps: T.
        num_envs: B.
        device: where it is.

    Attributes:
        rollout: ``[T, B, ...]``, without memories; None before the first step.
        info: metrics by name ``[T, B]``, valid where an episode is done.
    """

    def __init__(self, steps: int, num_envs: int, device: torch.device):
        self.steps, self.num_envs, self.device = steps, num_envs, device
        self.rollout: Rollout | None = None
        self.info: dict[str, Tensor] = {}
        self._slots: list[Tensor] = []  # the tensors of the rollout
        self._views: dict[int, list[Tensor]] = {}  # parts that blocks fill, by their first step

    def name_info(self, names: Iterable[str]) -> None:
        """Begins with these metrics, all 0."""
        self.info, self._views = self._zeros(names), {}

    def store(self, t: int, record: Rollout, info: Mapping[str, Tensor]) -> None:
        """Stores step ``t``; a metric that it does not name counts 0.

        Args:
            t: number of the step.
            record: ``[B, ...]``.
            info: metrics by name, ``[B]``.
        """
        self._allocate(record)
        for slot, value in zip(self._slots, tree_tensors(record), strict=True):
            slot[t] = value
        if new_names := [name for name in info if name not in self.info]:
            self.info |= self._zeros(new_names)
        for name, slot in self.info.items():
            slot[t] = info.get(name, 0.0)

    def store_block(self, t: int, leaves: Leaves, structure: Any) -> None:
        """Stores several steps from ``t`` on.

        Args:
            t: the first of them.
            leaves: of the part of a rollout and of metrics by name, ``[K, B, ...]``.
            structure: of their tree.
        """
        values = [x for x in leaves if x is not None]
        if t not in self._views:
            part, info = pytree.tree_unflatten(list(leaves), structure)
            self._allocate(tree_map(lambda x: x[0], part))
            self.info = self.info or self._zeros(info)
            slots = [*self._slots, *(self.info[name] for name in info)]
            self._views[t] = [x[t : t + len(part.done)] for x in slots]
        torch._foreach_copy_(self._views[t], values)  # type: ignore[attr-defined]  # one call for all

    def _allocate(self, record: Rollout) -> None:
        """Allocates the rollout at the first step, of the shapes of its ``record [B, ...]``."""
        if self.rollout is None:
            self.rollout = tree_map(lambda x: x.new_empty(self.steps, *x.shape), record)
            self._slots = tree_tensors(self.rollout)

    def _zeros(self, names: Iterable[str]) -> dict[str, Tensor]:
        shape = (self.steps, self.num_envs)
        return {name: torch.zeros(shape, device=self.device) for name in names}
