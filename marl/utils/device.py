"""Which device a run is on, and how its process uses the machine."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from marl.errors import UserError
from marl.utils import distributed


def find_device(name: str) -> torch.device:
    """The device of that name; ``cuda`` is each rank's own.

    Raises:
        UserError: there is no such device here, or several ranks would share it.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; choose cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported; choose cpu, cuda or cuda:N")
    return _cuda(device, name) if device.type == "cuda" else device


def _cuda(device: torch.device, name: str) -> torch.device:
    count, own = torch.cuda.device_count(), distributed.local()
    if own is not None and device.index is not None:
        raise UserError(f"device {name!r} is one, and each rank needs its own; take device=cuda")
    index = device.index or own or 0
    if index >= count:
        which = name if own is None else f"cuda:{index}"
        raise UserError(
            f"device {which!r} is not there: {count} CUDA devices found; take device=cpu"
        )
    return torch.device("cuda", index)


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Lets the C library keep what tensors free for the next ones, within a block: blocks up to 32
    MiB, 512 MiB in all. Given back, memory returns page by page, zeroed: up to a tenth of an
    update's time. Without glibc nothing happens. Blocks may be nested.

    The library cannot tell its thresholds. After the block they are those that it comes to by
    itself where tensors of 32 MiB are freed, its highest.
    """
    global _keepers
    _keepers += 1
    if _keepers == 1:
        _set_thresholds(512 << 20)
    try:
        yield
    finally:
        _keepers -= 1
        if not _keepers:
            _set_thresholds(64 << 20)
            if (libc := _libc()) is not None:
                libc.malloc_trim(0)


_keepers = 0  # blocks of ``keep_freed_memory`` that have begun and not ended


def _set_thresholds(trim: int) -> None:
    """Sets how many free bytes at its end the heap keeps; of blocks up to 32 MiB."""
    trim_threshold, mmap_threshold = -1, -3  # mallopt's names for them
    if (libc := _libc()) is not None:
        libc.mallopt(mmap_threshold, 32 << 20)
        libc.mallopt(trim_threshold, trim)


def _libc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if libc.mallopt and libc.malloc_trim else None
    except (OSError, AttributeError):
        return None


@contextmanager
def use_threads(number: int) -> Iterator[None]:
    """Sets torch's threads on the CPU, within a block; 0 leaves them as they are."""
    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
