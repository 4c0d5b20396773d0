"""The device of a run, and how its process uses the machine."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from marl.errors import UserError
from marl.utils import distributed


def find_device(name: str) -> torch.device:
    """Returns the device of that name; under torchrun ``cuda`` is a GPU of each rank's own.

    Args:
        name: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: this machine has no such device, or several ranks would share it.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; choose cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported; choose cpu, cuda or cuda:N")
    return _cuda(device, name) if device.type == "cuda" else device


def _cuda(device: torch.device, name: str) -> torch.device:
    count, local_rank = torch.cuda.device_count(), distributed.local_rank()
    if local_rank is not None and device.index is not None:
        raise UserError(
            f"device {name!r} is a single device, and each rank requires its own; take device=cuda"
        )
    index = device.index or local_rank or 0
    if index >= count:
        missing = name if local_rank is None else f"cuda:{index}"
        raise UserError(
            f"device {missing!r} does not exist: torch finds {count} CUDA devices; take device=cpu"
        )
    return torch.device("cuda", index)


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Lets the C library keep memory that tensors free for the next ones, within a block.

    It keeps blocks of up to 32 MiB, 512 MiB in all. Memory that is returned to the system comes
    back page by page and zeroed, which costs up to a tenth of an update's time. Without glibc
    nothing happens. Blocks may be nested.

    The library does not report its thresholds. After the block they are those that it reaches by
    itself where tensors of 32 MiB are freed, its highest.
    """
    global _open_blocks
    _open_blocks += 1
    if _open_blocks == 1:
        _set_thresholds(512 << 20)
    try:
        yield
    finally:
        _open_blocks -= 1
        if not _open_blocks:
            _set_thresholds(64 << 20)
            if (libc := _libc()) is not None:
                libc.malloc_trim(0)


_open_blocks = 0  # blocks of ``keep_freed_memory`` that have begun and not ended


def _set_thresholds(trim: int) -> None:
    """Sets the number of free bytes that the heap keeps at its end; for blocks up to 32 MiB."""
    trim_threshold, mmap_threshold = -1, -3  # mallopt's names for them
    if (libc := _libc()) is not None:
        libc.mallopt(mmap_threshold, 32 << 20)
        libc.mallopt(trim_threshold, trim)


def _libc() -> ctypes.CDLL | None:
    """Returns glibc; None on systems without it."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if libc.mallopt and libc.malloc_trim else None
    except (OSError, AttributeError):
        return None


@contextmanager
def use_threads(number: int) -> Iterator[None]:
    """Sets the number of torch's threads on the CPU, within a block; 0 leaves it as it is."""
    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
