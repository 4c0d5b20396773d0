"""The successors that a replay cannot read off its next step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from marl.types import Observation, tree_map, tree_tensors

SHARE = 20  # there is room at first for one successor in so many frames: episodes of 20 steps


class Successors:
    """Rows ``[B + E, ...]`` of observations. The first B follow the newest step, which has no next
    one yet; the others are a ring of the true successors of older frames after which something
    else was stored: another episode, or a team without the agent that was truncated.

    They are numbered in order of time, and so are those of one step: number ``before[slot] + rank``
    is in row ``B + number % E``. Nothing waits for the device: how many are in use is sent to the
    host as it changes, and read there when the next rollout comes.
    """

    def __init__(self, num_envs: int, capacity: int, device: torch.device):
        self.num_envs, self.capacity, self.device = num_envs, capacity, device
        self.size = max(1, capacity * num_envs // SHARE)  # E
        self.rank_type = smallest(num_envs)
        self.none = torch.iinfo(self.rank_type).max  # the rank of frames without a row
        self.rows: Observation | None = None
        self.before = torch.zeros(capacity, dtype=torch.int64, device=device)
        self.count = torch.zeros((), dtype=torch.int64, device=device)  # of all there ever were
        self._in_use = torch.zeros((), dtype=torch.int64, pin_memory=device.type == "cuda")
        self._sent = torch.cuda.Event() if device.type == "cuda" else None

    def allocate(self, obs: Observation) -> None:
        """Rows like those of ``obs [T, B, ...]``."""
        self.rows = self.empty(obs, self.size, self.device)

    def empty(self, obs: Observation, size: int, device: torch.device | str) -> Observation:
        """Rows for a ring of ``size``, not filled."""
        count = self.num_envs + size
        return tree_map(lambda x: x.new_empty(count, *x.shape[2:], device=device), obs)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return sum(x[0].nbytes for x in tree_tensors(self.rows))

    def wanted(self, more: int) -> int:
        """Returns the E that ``more`` successors need, at least; no frame has two."""
        if self._sent is not None:
            self._sent.synchronize()
        return min(int(self._in_use) + more, self.capacity * self.num_envs)

    def resize(self, size: int) -> None:
        """Makes E ``size``, which is not smaller; all stay."""
        old, rows = self.size, self.all_rows()
        number = self.count - 1 - torch.arange(old, device=self.device)
        fresh = tree_map(lambda x: x.new_empty(self.num_envs + size, *x.shape[1:]), rows)

        def move(new: Tensor, x: Tensor) -> None:
            new[: self.num_envs] = x[: self.num_envs]
            new[self.num_envs + number % size] = x[self.num_envs + number % old]

        tree_map(move, fresh, rows)
        self.rows, self.size = fresh, size

    # -------------------------------------------------------------------------------------- writing

    def add(self, obs: Observation, where: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps those of ``obs [T, B, ...]`` that are ``where [T, B]``; returns how many there were
        before each step, ``[T]``, and their ranks, ``[T, B]``."""
        each = where.sum(1)
        before = self.count + each.cumsum(0) - each
        rank = where.cumsum(1) - 1
        row = self.num_envs + (before.unsqueeze(-1) + rank) % self.size
        index = torch.where(
            where, row, 0
        ).flatten()  # row 0 takes the rest: the newest overwrite it
        tree_map(lambda rows, x: rows.index_copy_(0, index, x.flatten(0, 1)), self.all_rows(), obs)
        self.count += each.sum()
        return before, rank

    def set_newest(self, obs: Observation) -> None:
        """What follows the newest step, ``[B, ...]``."""

        def write(rows: Tensor, x: Tensor) -> None:
            rows[: self.num_envs] = x

        tree_map(write, self.all_rows(), obs)

    def newest(self) -> Observation:
        """A copy of what follows the newest step, ``[1, B, ...]``."""
        return tree_map(lambda rows: rows[None, : self.num_envs].clone(), self.all_rows())

    def send(self, oldest: int) -> None:
        """Tells the host how many are in use; ``oldest`` is the slot of the oldest step."""
        self._in_use.copy_(self.count - self.before[oldest], non_blocking=True)
        if self._sent is not None:
            self._sent.record()

    # -------------------------------------------------------------------------------------- reading

    def read(
        self, index: Tensor, obs: Observation, rank: Tensor, newest: Tensor, rows: Observation
    ) -> Observation:
        """What follows frames of any shape: the next step's observations, or a row.

        Args:
            index: of the frames, ``slot * B + copy``.
            obs, rank: what is stored of all frames, ``[C, B, ...]``.
            newest: the slot of the newest step.
            rows: those of this object, or compiled code's argument.
        """
        flat = index.flatten()
        slot, copy = flat // self.num_envs, flat % self.num_envs
        own = rank.flatten().index_select(0, flat).long()
        size = len(tree_tensors(rows)[0]) - self.num_envs
        row = self.num_envs + (self.before.index_select(0, slot) + own) % size
        over = own != self.none
        row, apart = torch.where(over, row, copy), over | (slot == newest)
        following = (flat + self.num_envs) % (self.capacity * self.num_envs)

        def each(ring: Tensor, kept: Tensor) -> Tensor:
            next_step = ring.flatten(0, 1).index_select(0, following)
            where = apart.reshape(-1, *[1] * (next_step.dim() - 1))
            return torch.where(where, kept.index_select(0, row), next_step)

        return tree_map(lambda *x: each(*x).unflatten(0, index.shape), obs, rows)

    def all_rows(self) -> Observation:
        """The rows, which ``resize`` replaces."""
        assert self.rows is not None, "nothing was stored yet"
        return self.rows

    # ---------------------------------------------------------------------------------- checkpoints

    def state_dict(self, steps: int) -> dict[str, Any]:
        """All there is of a replay of so many steps."""
        count, before = int(self.count), first(self.before, steps)
        used = self.num_envs + min(count, self.size)
        rows = [first(x, used) for x in tree_tensors(self.rows)]
        return {"size": self.size, "count": count, "before": before, "rows": rows}

    def load_state_dict(self, state: Mapping[str, Any], oldest: int) -> None:
        if state["size"] != self.size:
            self.rows = self.empty(
                tree_map(lambda x: x.unsqueeze(0), self.all_rows()), state["size"], self.device
            )
            self.size = state["size"]
        for slot, value in zip(tree_tensors(self.all_rows()), state["rows"], strict=True):
            slot[: len(value)] = value
        self.before[: len(state["before"])] = state["before"]
        self.count.fill_(state["count"])
        self.send(oldest)


def first(x: Tensor, count: int) -> Tensor:
    """The first ``count`` rows of a tensor, which are all that a checkpoint of them writes."""
    if count == len(x):
        return x
    if x.device.type == "cpu":  # shares memory, unlike a slice as if it were all there is
        return torch.from_numpy(x[:count].numpy())
    return x[:count].cpu()


def smallest(count: int) -> torch.dtype:
    """The smallest integers that tell so many apart, and one more."""
    types = (torch.uint8, torch.int16, torch.int32)
    return next(kind for kind in types if count <= torch.iinfo(kind).max)
