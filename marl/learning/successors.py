"""Storage of the successors that a replay cannot read off its next step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from marl.types import Observation, tree_map, tree_tensors

SHARE = 20  # frames for one row at first: enough for episodes of 20 steps


class Successors:
    """Rows ``[B + E, ...]`` of observations that followed stored frames.

    The first B rows follow the newest step, which has no next step yet. The others are a ring of
    the true successors of older frames after which something else was stored: another episode, or
    a team without the agent that was truncated.

    Successors are numbered in order of time, those of one step by copy: number
    ``offset[slot] + rank`` is in row ``B + number % E``. No method waits for the device: the number
    of rows in use is sent to the host when it changes, and read there when the next rollout comes.

    Args:
        num_envs: B, copies of the environment.
        capacity: C, steps that the replay holds.
        device: where the rows are.
    """

    def __init__(self, num_envs: int, capacity: int, device: torch.device):
        self.num_envs, self.capacity, self.device = num_envs, capacity, device
        self.size = max(1, capacity * num_envs // SHARE)  # E
        self.rank_type = smallest_int_type(num_envs)
        self.no_rank = torch.iinfo(self.rank_type).max  # the rank of frames without a row
        self.rows: Observation | None = None
        self.offset = torch.zeros(capacity, dtype=torch.int64, device=device)
        self.count = torch.zeros((), dtype=torch.int64, device=device)  # of all ever stored
        self._in_use = torch.zeros((), dtype=torch.int64, pin_memory=device.type == "cuda")
        self._copy_event = torch.cuda.Event() if device.type == "cuda" else None

    def allocate(self, obs: Observation) -> None:
        """Allocates rows like those of ``obs [T, B, ...]``."""
        self.rows = self.empty(obs, self.size, self.device)

    def empty(self, obs: Observation, size: int, device: torch.device | str) -> Observation:
        """Returns uninitialised rows for a ring.

        Args:
            obs: observations like those to be stored, ``[T, B, ...]``.
            size: E, length of the ring.
            device: where the rows are to be.
        """
        count = self.num_envs + size
        return tree_map(lambda x: x.new_empty(count, *x.shape[2:], device=device), obs)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return sum(x[0].nbytes for x in tree_tensors(self.rows))

    def required_size(self, count: int) -> int:
        """Returns the smallest E that holds ``count`` successors besides those in use."""
        if self._copy_event is not None:
            self._copy_event.synchronize()
        frames = self.capacity * self.num_envs  # each has at most one successor
        return min(int(self._in_use) + count, frames)

    def resize(self, size: int) -> None:
        """Enlarges E to ``size``; all stored successors remain."""
        old_size, rows = self.size, self.all_rows()
        number = self.count - 1 - torch.arange(old_size, device=self.device)
        new_rows = tree_map(lambda x: x.new_empty(self.num_envs + size, *x.shape[1:]), rows)

        def move(new: Tensor, old: Tensor) -> None:
            new[: self.num_envs] = old[: self.num_envs]
            new[self.num_envs + number % size] = old[self.num_envs + number % old_size]

        tree_map(move, new_rows, rows)
        self.rows, self.size = new_rows, size

    # -------------------------------------------------------------------------------------- writing

    def add(self, obs: Observation, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Stores successors.

        Args:
            obs: the successors of all steps, ``[T, B, ...]``.
            mask: True for those to store, ``[T, B]``.

        Returns:
            The number of successors before each step, ``[T]``, and the ranks within a step,
            ``[T, B]``.
        """
        per_step = mask.sum(1)
        offset = self.count + per_step.cumsum(0) - per_step
        rank = mask.cumsum(1) - 1
        row = self.num_envs + (offset.unsqueeze(-1) + rank) % self.size
        index = torch.where(mask, row, 0).flatten()  # row 0 is scratch: set_newest overwrites it
        tree_map(lambda rows, x: rows.index_copy_(0, index, x.flatten(0, 1)), self.all_rows(), obs)
        self.count += per_step.sum()
        return offset, rank

    def set_newest(self, obs: Observation) -> None:
        """Stores the successors of the newest step, ``[B, ...]``."""

        def write(rows: Tensor, x: Tensor) -> None:
            rows[: self.num_envs] = x

        tree_map(write, self.all_rows(), obs)

    def newest_rows(self) -> Observation:
        """Returns a copy of the successors of the newest step, ``[1, B, ...]``."""
        return tree_map(lambda rows: rows[None, : self.num_envs].clone(), self.all_rows())

    def send_count(self, oldest_slot: int) -> None:
        """Sends the number of rows in use to the host, given the slot of the oldest step."""
        self._in_use.copy_(self.count - self.offset[oldest_slot], non_blocking=True)
        if self._copy_event is not None:
            self._copy_event.record()

    # -------------------------------------------------------------------------------------- reading

    def read(
        self, index: Tensor, obs: Observation, rank: Tensor, newest: Tensor, rows: Observation
    ) -> Observation:
        """Returns the true successors of frames: the next step's observations, or a row.

        Args:
            index: indices of the frames, ``slot * B + copy``, of any shape.
            obs: stored observations, ``[C, B, ...]``.
            rank: stored ranks, ``[C, B]``.
            newest: slot of the newest step, a scalar.
            rows: the rows of this object, or compiled code's argument.

        Returns:
            Observations, with the shape of ``index`` in front.
        """
        flat = index.flatten()
        slot, copy = flat // self.num_envs, flat % self.num_envs
        frame_rank = rank.flatten().index_select(0, flat).long()
        size = len(tree_tensors(rows)[0]) - self.num_envs
        row = self.num_envs + (self.offset.index_select(0, slot) + frame_rank) % size
        has_rank = frame_rank != self.no_rank
        row, from_rows = torch.where(has_rank, row, copy), has_rank | (slot == newest)
        next_index = (flat + self.num_envs) % (self.capacity * self.num_envs)

        def select(ring: Tensor, ring_rows: Tensor) -> Tensor:
            next_step = ring.flatten(0, 1).index_select(0, next_index)
            mask = from_rows.reshape(-1, *[1] * (next_step.dim() - 1))
            return torch.where(mask, ring_rows.index_select(0, row), next_step)

        return tree_map(lambda *x: select(*x).unflatten(0, index.shape), obs, rows)

    def all_rows(self) -> Observation:
        """Returns all rows, ``[B + E, ...]``; ``resize`` replaces them."""
        assert self.rows is not None, "nothing was stored yet"
        return self.rows

    # ---------------------------------------------------------------------------------- checkpoints

    def state_dict(self, steps: int) -> dict[str, Any]:
        """Returns the state of a replay that holds ``steps`` steps."""
        count, offset = int(self.count), leading_rows(self.offset, steps)
        used = self.num_envs + min(count, self.size)
        rows = [leading_rows(x, used) for x in tree_tensors(self.rows)]
        return {"size": self.size, "count": count, "before": offset, "rows": rows}

    def load_state_dict(self, state: Mapping[str, Any], oldest_slot: int) -> None:
        """Restores a state; to be called after ``allocate``.

        Args:
            state: what ``state_dict`` returned.
            oldest_slot: slot of the oldest step.
        """
        if state["size"] != self.size:
            self.rows = self.empty(
                tree_map(lambda x: x.unsqueeze(0), self.all_rows()), state["size"], self.device
            )
            self.size = state["size"]
        for slot, value in zip(tree_tensors(self.all_rows()), state["rows"], strict=True):
            slot[: len(value)] = value
        self.offset[: len(state["before"])] = state["before"]
        self.count.fill_(state["count"])
        self.send_count(oldest_slot)


def leading_rows(x: Tensor, count: int) -> Tensor:
    """Returns the first rows of a tensor, such that a checkpoint writes no others.

    Args:
        x: ``[rows, ...]``.
        count: number of rows.
    """
    if count == len(x):
        return x
    if x.device.type == "cpu":  # shares memory; torch.save would write the base of a plain slice
        return torch.from_numpy(x[:count].numpy())
    return x[:count].cpu()


def smallest_int_type(count: int) -> torch.dtype:
    """Returns the smallest integer type with ``count`` values and one more."""
    types = (torch.uint8, torch.int16, torch.int32)
    return next(kind for kind in types if count <= torch.iinfo(kind).max)
