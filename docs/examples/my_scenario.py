# marl train task=docs/examples/my_scenario.py:Scenario task.kwargs.agents=3 total_frames=5e4
"""A VMAS scenario: robots that are to surround a target, each at one metre from it."""

from typing import Any

import torch
from torch import Tensor
from vmas.simulator.core import Agent, Landmark, Sphere, World
from vmas.simulator.scenario import BaseScenario
from vmas.simulator.utils import Color


class Scenario(BaseScenario):
    def make_world(self, batch_dim: int, device: torch.device, **kwargs: Any) -> World:
        number = kwargs.pop("agents", 2)  # task.kwargs.agents
        world = World(batch_dim, device)
        self.target = Landmark("target", collide=False, color=Color.GREEN)
        world.add_landmark(self.target)
        for i in range(number):
            world.add_agent(Agent(f"robot_{i}", shape=Sphere(0.08), u_multiplier=0.5))
        return world

    def reset_world_at(self, env_index: int | None = None) -> None:
        """Places everything at random; for all copies at once where ``env_index`` is None."""
        rows = self.world.batch_dim if env_index is None else 1
        for entity in self.world.entities:
            place = torch.rand(rows, 2, device=self.world.device) * 4 - 2
            entity.set_pos(place if env_index is None else place[0], batch_index=env_index)

    def observation(self, agent: Agent) -> Tensor:
        """Returns velocity, and the target and the others as seen from the agent, [B, 2 + 2 N]."""
        others = [other for other in self.world.agents if other is not agent]
        relative = [e.state.pos - agent.state.pos for e in (self.target, *others)]
        return torch.cat([agent.state.vel, *relative], dim=-1)

    def reward(self, agent: Agent) -> Tensor:
        """Returns minus the distance to the circle, [B]."""
        return -(self.distance(agent) - 1).abs()

    def done(self) -> Tensor:
        """Returns whether all are on the circle, [B]: the end of an episode, beside its limit."""
        gaps = torch.stack([(self.distance(a) - 1).abs() for a in self.world.agents])
        return (gaps < 0.05).all(dim=0)

    def info(self, agent: Agent) -> dict[str, Tensor]:
        """Returns numbers that become metrics, summed over the episode."""
        return {"on_circle": ((self.distance(agent) - 1).abs() < 0.05).float()}

    def distance(self, agent: Agent) -> Tensor:
        return (agent.state.pos - self.target.state.pos).norm(dim=-1)
