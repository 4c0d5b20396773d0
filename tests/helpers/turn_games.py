"""Tiny turn-based (AEC) environments for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv


class Lottery(AECEnv):
    """In each turn everyone earns a random number plus the action; agents are out at random.

    An agent that is out keeps its place until its turn comes. After ``length`` turns the others are
    truncated. The allowed actions change from turn to turn.

    Args:
        masks: where masks are: in the ``observation``, in the ``info``, or ``none``.
        length: turns of an episode, at most.
        out: probability that a turn ends some agent.
    """

    metadata = {"name": "lottery_v0", "render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        render_mode: str | None = None,
        masks: str = "observation",
        length: int = 12,
        out: float = 0.2,
    ):
        self.masks, self.length, self.out = masks, length, out
        self.possible_agents = ["red_0", "blue_0", "blue_1"]
        self.rng = np.random.default_rng(0)
        box: spaces.Space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        if masks == "observation":
            mask = spaces.Box(0, 1, (4,), np.int8)
            box = spaces.Dict({"observation": box, "action_mask": mask})
        self.acts = {agent: spaces.Discrete(4, start=1) for agent in self.possible_agents}
        self.sees = dict.fromkeys(self.possible_agents, box)

    def observation_space(self, agent: Any) -> spaces.Space:
        return self.sees[agent]

    def action_space(self, agent: Any) -> spaces.Space:
        return self.acts[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self.time, self.number = 0, 0.0
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]
        self._draw()

    def observe(self, agent: Any) -> Any:
        place = self.possible_agents.index(agent)
        vector = np.array([self.time, place, self.number], np.float32)
        if self.masks != "observation":
            return vector
        mask = self.mask if agent == self.agent_selection else np.zeros(4, np.int8)
        return {"observation": vector, "action_mask": mask}

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)  # moves others that have ended to the front
            self._select_next(agent)
            return
        assert self.masks == "none" or self.mask[action - 1], "an action that is not allowed"
        self._cumulative_rewards[agent] = 0.0
        self.time += 1
        for other in self.agents:
            self.rewards[other] = float(self.rng.normal()) + (action if other == agent else 0)
        if self.rng.random() < self.out:
            self.terminations[str(self.rng.choice(self.agents))] = True
        if self.time >= self.length:
            self.truncations = {a: not self.terminations[a] for a in self.agents}
        self._accumulate_rewards()
        self._select_next(agent)

    def _select_next(self, agent: Any) -> None:
        """Selects the next agent in the fixed order that is left, whether or not it has ended."""
        place = self.possible_agents.index(agent)
        order = self.possible_agents[place + 1 :] + self.possible_agents[: place + 1]
        left = [other for other in order if other in self.agents]
        if left:
            self.agent_selection = left[0]
            self._draw()

    def _draw(self) -> None:
        """Draws the number that everyone sees, and the mask of the agent whose turn it is."""
        self.number = float(self.rng.normal())
        self.mask = (self.rng.random(4) < 0.5).astype(np.int8)
        self.mask[self.rng.integers(4)] = 1
        info: dict[str, Any] = {"turns": 1}
        if self.masks == "info":
            info["action_mask"] = self.mask
        self.infos[self.agent_selection] = info

    def render(self) -> Any:
        return np.full((4, 6, 3), self.time, np.uint8)

    def close(self) -> None:
        pass
