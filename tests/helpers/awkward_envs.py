"""Environments as other people's packages have them. Worker processes import this module, which
loads no torch, in a fraction of a second."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.tiny_env import Tiny

NAMES: dict[str, list[Any]] = {
    "plain": ["a_0", "a_1"],
    "numbers": [0, 1],
    "places": [(0, 0), (0, 1)],
    "tuples": [("drone", 1), ("drone", 2)],
    "dots": ["drone.1", "drone.2"],
    "train": ["train_0", "train_1"],
    "forward": ["forward_0", "forward_1"],
}


class ForPeople(Tiny):
    """Draws for people only, and says so as Gymnasium's template does."""

    metadata = {"name": "for_people", "render_modes": ["human"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        assert render_mode is None or render_mode in self.metadata["render_modes"]
        super().__init__()


class Strict(Tiny):
    def __init__(self, **options: Any) -> None:
        if options:
            raise ValueError(f"unknown options {options}")
        super().__init__()


class Drawing(Tiny):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode

    def render(self) -> Any:
        return np.zeros((4, 4, 3), np.uint8) if self.render_mode == "rgb_array" else None


class Vectors(Tiny):
    """Pays for two objectives, as momaland's environments do."""

    late = 0

    def reward(self, agent: Any, action: Any) -> Any:
        pay = np.array([1.0, -1.0], np.float32)
        return pay if self.t > self.late else 0.0


class LateVectors(Vectors):
    length, late = 60, 40


class Named(Tiny):
    def __init__(self, names: str) -> None:
        super().__init__()
        self.possible_agents = list(NAMES[names])
