"""Tiny environments that break a rule, or tell of something late. Without torch, for workers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from gymnasium import spaces

from tests.helpers.tiny_env import Tiny

NAN, INF = float("nan"), float("inf")


class Faulty(Tiny):
    """In step ``when`` of the copy seeded with ``where``, ``what`` of a_1 is ``value``."""

    where, state_value = 6, 0.0  # the last of four copies

    def __init__(self, what: str, value: float = NAN, when: int = 3) -> None:
        super().__init__()
        self.what, self.value, self.when = what, value, when

    def now(self, what: str, agent: Any = "a_1") -> bool:
        return (what, agent) == (self.what, "a_1") and self.mine and self.t == self.when

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.mine = seed == self.where if seed is not None else self.mine
        return super().reset(seed)

    def observe(self, agent: Any) -> Any:
        return np.array([0.0, self.value if self.now("observation", agent) else 0.0])

    def reward(self, agent: Any, action: Any) -> float:
        return self.value if self.now("reward", agent) else 1.0

    def state(self) -> np.ndarray:
        return np.array([self.value if self.now("state") else 0.0])

    def step(self, actions: dict) -> Any:
        *rest, infos = super().step(actions)
        return *rest, {**infos, "a_1": {"hits": self.value if self.now("info") else 1.0}}


class Silent(Tiny):
    """a_1 is truncated, and its last observation is not told."""

    def step(self, actions: dict) -> Any:
        observations, rewards, died, cut, infos = super().step(actions)
        self.agents = [a for a in self.agents if a != "a_1"]
        return {"a_0": observations["a_0"]}, rewards, died, {**cut, "a_1": True}, infos


class LateInfo(Tiny):
    """``won`` is told in an episode's last step only; by the copies of odd episodes only."""

    length, episode = 40, 0

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.episode = 0 if seed is not None else self.episode + 1
        return super().reset(seed)

    def step(self, actions: dict) -> Any:
        *rest, infos = super().step(actions)
        won = not self.agents and self.episode % 2 == 1
        return *rest, {a: {"won": 2.0, "steps": 1} if won else {"steps": 1} for a in infos}


class Blocked(Tiny):
    """From its third step on nothing is allowed."""

    def observation_space(self, agent: Any) -> spaces.Space:
        mask = spaces.MultiBinary(2)
        return spaces.Dict({"observation": super().observation_space(agent), "action_mask": mask})

    def observe(self, agent: Any) -> Any:
        allowed = np.full(2, self.t < 3, np.int8)
        return {"observation": np.zeros(2, np.float32), "action_mask": allowed}


class FourValues(Tiny):
    """Steps as environments of gym before 0.26 do."""

    def step(self, actions: dict) -> Any:
        observations, rewards, terminations, _, infos = super().step(actions)
        return observations, rewards, terminations, infos


class ListOfRewards(Tiny):
    """Pays by a list in the order of the agents."""

    def step(self, actions: dict) -> Any:
        observations, rewards, *others = super().step(actions)
        return observations, list(rewards.values()), *others


class Unpaid(Tiny):
    """Pays a_0 only."""

    def step(self, actions: dict) -> Any:
        observations, rewards, *others = super().step(actions)
        return observations, {"a_0": rewards["a_0"]}, *others


class Unseeded(Tiny):
    """Observes numbers of the process's ``random``, whatever the seed."""

    def observe(self, agent: Any) -> Any:
        return np.array([random.random(), 0.0], np.float32)


class GlobalNumpy(Tiny):
    """Observes numpy's global numbers, which are seeded for every copy."""

    def observe(self, agent: Any) -> Any:
        return np.random.uniform(-1, 1, 2).astype(np.float32)  # noqa: NPY002
