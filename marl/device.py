"""Which device a run is on."""

from __future__ import annotations

import torch

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
