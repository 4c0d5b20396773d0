"""Who goes where at the least total cost: the assignment problem, exactly, for many worlds."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

MOST_TRIED = 5  # agents up to which every permutation is tried, 120 of them


def match(cost: Tensor) -> Tensor:
    """The column of every row, ``[B, N]`` int64, for ``cost [B, N, N]``; their sum is least.

    No loop runs over worlds and nothing waits for the device: few agents try all permutations, more
    take the shortest augmenting paths (Kuhn 1955; Jonker & Volgenant 1987) of all worlds in step,
    some ``20 N^2`` operations on ``[B, N]``.
    """
    size = cost.shape[-1]
    return _tried(cost) if size <= MOST_TRIED else _augmented(cost)


def _tried(cost: Tensor) -> Tensor:
    size = cost.shape[-1]
    every = list(itertools.permutations(range(size)))
    permutations = torch.tensor(every, device=cost.device)  # [P, N]
    rows = torch.arange(size, device=cost.device)
    totals = cost[:, rows, permutations].sum(-1)  # [B, P]
    return permutations[totals.argmin(-1)]


def _augmented(cost: Tensor) -> Tensor:
    """One row after the other is let in along the shortest path of alternating edges. Column 0 is
    where a path begins, columns 1 to N are the real ones; a world's path that has arrived early
    waits for the others."""
    batch, size, _ = cost.shape
    padded = torch.cat([cost.new_zeros(batch, size, 1), cost], dim=-1)  # [B, N, 1 + N]
    row_price = cost.new_zeros(batch, size)
    column_price = cost.new_zeros(batch, size + 1)
    owner = torch.full((batch, size + 1), -1, device=cost.device)  # the row in each column
    zero = torch.zeros(batch, 1, dtype=torch.int64, device=cost.device)
    for row in range(size):
        owner[:, 0] = row
        column, before = zero, torch.zeros_like(owner)
        distance = torch.full_like(column_price, torch.inf)
        visited = torch.zeros_like(owner, dtype=torch.bool)
        for _ in range(row + 1):
            held = owner.gather(1, column)  # [B, 1]
            arrived = held < 0
            visited = visited.scatter(1, column, True) & ~(arrived & _one_hot(column, owner))
            held = held.clamp(min=0)
            reduced = padded.gather(1, held.unsqueeze(-1).expand(-1, -1, size + 1)).squeeze(1)
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
        for _ in range(row + 1):
            previous = before.gather(1, column)
            moved = owner.gather(1, previous)
            owner = owner.scatter(
                1, column, torch.where(column > 0, moved, owner.gather(1, column))
            )
            column = torch.where(column > 0, previous, column)
    return owner[:, 1:].argsort(-1)


def _one_hot(column: Tensor, like: Tensor) -> Tensor:
    return torch.arange(like.shape[1], device=like.device) == column
