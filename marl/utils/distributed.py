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
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from marl.errors import UserError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """Who trains together, as one of them knows it.

    Args:
        rank: of this process, from 0.
        size: how many there are.
        device: of what is exchanged.
        owned: whether ``start`` began the process group.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    owned: bool = False


_ranks = Ranks()  # alone, but between ``start`` and ``leave``


def rank() -> int:
    """Returns this process's number."""
    return _ranks.rank


def size() -> int:
    """Returns how many ranks there are."""
    return _ranks.size


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
    global _ranks
    if wanted() == 1 or size() > 1:
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
    """Ends what ``start`` began."""
    global _ranks
    if size() > 1:
        if _ranks.owned:
            dist.destroy_process_group()
        _ranks = Ranks()


def check_joined() -> None:
    """Raises UserError where torchrun started this process and it has not joined the others."""
    if wanted() > 1 and size() == 1:
        raise UserError(
            f"this process is one of {wanted()} that torchrun started, and it trains for itself; "
            "make and run the Experiment within marl.utils.distributed.joined(device)"
        )


# ------------------------------------------------------------------------------------- who has what


def share(name: str, whole: int) -> int:
    """Returns a rank's share of a number that is the whole run's.

    Raises:
        UserError: it cannot be divided evenly.
    """
    if whole % size():
        nearest = max(1, round(whole / size())) * size()
        raise UserError(
            f"{name}={whole} cannot be divided among {size()} ranks; take {name}={nearest}"
        )
    return whole // size()


def seed_suffix() -> tuple[str | int, ...]:
    """Returns the words that make a random stream this rank's own; none for the first rank, whose
    streams are those of a run alone."""
    return ("rank", rank()) if rank() else ()


# --------------------------------------------------------------------------------------- exchanging


def total(x: Tensor) -> Tensor:
    """The sum over the ranks, element by element, without gradient."""
    if size() == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def average(x: Tensor) -> Tensor:
    """The mean over the ranks, element by element, without gradient."""
    return x if size() == 1 else total(x) / size()


def totals(parts: Sequence[Tensor]) -> list[Tensor]:
    """``total`` of each, in one exchange; all of one dtype."""
    if size() == 1:
        return list(parts)
    flat = total(torch.cat([x.reshape(-1) for x in parts])).split([x.numel() for x in parts])
    return [summed.view_as(x) for summed, x in zip(flat, parts, strict=True)]


def averages(parts: Sequence[Tensor]) -> list[Tensor]:
    """``average`` of each, in one exchange; all of one dtype."""
    return list(parts) if size() == 1 else [x / size() for x in totals(parts)]


def broadcast(x: Tensor) -> Tensor:
    """Overwrites ``x`` with the first rank's, and returns it."""
    if size() > 1:
        dist.broadcast(x, 0)
    return x


def broadcast_text(text: str) -> str:
    """Returns the first rank's text."""
    if size() == 1:
        return text
    texts = [text]
    dist.broadcast_object_list(texts, 0, device=_ranks.device)
    return texts[0]


def together(words: Iterable[str]) -> list[str]:
    """The words of all ranks, each once, in the same order everywhere. Waits for all of them."""
    if size() == 1:
        return list(words)
    by_rank: list[list[str]] = [[] for _ in range(size())]
    dist.all_gather_object(by_rank, list(words))
    return sorted({word for part in by_rank for word in part})


def highest(number: int) -> int:
    """The highest over the ranks. Waits for all of them."""
    if size() == 1:
        return number
    most = torch.tensor(number, device=_ranks.device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return int(most.item())


def check_alike(weights: Iterable[Tensor]) -> None:
    """Raises RuntimeError where these are not the same on all ranks. Alone, none is looked at."""
    if size() == 1:
        return
    sums = [float(x.detach().double().sum()) for x in weights]
    own = torch.tensor([0.0, *sums], dtype=torch.float64, device=_ranks.device)
    if highest(int(not torch.equal(own, broadcast(own.clone())))):
        raise RuntimeError(
            "ranks began with other weights: something that builds environments or networks draws "
            "from the global random state on one rank and not on another"
        )


@contextmanager
def first_rank_last() -> Iterator[None]:
    """Lets the first rank enter the block when the others have left it; all go on together."""
    if rank() == 0:
        highest(0)
    yield
    if rank() > 0:
        highest(0)
    highest(0)
