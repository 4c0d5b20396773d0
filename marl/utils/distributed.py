"""One run in several processes, each with a device of its own: the *ranks* that torchrun starts.

Every rank owns an even part of the environments, of the replay and of every batch. A loss on a rank
is a mean over its part, and the whole's gradient is the mean of the ranks' gradients
(``Optimizer.step``): parts are of one size, and a mean over a mask divides by the ranks' mean count
(``losses.masked_mean``), so that numerators and counts are summed and not means averaged. Weights,
their moments and all decisions are the same on every rank; random streams, but those that decide
for all, are each rank's own.

Alone, everything here gives back what it got, and compiled code has no trace of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from marl.errors import UserError

RANK, SIZE = 0, 1  # this process's number, and how many there are: set by ``start``
_owned = False  # whether ``start`` began the process group
DEVICE = torch.device("cpu")  # of what is exchanged


def wanted() -> int:
    """How many ranks the launcher started."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1


def local() -> int | None:
    """This process's number on its machine; None where it is alone."""
    return int(os.environ.get("LOCAL_RANK", "0")) if wanted() > 1 else None


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Joins the other ranks for the time of a block: around an ``Experiment`` under torchrun, from
    before it is made until after it has run. Alone, and within such a block, nothing happens.

    After an error the group stays: the process ends, and torchrun the others.
    """
    begun = start(device)
    yield
    if begun:
        leave()


def start(device: torch.device) -> bool:
    """Joins the others, over NCCL on GPUs and gloo on CPUs, and returns True; nothing happens alone
    or once joined. A process group that is there is used, and not ended by ``leave``.

    Whoever waits does so for a day: the others may be waiting for an evaluation, and where one dies
    torchrun ends all."""
    global RANK, SIZE, DEVICE, _owned
    if wanted() == 1 or SIZE > 1:
        return False
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _owned = not dist.is_initialized()
    if _owned:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(days=1))
    RANK, SIZE, DEVICE = dist.get_rank(), dist.get_world_size(), device
    return True


def leave() -> None:
    """Ends what ``start`` began."""
    global RANK, SIZE, DEVICE
    if SIZE > 1:
        if _owned:
            dist.destroy_process_group()
        RANK, SIZE, DEVICE = 0, 1, torch.device("cpu")


def check_joined() -> None:
    """Raises UserError where torchrun started this process and it has not joined the others."""
    if wanted() > 1 and SIZE == 1:
        raise UserError(
            f"this process is one of {wanted()} that torchrun started, and it trains for itself; "
            "make and run the Experiment within marl.utils.distributed.joined(device)"
        )


# ------------------------------------------------------------------------------------- who has what


def part(name: str, whole: int) -> int:
    """A rank's part of a number that is the whole run's.

    Raises:
        UserError: it cannot be divided evenly.
    """
    if whole % SIZE:
        nearest = max(1, round(whole / SIZE)) * SIZE
        raise UserError(
            f"{name}={whole} cannot be divided among {SIZE} ranks; take {name}={nearest}"
        )
    return whole // SIZE


def own() -> tuple[str | int, ...]:
    """What makes a random stream this rank's own; the first rank's are those of a run alone."""
    return ("rank", RANK) if RANK else ()


# --------------------------------------------------------------------------------------- exchanging


def total(x: Tensor) -> Tensor:
    """The sum over the ranks, element by element, without gradient."""
    if SIZE == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def average(x: Tensor) -> Tensor:
    """The mean over the ranks, element by element, without gradient."""
    return x if SIZE == 1 else total(x) / SIZE


def totals(parts: Sequence[Tensor]) -> list[Tensor]:
    """``total`` of each, in one exchange; all of one dtype."""
    if SIZE == 1:
        return list(parts)
    flat = total(torch.cat([x.reshape(-1) for x in parts])).split([x.numel() for x in parts])
    return [found.view_as(x) for found, x in zip(flat, parts, strict=True)]


def averages(parts: Sequence[Tensor]) -> list[Tensor]:
    """``average`` of each, in one exchange; all of one dtype."""
    return list(parts) if SIZE == 1 else [x / SIZE for x in totals(parts)]


def first(x: Tensor) -> Tensor:
    """The first rank's."""
    if SIZE > 1:
        dist.broadcast(x, 0)
    return x


def word(text: str) -> str:
    """The first rank's."""
    if SIZE == 1:
        return text
    told = [text]
    dist.broadcast_object_list(told, 0, device=DEVICE)
    return told[0]


def together(words: Iterable[str]) -> list[str]:
    """The words of all ranks, each once, in the same order everywhere. Waits for all of them."""
    if SIZE == 1:
        return list(words)
    told: list[list[str]] = [[] for _ in range(SIZE)]
    dist.all_gather_object(told, list(words))
    return sorted({word for part in told for word in part})


def highest(number: int) -> int:
    """The highest over the ranks. Waits for all of them."""
    if SIZE == 1:
        return number
    found = torch.tensor(number, device=DEVICE)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found.item())


def check_alike(weights: Iterable[Tensor]) -> None:
    """Raises RuntimeError where these are not the same on all ranks. Alone, none is looked at."""
    if SIZE == 1:
        return
    sums = [float(x.detach().double().sum()) for x in weights]
    found = torch.tensor([0.0, *sums], dtype=torch.float64, device=DEVICE)
    if highest(int(not torch.equal(found, first(found.clone())))):
        raise RuntimeError(
            "ranks began with other weights: something that builds environments or networks draws "
            "from the global random state on one rank and not on another"
        )


@contextmanager
def first_rank_last() -> Iterator[None]:
    """Around what the first rank does when the others have done it, and nobody is ahead of."""
    if RANK == 0:
        highest(0)
    yield
    if RANK > 0:
        highest(0)
    highest(0)
