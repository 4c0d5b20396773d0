"""One run in several processes, each with its own device: the *ranks* that torchrun starts.

Every rank has an equal part of the environments, of the replay and of every batch. A loss on a rank
is a mean over its part, and the gradient of the whole batch is the mean of the ranks' gradients
(``Optimizer.step``). This is exact because all parts have the same size, and because a mean over a
mask divides by the ranks' mean count (``losses.masked_mean``), so that numerators and counts are
summed and means are not averaged. Weights, optimizer moments and all decisions are the same on
every rank. Random streams differ between ranks, except those that decide something for all of them.

In a run of one process every function returns its input, and compiled code holds no trace of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from marl.errors import UserError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, from the point of view of one of them.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        device: device of the tensors that are exchanged.
        owned: True if ``start`` created the process group, and ``leave`` must end it.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    owned: bool = False


_ranks = Ranks()  # a single process, except between ``start`` and ``leave``


def rank() -> int:
    """Returns the number of this process, from 0."""
    return _ranks.rank


def size() -> int:
    """Returns the number of ranks in the process group; 1 before ``start`` and after ``leave``."""
    return _ranks.size


def requested_size() -> int:
    """Returns the number of ranks that the launcher started, joined or not."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1


def local_rank() -> int | None:
    """Returns the number of this process on its machine; None in a run of one process."""
    return int(os.environ.get("LOCAL_RANK", "0")) if requested_size() > 1 else None


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Joins the other ranks for the duration of a block.

    Under torchrun an ``Experiment`` is made and run within this block. With one process, and within
    another such block, nothing happens. After an error the process group stays as it is: this
    process ends, and torchrun ends the others.

    Args:
        device: the device of this rank.
    """
    joins = start(device)
    yield
    if joins:
        leave()


def start(device: torch.device) -> bool:
    """Joins the other ranks, over NCCL on GPUs and over gloo on CPUs.

    A process group that exists already is used, and ``leave`` does not end it. Ranks wait for each
    other for up to a day, because one of them may be evaluating; where one dies, torchrun ends all.

    Args:
        device: the device of this rank.

    Returns:
        False if nothing was done: there is one process only, or it has joined before.
    """
    global _ranks
    if requested_size() == 1 or size() > 1:
        return False
    if device.type == "cuda":
        torch.cuda.set_device(device)
    owned = not dist.is_initialized()
    if owned:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(days=1))
    _ranks = Ranks(dist.get_rank(), dist.get_world_size(), device, owned)
    return True


def leave() -> None:
    """Leaves the other ranks, and ends the process group if ``start`` created it."""
    global _ranks
    if size() > 1:
        if _ranks.owned:
            dist.destroy_process_group()
        _ranks = Ranks()


def check_joined() -> None:
    """Checks that a process of torchrun has joined the other ranks.

    Raises:
        UserError: it has not, and would train by itself.
    """
    if requested_size() > 1 and size() == 1:
        raise UserError(
            f"this process is one of {requested_size()} that torchrun started, and it would train "
            "by itself; make and run the Experiment within marl.utils.distributed.joined(device)"
        )


# ------------------------------------------------------------------------------ shares of the ranks


def share(name: str, whole: int) -> int:
    """Returns one rank's share of a number that is given for the whole run.

    Args:
        name: of the option, for the message.
        whole: the number for the whole run.

    Raises:
        UserError: the number does not divide evenly over the ranks.
    """
    if whole % size():
        nearest = max(1, round(whole / size())) * size()
        raise UserError(
            f"{name}={whole} cannot be divided among {size()} ranks; take {name}={nearest}"
        )
    return whole // size()


def seed_suffix() -> tuple[str | int, ...]:
    """Returns the words that give this rank its own random stream, for ``seeding.derive``.

    The first rank has none: its streams are those of a run of one process.
    """
    return ("rank", rank()) if rank() else ()


# ---------------------------------------------------------------------------------------- exchanges


def total(x: Tensor) -> Tensor:
    """Returns the sum over the ranks, element by element, without gradient."""
    if size() == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def average(x: Tensor) -> Tensor:
    """Returns the mean over the ranks, element by element, without gradient."""
    return x if size() == 1 else total(x) / size()


def totals(parts: Sequence[Tensor]) -> list[Tensor]:
    """Returns ``total`` of each tensor, by one exchange; all have the same dtype."""
    if size() == 1:
        return list(parts)
    flat = total(torch.cat([x.reshape(-1) for x in parts])).split([x.numel() for x in parts])
    return [summed.view_as(x) for summed, x in zip(flat, parts, strict=True)]


def averages(parts: Sequence[Tensor]) -> list[Tensor]:
    """Returns ``average`` of each tensor, by one exchange; all have the same dtype."""
    return list(parts) if size() == 1 else [x / size() for x in totals(parts)]


def broadcast(x: Tensor) -> Tensor:
    """Overwrites ``x`` with the first rank's ``x``, and returns it."""
    if size() > 1:
        dist.broadcast(x, 0)
    return x


def broadcast_text(text: str) -> str:
    """Returns the first rank's ``text``."""
    if size() == 1:
        return text
    texts = [text]
    dist.broadcast_object_list(texts, 0, device=_ranks.device)
    return texts[0]


def union(words: Iterable[str]) -> list[str]:
    """Returns the words of all ranks, each once and sorted; in a single process all as they are.

    Every rank must call it: each waits for all others.
    """
    if size() == 1:
        return list(words)
    by_rank: list[list[str]] = [[] for _ in range(size())]
    dist.all_gather_object(by_rank, list(words))
    return sorted({word for part in by_rank for word in part})


def maximum(number: int) -> int:
    """Returns the largest number over the ranks. Every rank must call it: each waits for all."""
    if size() == 1:
        return number
    largest = torch.tensor(number, device=_ranks.device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest.item())


def check_alike(weights: Iterable[Tensor]) -> None:
    """Checks that these tensors are the same on all ranks; with one process none is looked at.

    Raises:
        RuntimeError: a sum over one of them differs between two ranks.
    """
    if size() == 1:
        return
    sums = [float(x.detach().double().sum()) for x in weights]
    local = torch.tensor([0.0, *sums], dtype=torch.float64, device=_ranks.device)
    if maximum(int(not torch.equal(local, broadcast(local.clone())))):
        raise RuntimeError(
            "the ranks began with different weights: something that builds environments or "
            "networks draws from the global random state on one rank and not on another"
        )


@contextmanager
def first_rank_last() -> Iterator[None]:
    """Runs a block on the first rank after all other ranks have left it; then all go on."""
    if rank() == 0:
        maximum(0)
    yield
    if rank() > 0:
        maximum(0)
    maximum(0)
