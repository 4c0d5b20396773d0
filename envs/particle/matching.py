"""Who goes where at the least total cost: the assignment problem, exactly, for many worlds."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

MOST_IN_SETS = 9  # agents up to which all sets of columns are gone through, 2^9 of them


def match(cost: Tensor) -> Tensor:
    """The column of every row, ``[B, N]`` int64, for ``cost [B, N, N]``; their sum is least.

    No loop runs over worlds and nothing waits for the device. Few agents go through all sets of
    columns by dynamic programming (Held & Karp 1962), ``N 2^(N-1)`` sums in ``N`` steps; more take
    the shortest augmenting paths (Kuhn 1955; Jonker & Volgenant 1987) of all worlds in step, some
    ``20 N^2`` operations on ``[B, N]``.
    """
    return _by_sets(cost) if cost.shape[-1] <= MOST_IN_SETS else _augmented(cost)


def _by_sets(cost: Tensor) -> Tensor:
    """The first k rows take each set of k columns as cheaply as they can, for k = 1 to N; then back
    from the set of all."""
    batch, size, _ = cost.shape
    cheapest, last = cost.new_zeros(batch, 1), []  # of every set; which of its columns is row k's
    tables = _constant_sets(size, cost.device)
    for row, (columns, before) in enumerate(tables):
        total = cost[:, row][:, columns] + cheapest[:, before]  # [B, sets, k]
        cheapest, chosen = total.min(-1)
        last.append(chosen)
    matched, where = [], torch.zeros(batch, dtype=torch.int64, device=cost.device)
    for (columns, before), chosen in zip(reversed(tables), reversed(last), strict=True):
        which = chosen.gather(1, where.unsqueeze(-1)).squeeze(-1)
        matched.append(columns[where, which])
        where = before[where, which]
    return torch.stack(matched[::-1], dim=1)


@torch.compiler.assume_constant_result
def _constant_sets(size: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    return _sets(size, device)


@functools.cache
def _sets(size: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For k = 1 to ``size`` all sets of k columns: their members ``[sets, k]``, and where among the
    sets of k - 1 each is without the member, ``[sets, k]``."""
    tables: list[tuple[Tensor, Tensor]] = []
    index: dict[tuple[int, ...], int] = {(): 0}
    for count in range(1, size + 1):
        sets = list(itertools.combinations(range(size), count))
        before = [[index[s[:i] + s[i + 1 :]] for i in range(count)] for s in sets]
        tables.append((torch.tensor(sets, device=device), torch.tensor(before, device=device)))
        index = {s: number for number, s in enumerate(sets)}
    return tables


def _augmented(cost: Tensor) -> Tensor:
    """One row after the other is let in along the shortest path of alternating edges. Column 0 is
    where a path begins, columns 1 to N are the real ones; a world's path that has arrived early
    waits for the others."""
    batch, size, _ = cost.shape
    padded = torch.cat([cost.new_zeros(batch, size, 1), cost], dim=-1)  # [B, N, 1 + N]
    row_price = cost.new_zeros(batch, size)
    column_price = cost.new_zeros(batch, size + 1)
    owner = torch.full((batch, size + 1), -1, device=cost.device)  # the row in each column
    for row in range(size):
        owner[:, 0] = row
        found = _path(padded, row, owner, row_price, column_price)
        column, before, row_price, column_price = found
        owner = _flipped(owner, column, before, row + 1)
    return owner[:, 1:].argsort(-1)


def _path(
    padded: Tensor, row: int, owner: Tensor, row_price: Tensor, column_price: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Dijkstra's way from ``row`` to the nearest free column: that column ``[B, 1]``, the column
    before each on the way ``[B, 1 + N]``, and the prices raised along it."""
    column = torch.zeros_like(owner[:, :1])
    before = torch.zeros_like(owner)
    distance = torch.full_like(column_price, torch.inf)
    visited = torch.zeros_like(owner, dtype=torch.bool)
    for _ in range(row + 1):
        held = owner.gather(1, column)  # [B, 1]
        arrived = held < 0
        visited = visited.scatter(1, column, True) & ~(arrived & _one_hot(column, owner))
        held = held.clamp(min=0)
        reduced = padded.gather(1, held.unsqueeze(-1).expand(-1, -1, owner.shape[1])).squeeze(1)
        reduced = reduced - row_price.gather(1, held) - column_price
        closer = (reduced < distance) & ~visited & ~arrived
        distance = torch.where(closer, reduced, distance)
        before = torch.where(closer, column, before)
        open_distance = distance.masked_fill(visited, torch.inf)
        open_distance[:, 0] = torch.inf
        step, nearest = open_distance.min(1, keepdim=True)
        step = torch.where(arrived, 0.0, step)
        raised = torch.where(visited, step, 0.0)  # prices of the visited columns and rows
        row_price = row_price.scatter_add(1, owner.clamp(min=0), raised)
        column_price = column_price - raised
        distance = torch.where(visited, distance, distance - step)
        column = torch.where(arrived, column, nearest)
    return column, before, row_price, column_price


def _flipped(owner: Tensor, column: Tensor, before: Tensor, steps: int) -> Tensor:
    """The row in each column when those along the path to ``column`` have moved on by one."""
    for _ in range(steps):
        previous = before.gather(1, column)
        moved = torch.where(column > 0, owner.gather(1, previous), owner.gather(1, column))
        owner = owner.scatter(1, column, moved)
        column = torch.where(column > 0, previous, column)
    return owner


def _one_hot(column: Tensor, like: Tensor) -> Tensor:
    return torch.arange(like.shape[1], device=like.device) == column
