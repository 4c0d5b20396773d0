"""A tiny Gymnasium environment with tuples of agents, for tests."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Crossing(gymnasium.Env):
    """Agents earn random numbers plus their action, and end at random; those that ended earn on.

    Args:
        agents: number of agents.
        length: steps of an episode, after which all are truncated.
        rewards: ``list`` by agent, or one ``number``.
        flags: ends by agent (``each``), or one flag for ``all``.
        render_mode: of Gymnasium.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(
        self,
        agents: int = 3,
        length: int = 8,
        rewards: str = "list",
        flags: str = "each",
        render_mode: str | None = None,
    ):
        self.number, self.length, self.rewards, self.flags = agents, length, rewards, flags
        self.render_mode = render_mode
        box = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.observation_space = spaces.Tuple([box] * agents)
        self.action_space = spaces.Tuple([spaces.Discrete(3, start=1)] * agents)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time, self.ended = 0, np.zeros(self.number, bool)
        return self._observe(), {"speed": 0.0}

    def step(self, action: Any) -> Any:
        self.time += 1
        rewards = self.np_random.normal(size=self.number) + np.array(action)
        self.ended |= self.np_random.random(self.number) < 0.1
        over = self.time >= self.length
        ended: Any = tuple(self.ended.tolist())
        if self.flags == "all":
            ended = bool(self.ended.any())
        pay: Any = list(rewards) if self.rewards == "list" else float(rewards.mean())
        return self._observe(), pay, ended, over, {"speed": 2.0, "action_mask": [1, 0, 0]}

    def render(self) -> Any:
        return np.full((4, 6, 3), self.time, np.uint8)

    def _observe(self) -> Any:
        return tuple(np.array([self.time, self.np_random.random()]) for _ in range(self.number))


gymnasium.register("Crossing-v0", entry_point=f"{__name__}:Crossing", kwargs={"length": 5})
