"""The storage of a replay: a ring buffer of joint steps, which stores each observation once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from marl.learning.frames import Frames, needs_successor, pack, unpack
from marl.learning.replay_limits import (
    GIB,
    LAYOUT,
    check_checkpoint,
    check_holds_rollout,
    check_storage,
    successor_rows_error,
)
from marl.learning.successors import Successors, leading_rows
from marl.types import Observation, Rollout, take, tree_map, tree_tensors


class ReplayStorage:
    """A ring buffer of the last C joint steps of B copies of the environment, ``[C, B, ...]``.

    Each observation is stored once: ``next_obs`` is what the next step observed, except where an
    episode ended, an agent was truncated alone or nothing is stored yet
    (``marl.learning.successors``).

    Storage is allocated once, by ``allocate`` or the first ``append``. Only the rows of successors
    are enlarged, by doubling, if episodes turn out short. On the CPU the operating system provides
    the memory as it fills. The index of a frame is its place in the ring, ``slot * B + copy``, and
    is valid until the next ``append``. No method waits for the device.

    Args:
        frames: minimum capacity in frames (one step of one copy), rounded up to C whole steps of
            all copies.
        num_envs: B, copies of the environment.
        device: where the storage is.
        gib: limit of the storage, in GiB.
    """

    def __init__(
        self, frames: int, num_envs: int, device: torch.device, gib: float = math.inf
    ) -> None:
        self.num_envs, self.gib = num_envs, gib
        self.capacity = -(-frames // num_envs)  # C
        self.steps, self.head = 0, 0  # number of stored steps, and the slot of the next one
        self.newest_slot = torch.zeros((), dtype=torch.int64, device=device)
        self.storage: Frames | None = None
        self.aux_keys: dict[str, tuple[str, ...]] = {}
        self.successors = Successors(num_envs, self.capacity, device)

    @property
    def stored_frames(self) -> int:
        """Number of frames that are stored now."""
        return self.steps * self.num_envs

    @property
    def capacity_frames(self) -> int:
        """Number of frames that the replay can hold."""
        return self.capacity * self.num_envs

    @property
    def storage_bytes(self) -> int:
        """Bytes of the full storage, with the rows of successors that are allocated now."""
        return sum(x.nbytes for x in tree_tensors((self.storage, self.successors.rows)))

    @property
    def largest_bytes(self) -> int:
        """Bytes of the full storage if each step ended an episode."""
        successors = self.successors
        more_rows = self.capacity_frames - successors.size
        return self.storage_bytes + successors.row_bytes * more_rows

    @property
    def device(self) -> torch.device:
        """Device of the storage."""
        return self.newest_slot.device

    @property
    def oldest_slot(self) -> int:
        """Slot of the oldest stored step."""
        return (self.head - self.steps) % self.capacity

    # ----------------------------------------------------------------------------------- writing

    def required_bytes(self, rollout: Rollout) -> int:
        """Returns the bytes of the whole storage for frames like those of ``rollout``.

        The rows of successors count as they are allocated first.
        """
        rows = self.successors.empty(rollout.obs, self.successors.size, "meta")
        return sum(x.nbytes for x in tree_tensors((self._empty(rollout, "meta"), rows)))

    def store_aux(self, groups: Iterable[str], keys: tuple[str, ...]) -> None:
        """Stores entries of ``aux`` from now on; to be called before storage is allocated.

        Args:
            groups: the groups of a team.
            keys: names of the entries (``Policy.aux_keys``).
        """
        assert self.storage is None, "the layout of the storage is fixed"
        self.aux_keys |= dict.fromkeys(groups, keys)

    def allocate(self, rollout: Rollout) -> None:
        """Allocates storage for frames like those of ``rollout``.

        Raises:
            UserError: the storage exceeds its limit.
        """
        check_storage(self.required_bytes(rollout), self.gib, self.capacity, self.num_envs)
        self.storage = self._empty(rollout, self.device)
        self.successors.allocate(rollout.obs)

    def _empty(self, rollout: Rollout, device: torch.device | str) -> Frames:
        rank = torch.zeros(1, self.num_envs, dtype=self.successors.rank_type)
        return tree_map(
            lambda x: x.new_empty(self.capacity, *x.shape[1:], device=device),
            pack(rollout, rank, self.aux_keys),
        )

    def append(self, rollout: Rollout) -> None:
        """Stores a rollout ``[T, B, ...]`` over the oldest steps.

        Raises:
            UserError: the rollout has more steps than the replay can hold, or episodes are so short
                that their successors exceed the limit of the storage.
        """
        steps = rollout.steps
        check_holds_rollout(self.capacity_frames, steps * self.num_envs)
        if self.storage is None:
            self.allocate(rollout)
        self._enlarge_successors((steps + 1) * self.num_envs)
        if self.steps:
            self._store_newest_successors(rollout.start[0])
        offset, rank = self.successors.add(rollout.next_obs, mask := needs_successor(rollout))
        self.successors.set_newest(tree_map(lambda x: x[-1], rollout.next_obs))
        rank = torch.where(mask, rank, self.successors.no_rank).to(self.successors.rank_type)
        self._write(self.successors.offset, offset)
        tree_map(self._write, self.storage, pack(rollout, rank, self.aux_keys))
        self.head = (self.head + steps) % self.capacity
        self.steps = min(self.steps + steps, self.capacity)
        self.newest_slot.fill_((self.head - 1) % self.capacity)
        self.successors.send_count(self.oldest_slot)

    def _write(self, slots: Tensor, value: Tensor) -> None:
        """Writes steps ``[T, ...]`` into the slots ``[C, ...]`` from ``head`` on."""
        steps = len(value)
        until_wrap = min(steps, self.capacity - self.head)  # the rest goes to the ring's beginning
        slots[self.head : self.head + until_wrap] = value[:until_wrap]
        slots[: steps - until_wrap] = value[until_wrap:]

    def _enlarge_successors(self, count: int) -> None:
        """Doubles the rows of successors if ``count`` more do not fit.

        Raises:
            UserError: the storage would exceed its limit.
        """
        size, required = self.successors.size, self.successors.required_size(count)
        if required <= size:
            return
        row_bytes, free = self.successors.row_bytes, self.gib * GIB - self.storage_bytes
        more_bytes = row_bytes * (required - size)
        if more_bytes > free:
            total = self.storage_bytes + more_bytes
            raise successor_rows_error(self.capacity_frames, total, self.gib)
        doubled = int(min(2 * size, self.capacity_frames, size + free // row_bytes))
        self.successors.resize(max(required, doubled))

    def _store_newest_successors(self, start: Tensor) -> None:
        """Stores the successors of the newest step where an episode starts although none ended.

        That is so in a resumed run that could only start new episodes. ``start [B]`` is True in
        copies where an episode starts.
        """
        newest = (self.head - 1) % self.capacity
        rank = self._storage().rank[newest]
        mask = start & (rank == self.successors.no_rank)
        offset, new_rank = self.successors.add(self.successors.newest_rows(), mask.unsqueeze(0))
        new_rank = new_rank[0] + offset - self.successors.offset[newest]
        rank.copy_(torch.where(mask, new_rank.to(rank.dtype), rank))

    # ----------------------------------------------------------------------------------- reading

    def take(self, index: Tensor) -> Rollout:
        """Returns the frames of ``index``, whose shape takes the place of ``[T, B]``."""
        frames = unpack(take(self._storage(), index))
        return replace(frames, next_obs=self._next_obs(index, self.successors.all_rows()))

    def _next_obs(self, index: Tensor, rows: Observation) -> Observation:
        """Returns the true successors of frames."""
        stored = self._storage()
        return self.successors.read(index, stored.obs, stored.rank, self.newest_slot, rows)

    def _storage(self) -> Frames:
        assert self.storage is not None, "nothing is stored yet"
        return self.storage

    # ------------------------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Returns all that is stored, to be written before the next ``append``.

        Where that is possible without a copy, the tensors share memory with the storage.
        """
        return {
            "layout": LAYOUT,
            "capacity": self.capacity,
            "num_envs": self.num_envs,
            "steps": self.steps,
            "head": self.head,
            "storage": [leading_rows(x, self.steps) for x in tree_tensors(self.storage)],
            "successors": self.successors.state_dict(self.steps),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores all that was stored, in its old places; to be called after ``allocate``.

        Raises:
            UserError: the replay of the checkpoint has another size or layout.
        """
        check_checkpoint(state, self.capacity, self.num_envs)
        self.steps, self.head = state["steps"], state["head"]
        self.newest_slot.fill_((self.head - 1) % self.capacity)
        slots = tree_tensors(self._storage())
        for slot, value in zip(slots, state["storage"], strict=True):
            slot[: self.steps] = value
        self.successors.load_state_dict(state["successors"], self.oldest_slot)
