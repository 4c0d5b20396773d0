# marl train task=./environment.py:meeting task.kwargs.agents=3
import numpy as np
import torch

from marl import AgentGroup, Continuous, GroupObservation, Observation, TensorSpec, Transition


class Meeting:
    """Agents on a line move towards each other: reward is minus the distance to their mean."""

    def __init__(self, agents: int, steps: int, num_envs: int, device: torch.device):
        names = tuple(f"agent_{i}" for i in range(agents))
        self.groups = {
            "agent": AgentGroup("agent", names, TensorSpec((2,)), Continuous((-1.0,), (1.0,)))
        }
        self.teams = {"team": ("agent",)}
        self.state_size = None  # no state beyond what the agents observe
        self.num_envs, self.device, self.steps = num_envs, torch.device(device), steps
        self.random = torch.Generator(self.device)
        self.place = self.draw()  # [B, N]
        self.time = torch.zeros(num_envs, dtype=torch.int64, device=self.device)  # [B]

    def draw(self):
        size = self.num_envs, len(self.groups["agent"].agents)
        return torch.rand(size, generator=self.random, device=self.device) * 2 - 1

    def observe(self, place):
        """Each agent's place and its way to the mean of all, [B, N, 2]."""
        way = place.mean(-1, keepdim=True) - place
        return Observation({"agent": GroupObservation(torch.stack([place, way], -1))})

    def reset(self, seed):
        self.random.manual_seed(seed)
        self.place, self.time = self.draw(), torch.zeros_like(self.time)
        return self.observe(self.place)

    def step(self, action):
        moved = (self.place + 0.1 * action["agent"][..., 0].clamp(-1, 1)).clamp(-1, 1)
        reward = -(moved - moved.mean(-1, keepdim=True)).abs()  # [B, N]
        done = self.time + 1 >= self.steps  # [B]
        next_obs = self.observe(moved)
        self.place = torch.where(done.unsqueeze(-1), self.draw(), moved)
        self.time = torch.where(done, 0, self.time + 1)
        per_agent = done.unsqueeze(-1).expand_as(reward)
        return Transition(
            obs=self.observe(self.place),  # to act on: a fresh episode where one is over
            next_obs=next_obs,
            reward={"agent": reward},
            terminated={"agent": torch.zeros_like(per_agent)},
            truncated={"agent": per_agent},
            done=done,
            info={},
        )

    def state_dict(self):
        return {"place": self.place, "time": self.time, "random": self.random.get_state()}

    def load_state_dict(self, state):
        self.place, self.time = state["place"].clone(), state["time"].clone()
        self.random.set_state(state["random"].cpu())

    def render(self, index=0):
        picture = np.full((64, 256, 3), 255, dtype=np.uint8)
        for place in self.place[index].tolist():
            centre = int((place + 1) / 2 * 239)
            picture[24:40, centre : centre + 16] = (40, 90, 160)
        return picture

    def close(self): ...


def meeting(agents: int = 2, steps: int = 25, *, num_envs: int, device: torch.device):
    return Meeting(agents, steps, num_envs, device)
