"""One seed to many: every use of random numbers has a stream of its own."""

from __future__ import annotations

import random
import zlib

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


def seed_everything(seed: int, *purpose: str | int) -> None:
    """Seeds the process's global random states: network initialisation, and environments that use
    them."""
    torch.manual_seed(derive(seed, "torch", *purpose))
    np.random.seed(derive(seed, "numpy", *purpose))  # noqa: NPY002  # third-party environments use it
    random.seed(derive(seed, "python", *purpose))
