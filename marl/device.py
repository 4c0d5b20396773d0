"""Which device a run is on, and how its process uses the machine."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from marl.errors import UserError


def find_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UserError: there is no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; choose cpu, cuda or cuda:N") from None
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(
            f"device {name!r} is not there: {count} CUDA devices found; take device=cpu"
        )
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported; choose cpu, cuda or cuda:N")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """``values`` beside ``like`` and of its type, made once, not to be written to: to copy numbers
    to a GPU the host waits until it has done all it was asked."""
    if torch.compiler.is_compiling():  # then it is part of the graph
        return like.new_tensor(values)
    return _kept(values, like.device, like.dtype)


@cache
def _kept(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, device=device, dtype=dtype)


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
