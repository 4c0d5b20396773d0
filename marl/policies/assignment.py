"""Permutation matrices of the largest sum of scores, and their relaxation by Sinkhorn."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

#: Largest N for which all permutations are tried.
ENUMERATED = 6
#: Largest N that is solved by dynamic programming over subsets, in one batch; above, one by one.
EXACT = 10
#: Number of times that rows and columns are normalised.
SINKHORN = 20


def sinkhorn(scores: Tensor, times: int = SINKHORN) -> Tensor:
    """Computes doubly stochastic matrices by normalising rows and columns in turn.

    Small matrices are stored with the batch as the last axis, so that sums run along memory.

    Args:
        scores: logarithms of the matrices' entries, ``[..., N, N]``.
        times: number of normalizations.
    """
    flat = scores.reshape(-1, *scores.shape[-2:])
    kernel = (flat - flat.amax(-1, keepdim=True)).exp().permute(1, 2, 0).contiguous()
    columns = torch.ones_like(kernel[:1])
    rows = columns
    for _ in range(times):
        rows = (kernel * columns).sum(1, keepdim=True).reciprocal()
        columns = (kernel * rows).sum(0, keepdim=True).reciprocal()
    return (rows * kernel * columns).permute(2, 0, 1).reshape(scores.shape)


def assignment(weight: Tensor) -> Tensor:
    """Returns the permutation matrices of the largest sum of weights.

    Args:
        weight: ``[..., N, N]``, of row i in column k.

    Returns:
        ``[..., N, N]``, with a single 1 in every row and every column.
    """
    flat = weight.reshape(-1, *weight.shape[-2:])
    if weight.shape[-1] <= ENUMERATED:
        column = _by_enumeration(flat)
    else:
        column = _by_subsets(flat) if weight.shape[-1] <= EXACT else _one_by_one(flat)
    return F.one_hot(column, weight.shape[-1]).to(weight).view(weight.shape)


@cache
def _permutations(agents: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns all permutations ``[N!, N]``, and their matrices as columns ``[N * N, N!]``."""
    permutations = torch.tensor(list(itertools.permutations(range(agents))), device=device)
    return permutations, F.one_hot(permutations, agents).flatten(1).float().T.contiguous()


def _by_enumeration(weight: Tensor) -> Tensor:
    """Returns the column of each row, ``[M, N]``."""
    permutations, matrices = _permutations(weight.shape[-1], weight.device)
    return permutations[(weight.flatten(1).float() @ matrices).argmax(-1)]


def _one_by_one(weight: Tensor) -> Tensor:
    """Returns the column of each row, ``[M, N]``, by scipy on the CPU."""
    from scipy.optimize import linear_sum_assignment

    columns = [linear_sum_assignment(each, maximize=True)[1] for each in weight.cpu().numpy()]
    return torch.from_numpy(np.array(columns)).to(weight.device).view(len(weight), -1)


@cache
def _subsets(agents: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Returns the subsets of k columns for k = 1 ... N.

    For each k these are the columns in every subset, ``[C, k]``, and the subset without each of
    them, ``[C, k]``, as an index among the subsets of k - 1 columns.
    """
    steps: list[tuple[Tensor, Tensor]] = []
    before: dict[tuple[int, ...], int] = {(): 0}
    for k in range(1, agents + 1):
        now = list(itertools.combinations(range(agents), k))
        rest = [[before[s[:i] + s[i + 1 :]] for i in range(k)] for s in now]
        steps.append((torch.tensor(now, device=device), torch.tensor(rest, device=device)))
        before = {subset: number for number, subset in enumerate(now)}
    return steps


def _by_subsets(weight: Tensor) -> Tensor:
    """Returns the column of each row, ``[M, N]``, by dynamic programming over subsets.

    Computes the best that k rows can do with k columns for k = 1 ... N, then goes back.
    """
    steps = _subsets(weight.shape[-1], weight.device)
    best, choices = weight.new_zeros(len(weight), 1), []
    for row, (columns, rest) in enumerate(steps):
        total = best[:, rest] + weight[:, row, :][:, columns]  # [M, C, k]
        best, choice = total.max(-1)
        choices.append(choice)
    at = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
    path = []
    for (columns, rest), choice in zip(reversed(steps), reversed(choices), strict=True):
        index = choice.gather(1, at.unsqueeze(1)).squeeze(1)
        path.append(columns[at, index])
        at = rest[at, index]
    return torch.stack(path[::-1], dim=-1)
