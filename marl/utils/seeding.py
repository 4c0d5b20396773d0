"""Seeds for independent streams of random numbers, all derived from the seed of the run."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """Returns a seed for one purpose, practically independent of those for other purposes.

    Args:
        seed: the seed of the run.
        *purpose: words and numbers that name the purpose.

    Returns:
        A seed below 2^31.
    """
    words = [zlib.crc32(str(word).encode()) for word in purpose]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0]) >> 1


def training_seed(seed: int, *purpose: str | int) -> int:
    """Returns the environments' seed for training, an even number; see ``derive``.

    Args:
        seed: the seed of the run.
        *purpose: words and numbers that name the purpose.
    """
    return derive(seed, "training", *purpose) & ~1


def evaluation_seed(seed: int, *purpose: str | int) -> int:
    """Returns the environments' seed for one evaluation; see ``derive``.

    It is odd, so that no environment is ever seeded as one of training's.

    Args:
        seed: the seed of the run.
        *purpose: words and numbers that name the purpose.
    """
    return derive(seed, "evaluation", *purpose) | 1


def generator(device: torch.device, seed: int, *purpose: str | int) -> torch.Generator:
    """Returns a random generator with the seed of ``derive``.

    Args:
        device: the device of the generator.
        seed: the seed of the run.
        *purpose: words and numbers that name the purpose.
    """
    return torch.Generator(device).manual_seed(derive(seed, *purpose))


# ---------------------------------------------------------------------------- global random states


def seed_everything(device: torch.device, seed: int, *purpose: str | int) -> None:
    """Seeds the global generators of torch (on the CPU and on ``device``), numpy and Python.

    Network initialisation and some environments draw from them.

    Args:
        device: the device of the run.
        seed: the seed of the run.
        *purpose: words and numbers as for ``derive``.
    """
    for random_source in (torch.default_generator, *_device_generators(device)):
        random_source.manual_seed(derive(seed, "torch", *purpose))
    np.random.seed(derive(seed, "numpy", *purpose))  # noqa: NPY002  # third-party environments use it
    random.seed(derive(seed, "python", *purpose))


def _device_generators(device: torch.device) -> list[torch.Generator]:
    if device.type != "cuda":
        return []
    torch.cuda.init()
    return [torch.cuda.default_generators[device.index or 0]]


def random_state(device: torch.device) -> dict[str, Any]:
    """Returns the states of all global generators, as tensors and plain values."""
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
    """Sets the states of all global generators.

    Args:
        state: what ``random_state`` returned, on any device.
        device: the device of the run.
    """
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


@contextmanager
def fork_random_state(device: torch.device) -> Iterator[None]:
    """Restores the states of all global generators after a block."""
    before = random_state(device)
    try:
        yield
    finally:
        set_random_state(before, device)
