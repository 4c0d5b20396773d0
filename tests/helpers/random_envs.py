"""Environments that take their random numbers from different places. Worker processes import this
module, which loads no torch, in a fraction of a second."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from tests.helpers.tiny_env import Tiny


class Reseeds(Tiny):
    """Makes its generator in every reset, of no seed in all but the first."""

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.own = np.random.default_rng(seed)
        return super().reset(seed)

    def observe(self, agent: Any) -> Any:
        return self.own.random(2).astype(np.float32)

    def reward(self, agent: Any, action: Any) -> float:
        return float(self.own.random())


class Unseeded(Tiny):
    def observe(self, agent: Any) -> Any:
        return np.random.random(2).astype(np.float32)  # noqa: NPY002

    def reward(self, agent: Any, action: Any) -> float:
        return float(np.random.normal())  # noqa: NPY002


class Built(Tiny):
    """What it draws when it is made stays."""

    def __init__(self) -> None:
        super().__init__()
        self.level = np.random.random(2).astype(np.float32)  # noqa: NPY002

    def observe(self, agent: Any) -> Any:
        return self.level


class Pythons(Tiny):
    def reward(self, agent: Any, action: Any) -> float:
        return random.random()


class GoesOn(Tiny):
    """Keeps the generator of its first reset, as it should."""

    def observe(self, agent: Any) -> Any:
        return self.rng.random(2).astype(np.float32)
