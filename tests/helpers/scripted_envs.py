"""Small PettingZoo environments for tests: one follows a script, one counts and can fail."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


@dataclass(frozen=True)
class Step:
    """What the environment answers once; the first of a script answers ``reset``."""

    obs: Mapping[str, Any]
    agents: Sequence[str] = ()  # who is left afterwards
    reward: Mapping[str, float] = field(default_factory=dict)
    terminated: Sequence[str] = ()
    truncated: Sequence[str] = ()
    also: Sequence[str] = ()  # whom it tells of besides those who acted or act next
    info: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Scripted(ParallelEnv[str, Any, Any]):
    """Follows ``script``, whose last step stays, and remembers the actions it was given."""

    metadata: dict[str, Any] = {"name": "scripted"}  # noqa: RUF012  # as in the base class

    def __init__(
        self,
        observes: Mapping[str, spaces.Space],
        acts: Mapping[str, spaces.Space],
        script: Sequence[Step],
    ) -> None:
        self.observes, self.acts, self.script = observes, acts, script
        self.possible_agents = list(observes)
        self.agents: list[str] = []
        self.taken: list[dict[str, Any]] = []
        self.seeds: list[int | None] = []

    def observation_space(self, agent: str) -> spaces.Space:
        return self.observes[agent]

    def action_space(self, agent: str) -> spaces.Space:
        return self.acts[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.seeds.append(seed)
        self.time = 0
        first = self.script[0]
        self.agents = list(first.agents)
        return dict(first.obs), {agent: dict(first.info.get(agent, {})) for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert self.agents, "an ended environment was stepped"
        assert set(actions) == set(self.agents), f"actions of {list(actions)} for {self.agents}"
        self.taken.append(actions)
        self.time += 1
        step, told = self.script[min(self.time, len(self.script) - 1)], [*self.agents]
        self.agents = list(step.agents)
        told += [agent for agent in (*self.agents, *step.also) if agent not in told]
        return (
            dict(step.obs),
            {agent: step.reward.get(agent, 0.0) for agent in told},
            {agent: agent in step.terminated for agent in told},
            {agent: agent in step.truncated for agent in told},
            {agent: dict(step.info.get(agent, {})) for agent in told},
        )


class Counting(ParallelEnv[str, Any, Any]):
    """Two agents see the time, their last action and a random number; agent_1 dies in step 3.

    ``fail`` happens in step ``when`` of the copy whose first seed was ``where``.
    """

    metadata: dict[str, Any] = {"name": "counting"}  # noqa: RUF012  # as in the base class

    def __init__(self, length: int = 5, fail: str = "", when: int = 2, where: int = 6) -> None:
        self.length, self.fail, self.when, self.where = length, fail, when, where
        self.possible_agents = ["agent_0", "agent_1"]
        self.agents: list[str] = []
        self.first_seed: int | None = None
        self.closed = False

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(4)

    def state(self) -> np.ndarray:
        return np.array([self.time, len(self.agents)])

    def render(self) -> Any:
        return np.full((4, 6, 3), self.time, dtype=np.uint8)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
            self.first_seed = seed
        self.time = 0
        self.agents = self.possible_agents[:]
        return self._observe(dict.fromkeys(self.agents, 0)), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        self.time += 1
        if self.fail and self.time == self.when and self.first_seed == self.where:
            _fail(self.fail)
        told, over = self.agents, self.time >= self.length
        obs = self._observe(actions)
        died = {agent: agent == "agent_1" and self.time == 3 for agent in told}
        self.agents = [] if over else [agent for agent in told if not died[agent]]
        rewards = {agent: float(self.time + actions[agent]) for agent in told}
        infos = {agent: {"rounds": 1, "random": float(self.rng.random())} for agent in told}
        return obs, rewards, died, dict.fromkeys(told, over), infos

    def _observe(self, actions: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {a: np.array([self.time, actions[a], self.rng.random()]) for a in self.agents}


def _fail(how: str) -> None:
    if how == "raise":
        raise ZeroDivisionError("the scripted failure")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        sys.exit("the scripted exit")
    if how == "leave":
        os._exit(3)
    if how == "torch":
        raise RuntimeError(f"imported: {'torch' in sys.modules}")
    if how == "hang":
        time.sleep(1000)
