# marl train task=docs/examples/my_turns.py:Nim task.kwargs.heap=10 teams.red.algorithm=random
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import AECEnv


class Nim(AECEnv):
    """Two players take one to three matches in turn; who takes the last one wins."""

    metadata = {"name": "nim_v0"}  # noqa: RUF012  # as PettingZoo declares it

    def __init__(self, heap: int = 10):
        self.heap = heap
        self.possible_agents = ["blue_0", "red_0"]
        self.heaps = Dict(
            {
                "observation": Box(0, 1, (heap + 1,), np.float32),
                "action_mask": Box(0, 1, (3,), np.int8),
            }
        )
        self.moves = Discrete(3, start=1)  # matches to take

    def observation_space(self, agent):
        return self.heaps

    def action_space(self, agent):
        return self.moves

    def reset(self, seed=None, options=None):
        self.agents = self.possible_agents[:]
        self.left = self.heap
        self.rewards = dict.fromkeys(self.agents, 0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]

    def observe(self, agent):
        heap = np.eye(self.heap + 1, dtype=np.float32)[self.left]
        mask = np.arange(1, 4) <= self.left
        return {"observation": heap, "action_mask": mask.astype(np.int8)}

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent]:
            return self._was_dead_step(action)
        other = self.agents[1 - self.agents.index(agent)]
        self._cumulative_rewards[agent] = 0  # paid, before this turn
        self.left -= action
        if self.left == 0:
            self.rewards = {agent: 1, other: -1}
            self.terminations = dict.fromkeys(self.agents, True)
        self._accumulate_rewards()
        self.agent_selection = other
