"""Which device a run is on, and how its process uses the machine."""

from __future__ import annotations

import ctypes

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


def keep_freed_memory() -> None:
    """Lets the C library keep what tensors free (blocks up to 32 MiB, 512 MiB in all) for the next
    ones. Given back, it returns page by page, zeroed: up to a tenth of an update's time. Without
    glibc nothing happens."""
    trim_threshold, mmap_threshold = -1, -3  # mallopt's names for them
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 32 << 20)
    mallopt(trim_threshold, 512 << 20)
