# marl train task=./my_pure.py:meeting execution=compiled
import torch

from marl import Transition
from marl.templates.project.environment import Meeting


class PureMeeting(Meeting):
    """The meeting of ``marl new``, with a pure step: rollouts can be compiled and captured."""

    @property
    def pure_state(self):
        return self.place, self.time

    @pure_state.setter
    def pure_state(self, state):
        self.place, self.time = state

    def draw_ahead(self, steps):
        return torch.stack([self.draw() for _ in range(steps)])  # beginnings, [T, B, N]

    def pure_step(self, state, action, fresh):
        place, time = state
        moved = (place + 0.1 * action["agent"][..., 0].clamp(-1, 1)).clamp(-1, 1)
        reward = -(moved - moved.mean(-1, keepdim=True)).abs()
        done = time + 1 >= self.steps
        place = torch.where(done.unsqueeze(-1), fresh, moved)
        time = torch.where(done, 0, time + 1)
        per_agent = done.unsqueeze(-1).expand_as(reward)
        transition = Transition(
            obs=self.observe(place),
            next_obs=self.observe(moved),
            reward={"agent": reward},
            terminated={"agent": torch.zeros_like(per_agent)},
            truncated={"agent": per_agent},
            done=done,
            info={},
        )
        return (place, time), transition

    def step(self, action):
        self.pure_state, transition = self.pure_step(self.pure_state, action, self.draw())
        return transition


def meeting(agents: int = 2, steps: int = 25, *, num_envs: int, device: torch.device):
    return PureMeeting(agents, steps, num_envs, device)
