# marl train task=docs/examples/my_parallel.py:corridor task.kwargs.length=7
import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

PLACES, MOVES = Box(0, 1, (2,), np.float32), Discrete(3)  # 0 stay, 1 left, 2 right


class Corridor(ParallelEnv):
    """Two walkers meet in a corridor: each earns minus their distance in every step."""

    def __init__(self, length, steps):
        self.length, self.steps = length, steps
        self.possible_agents = ["walker_0", "walker_1"]
        self.random = np.random.default_rng()

    def observation_space(self, agent):
        return PLACES  # its own place and the other's, from 0 to 1

    def action_space(self, agent):
        return MOVES

    def observe(self):
        places = (self.place / (self.length - 1)).astype(np.float32)
        return {"walker_0": places, "walker_1": places[::-1]}

    def reset(self, seed=None, options=None):
        if seed is not None:  # without one, the next episode of the same random numbers
            self.random = np.random.default_rng(seed)
        self.agents, self.time = list(self.possible_agents), 0
        self.place = self.random.integers(self.length, size=2)
        return self.observe(), {agent: {} for agent in self.agents}

    def step(self, actions):
        moves = np.array([(0, -1, 1)[actions[agent]] for agent in self.possible_agents])
        self.place = np.clip(self.place + moves, 0, self.length - 1)
        self.time += 1
        over = self.time >= self.steps
        distance = abs(int(self.place[0] - self.place[1]))
        metrics = {"distance": distance / self.steps, "met": float(over and distance == 0)}
        agents, self.agents = self.agents, [] if over else self.agents
        return (
            self.observe(),
            dict.fromkeys(agents, -float(distance)),
            dict.fromkeys(agents, False),  # terminations
            dict.fromkeys(agents, over),  # truncations
            dict.fromkeys(agents, metrics),
        )

    def render(self):
        picture = np.full((32, 32 * self.length, 3), 255, np.uint8)
        for place, colour in zip(self.place, [(200, 60, 60), (40, 90, 160)], strict=True):
            picture[8:24, 32 * place + 8 : 32 * place + 24] = colour
        return picture


def corridor(length: int = 9, steps: int = 20):
    return Corridor(length, steps)
