# pyright: basic, reportArgumentType=false, reportOptionalMemberAccess=false
# pyright: reportIncompatibleMethodOverride=false, reportReturnType=false
"""Scenarios of a user: VMAS's own as a subclass and within another object, and faulty ones."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor
from vmas.simulator.core import Agent, World
from vmas.simulator.scenario import BaseScenario

Navigation = importlib.import_module("vmas.scenarios").load("navigation.py").Scenario


class Subclass(Navigation):
    """Navigation, by inheritance."""


class Wrapper(BaseScenario):
    """Navigation, by delegation: nothing of its own but the scenario inside."""

    def __init__(self, scenario: BaseScenario) -> None:
        super().__init__()
        self.inner = scenario

    def make_world(self, batch_dim: int, device: torch.device, **kwargs: Any) -> World:
        self.inner.env_make_world(batch_dim, device, **kwargs)
        return self.inner.world

    def reset_world_at(self, env_index: int | None = None) -> None:
        self.inner.reset_world_at(env_index)

    def observation(self, agent: Agent) -> Tensor:
        return self.inner.observation(agent)

    def reward(self, agent: Agent) -> Tensor:
        return self.inner.reward(agent)

    def done(self) -> Tensor:
        return self.inner.done()

    def info(self, agent: Agent) -> dict[str, Tensor]:
        return self.inner.info(agent)

    def pre_step(self) -> None:
        self.inner.pre_step()


WRAPPED = Wrapper(Navigation())


class Tiny(BaseScenario):
    """Agents that are to stand at the origin."""

    def make_world(
        self, batch_dim: int, device: torch.device, speed: float = 1.0, **rest: Any
    ) -> World:
        world = World(batch_dim, device)
        for i in range(rest.pop("n_agents", 2)):
            world.add_agent(Agent(f"agent_{i}", collide=False, u_multiplier=speed))
        return world

    def reset_world_at(self, env_index: int | None = None) -> None:
        for agent in self.world.agents:
            agent.set_pos(torch.rand(self.world.batch_dim, 2) * 2 - 1, batch_index=env_index)

    def observation(self, agent: Agent) -> Any:
        return torch.cat([agent.state.pos, agent.state.vel], dim=-1)

    def reward(self, agent: Agent) -> Any:
        return -agent.state.pos.norm(dim=-1)


class HandsOn(Tiny):
    """Takes any argument, for it hands all of them on."""

    def make_world(self, batch_dim: int, device: torch.device, **kwargs: Any) -> World:
        self.options = dict(kwargs)
        return super().make_world(batch_dim, device)


class FloatReward(Tiny):
    def reward(self, agent: Agent) -> Any:
        return 1.0


class OneObservation(Tiny):
    def observation(self, agent: Agent) -> Any:
        return super().observation(agent)[0]


class GrowingObservation(Tiny):
    length = 0

    def observation(self, agent: Agent) -> Any:
        self.length += 1
        return torch.zeros(self.world.batch_dim, self.length)


class FloatEnds(Tiny):
    def done(self) -> Tensor:
        return torch.zeros(self.world.batch_dim)


class NoAgents(Tiny):
    def make_world(self, batch_dim: int, device: torch.device, **kwargs: Any) -> World:
        return World(batch_dim, device)


class Arguments(Tiny):
    def __init__(self, size: int) -> None:
        super().__init__()
