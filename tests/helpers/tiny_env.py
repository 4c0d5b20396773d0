"""A tiny parallel environment that tests change in one respect each."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Tiny(ParallelEnv):
    """Agents ``names`` choose 0 or 1 for ``length`` steps, see zeros and are paid for each 1."""

    metadata = {"name": "tiny"}  # noqa: RUF012  # as PettingZoo declares it
    names = ("a_0", "a_1")
    length = 5

    def __init__(self) -> None:
        self.possible_agents: list[Any] = list(self.names)
        self.agents: list[Any] = []
        self.rng = np.random.default_rng(0)

    def observation_space(self, agent: Any) -> spaces.Space:
        return spaces.Box(-1, 1, (2,), np.float32)

    def action_space(self, agent: Any) -> spaces.Space:
        return spaces.Discrete(2)

    def observe(self, agent: Any) -> Any:
        return np.zeros(2, np.float32)

    def reward(self, agent: Any, action: Any) -> float:
        return float(action == 1) if np.ndim(action) == 0 else 0.0

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.t = 0
        self.agents = list(self.possible_agents)
        return {a: self.observe(a) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions: dict) -> Any:
        """Everyone is truncated after ``length`` steps."""
        self.t += 1
        over, acted = self.t >= self.length, list(self.agents)
        observations = {a: self.observe(a) for a in acted}
        rewards = {a: self.reward(a, actions[a]) for a in acted}
        if over:
            self.agents = []
        ended = dict.fromkeys(acted, False), dict.fromkeys(acted, over)
        return observations, rewards, *ended, {a: {} for a in acted}


class Once(Tiny):
    """A reward in the midst of a run is no number, once; with ``at`` 0 the simulator is mended."""

    count, at = 0, 150

    def reward(self, agent: Any, action: Any) -> float:
        Once.count += 1
        return float("nan") if Once.count == Once.at else super().reward(agent, action)


class Staggered(Tiny):
    """Agents see who they are, and each is truncated after a time of its own; each step pays 1."""

    limits = {"a_0": 20, "a_1": 5}  # noqa: RUF012  # as a plain class attribute of a test

    def observe(self, agent: Any) -> Any:
        return np.eye(2, dtype=np.float32)[self.possible_agents.index(agent)]

    def step(self, actions: dict) -> Any:
        self.t += 1
        acted = list(self.agents)
        out = {a: self.t >= self.limits[a] for a in acted}
        self.agents = [a for a in acted if not out[a]]
        observations = {a: self.observe(a) for a in acted}
        pay, never = dict.fromkeys(acted, 1.0), dict.fromkeys(acted, False)
        return observations, pay, never, out, {a: {} for a in acted}


class LateInfo(Tiny):
    """``won`` stands in the infos of an episode's last step only, beyond where a probe looks."""

    length = 35

    def step(self, actions: dict) -> Any:
        *rest, infos = super().step(actions)
        return *rest, infos if self.agents else {a: {"won": 2.0} for a in infos}


class Sacrifice(Tiny):
    """a_0 may give itself up in the first of three steps. In the end all are paid, the dead too:
    1 each if it did, else 0.6."""

    length = 3

    def observe(self, agent: Any) -> Any:
        return np.array([self.t == 0, agent == "a_0"], np.float32)

    def step(self, actions: dict) -> Any:
        self.t += 1
        if self.t == 1:
            self.gone = actions["a_0"] == 1
        told, over = list(self.agents), self.t >= self.length
        dead = {"a_0": bool(self.gone), "a_1": False}
        self.agents = [] if over else [a for a in told if not dead[a]]
        everyone = self.possible_agents
        pay = (1.0 if self.gone else 0.6) if over else 0.0
        ended = {a: dead[a] or over for a in everyone}
        rewards, never = dict.fromkeys(everyone, pay), dict.fromkeys(everyone, False)
        return {a: self.observe(a) for a in told}, rewards, ended, never, {a: {} for a in everyone}
