"""The assignment problem, exactly, for many worlds: rows to columns at the least total cost."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

MAX_SETS = 9  # rows up to which all 2^N sets of columns are tried


def match(cost: Tensor) -> Tensor:
    """Returns the assignment of rows to columns with the least sum of costs.

    No loop runs over worlds and nothing waits for the device. Few rows take dynamic programming
    over all sets of columns (Held & Karp 1962), ``N 2^(N-1)`` sums in N steps; more take the
    shortest augmenting paths (Kuhn 1955; Jonker & Volgenant 1987) of all worlds in lockstep, about
    ``20 N^2`` operations on ``[B, N]``.

    Args:
        cost: ``[B, N, N]``.

    Returns:
        The column of every row, ``[B, N]`` int64.
    """
    return _match_by_sets(cost) if cost.shape[-1] <= MAX_SETS else _match_by_paths(cost)


def _match_by_sets(cost: Tensor) -> Tensor:
    """Returns the assignment by dynamic programming: the least cost of the first k rows in every
    set of k columns, for k = 1 to N, then back from the set of all."""
    batch, size, _ = cost.shape
    cheapest = cost.new_zeros(batch, 1)  # cost of every set
    choices = []  # for every k the index in each set of row k's column
    tables = _constant_sets(size, cost.device)
    for row, (columns, before) in enumerate(tables):
        total = cost[:, row][:, columns] + cheapest[:, before]  # [B, sets, k]
        cheapest, choice = total.min(-1)
        choices.append(choice)
    assignment, current = [], torch.zeros(batch, dtype=torch.int64, device=cost.device)
    for (columns, before), choice in zip(reversed(tables), reversed(choices), strict=True):
        index = choice.gather(1, current.unsqueeze(-1)).squeeze(-1)
        assignment.append(columns[current, index])
        current = before[current, index]
    return torch.stack(assignment[::-1], dim=1)


def _constant_sets(size: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    return _sets(size, device)


# As torch.compiler.assume_constant_result marks it, which would first import all of Dynamo: a
# second at the start of every command.
_constant_sets._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _sets(size: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Returns all sets of k columns for k = 1 to ``size``: their columns ``[sets, k]``, and the
    index, among the sets of k - 1, of the set without each column, ``[sets, k]``."""
    tables: list[tuple[Tensor, Tensor]] = []
    index: dict[tuple[int, ...], int] = {(): 0}
    for count in range(1, size + 1):
        sets = list(itertools.combinations(range(size), count))
        before = [[index[s[:i] + s[i + 1 :]] for i in range(count)] for s in sets]
        tables.append((torch.tensor(sets, device=device), torch.tensor(before, device=device)))
        index = {s: number for number, s in enumerate(sets)}
    return tables


def _match_by_paths(cost: Tensor) -> Tensor:
    """Returns the assignment by augmenting paths, one row after the other.

    Column 0 is where a path begins, columns 1 to N are the real ones; a world whose path has ended
    early waits for the others.
    """
    batch, size, _ = cost.shape
    padded = torch.cat([cost.new_zeros(batch, size, 1), cost], dim=-1)  # [B, N, 1 + N]
    row_price = cost.new_zeros(batch, size)
    column_price = cost.new_zeros(batch, size + 1)
    owner = torch.full((batch, size + 1), -1, device=cost.device)  # the row in each column
    for row in range(size):
        owner[:, 0] = row
        path = _shortest_path(padded, row, owner, row_price, column_price)
        column, before, row_price, column_price = path
        owner = _shift_along(owner, column, before, row + 1)
    return owner[:, 1:].argsort(-1)


def _shortest_path(
    padded: Tensor, row: int, owner: Tensor, row_price: Tensor, column_price: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the shortest path from ``row`` to a free column by Dijkstra's algorithm: that column
    ``[B, 1]``, the column before each on the path ``[B, 1 + N]``, and the new prices of rows and
    columns."""
    column = torch.zeros_like(owner[:, :1])
    before = torch.zeros_like(owner)
    distance = torch.full_like(column_price, torch.inf)
    visited = torch.zeros_like(owner, dtype=torch.bool)
    for _ in range(row + 1):
        current = owner.gather(1, column)  # [B, 1]
        arrived = current < 0
        visited = visited.scatter(1, column, True) & ~(arrived & _one_hot(column, owner))
        current = current.clamp(min=0)
        index = current.unsqueeze(-1).expand(-1, -1, owner.shape[1])
        reduced = padded.gather(1, index).squeeze(1)
        reduced = reduced - row_price.gather(1, current) - column_price
        closer = (reduced < distance) & ~visited & ~arrived
        distance = torch.where(closer, reduced, distance)
        before = torch.where(closer, column, before)
        open_distance = distance.masked_fill(visited, torch.inf)
        open_distance[:, 0] = torch.inf
        step, nearest = open_distance.min(1, keepdim=True)
        step = torch.where(arrived, 0.0, step)
        change = torch.where(visited, step, 0.0)  # in prices of the visited columns and rows
        row_price = row_price.scatter_add(1, owner.clamp(min=0), change)
        column_price = column_price - change
        distance = torch.where(visited, distance, distance - step)
        column = torch.where(arrived, column, nearest)
    return column, before, row_price, column_price


def _shift_along(owner: Tensor, column: Tensor, before: Tensor, steps: int) -> Tensor:
    """Returns the row in each column after all rows on the path to ``column`` moved on by one."""
    for _ in range(steps):
        previous = before.gather(1, column)
        moved = torch.where(column > 0, owner.gather(1, previous), owner.gather(1, column))
        owner = owner.scatter(1, column, moved)
        column = torch.where(column > 0, previous, column)
    return owner


def _one_hot(column: Tensor, like: Tensor) -> Tensor:
    return torch.arange(like.shape[1], device=like.device) == column
