"""One seed to many: every use of random numbers has a stream of its own."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A seed below 2^31 for ``purpose``, as good as independent of every other's."""
    words = [zlib.crc32(str(word).encode()) for word in purpose]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0]) >> 1


def training_seed(seed: int, *purpose: str | int) -> int:
    """The environments' seed for training: even."""
    return derive(seed, "training", *purpose) & ~1


def evaluation_seed(seed: int, *purpose: str | int) -> int:
    """The environments' seed for one evaluation: odd, so that no copy's seed is ever one of
    training's."""
    return derive(seed, "evaluation", *purpose) | 1


def generator(device: torch.device, seed: int, *purpose: str | int) -> torch.Generator:
    return torch.Generator(device).manual_seed(derive(seed, *purpose))


# ------------------------------------------------------------------------------ the process's own


def seed_everything(device: torch.device, seed: int, *purpose: str | int) -> None:
    """Seeds the process's global random states, torch's on the CPU and ``device``: network
    initialisation, and environments that use them."""
    for random_source in (torch.default_generator, *_of_device(device)):
        random_source.manual_seed(derive(seed, "torch", *purpose))
    np.random.seed(derive(seed, "numpy", *purpose))  # noqa: NPY002  # third-party environments use it
    random.seed(derive(seed, "python", *purpose))


def _of_device(device: torch.device) -> list[torch.Generator]:
    if device.type != "cuda":
        return []
    torch.cuda.init()
    return [torch.cuda.default_generators[device.index or 0]]


def random_state(device: torch.device) -> dict[str, Any]:
    """Returns the process's global random states, as tensors and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002  # others use it
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            gauss,
        ],
        "python": random.getstate(),
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


@contextmanager
def fork_random_state(device: torch.device) -> Iterator[None]:
    """Gives the global random states back after a block, as they were before it."""
    before = random_state(device)
    try:
        yield
    finally:
        set_random_state(before, device)
