"""The tiny environments by name: ``task=tests.helpers.toy_envs:identity`` on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from marl.env import random_action
from marl.errors import WorkerError
from marl.types import (
    ActionSpec,
    Continuous,
    Discrete,
    EntityGraph,
    EntitySpec,
    MultiDiscrete,
    Observation,
    Transition,
    tree_map,
)
from tests.helpers.toy_game import Game, Rules

PAIR: dict[str, tuple[int, ActionSpec]] = {"left": (2, Discrete(3)), "right": (1, Discrete(4))}
BOX = Continuous((-1.0, -2.0), (1.0, 3.0))


def identity(num_envs: int, device: torch.device, **rules: Any) -> Game:
    """Two groups of different sizes, one team."""
    return Game(num_envs, device, PAIR, Rules(**rules))


def rivals(num_envs: int, device: torch.device, **rules: Any) -> Game:
    """The same two groups as two teams."""
    return Game(num_envs, device, PAIR, Rules(**rules), {"left": ("left",), "right": ("right",)})


def mortal(num_envs: int, device: torch.device) -> Game:
    """Agents die, and reach limits of their own, while others go on."""
    return Game(num_envs, device, PAIR, Rules(death=0.15, limit=0.1, masked=True))


def images(num_envs: int, device: torch.device) -> Game:
    return Game(num_envs, device, {"eyes": (2, Discrete(3))}, Rules(images=True))


def multidiscrete(num_envs: int, device: torch.device) -> Game:
    return Game(num_envs, device, {"hands": (2, MultiDiscrete((2, 3)))}, Rules(masked=True))


def continuous(num_envs: int, device: torch.device, **rules: Any) -> Game:
    return Game(num_envs, device, {"arms": (2, BOX)}, Rules(**rules))


def stateful(num_envs: int, device: torch.device) -> Game:
    return Game(num_envs, device, PAIR, Rules(state=True))


class Pointed(Game):
    """Agents see nothing, but each has a thing beside it, and the code is on which side. Others
    and their things are beyond the radius."""

    def __init__(self, num_envs: int, device: torch.device, **rules: Any):
        super().__init__(num_envs, device, {"team": (3, Discrete(4))}, Rules(**rules))
        spec = EntitySpec(space=2, kinds=2)
        self.groups = {n: replace(g, entities=spec) for n, g in self.groups.items()}

    def _observe(self) -> Observation:
        seen = super()._observe().groups["team"]
        sides = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        agents = torch.stack([10.0 * torch.arange(3), torch.zeros(3)], dim=-1)
        agents = agents.expand(self.num_envs, 3, 2)
        position = torch.cat([agents, agents + sides[self.now["team"]["code"]]], dim=1)
        graph = EntityGraph(
            position=position,
            velocity=torch.zeros_like(position),
            goal=position,
            kind=torch.tensor([0] * 3 + [1] * 3).expand(self.num_envs, 6),
            mask=torch.ones(self.num_envs, 6, dtype=torch.bool),
            ego=(("team", range(3)),),
            radius=1.5,
        )
        return Observation({"team": replace(seen, obs=torch.zeros_like(seen.obs))}, graph=graph)


def crowd(
    num_envs: int,
    device: torch.device,
    agents: int = 2,
    name: str = "agent",
    choices: int = 3,
    **rules: Any,
) -> Game:
    """One group, whose number of agents changes no observation."""
    return Game(num_envs, device, {name: (agents, Discrete(choices))}, Rules(**rules))


def single(num_envs: int, device: torch.device) -> Game:
    """One agent alone."""
    return Game(num_envs, device, {"one": (1, Discrete(3))}, Rules())


def memory(num_envs: int, device: torch.device) -> Game:
    """The first observation must be remembered."""
    return Game(num_envs, device, {"elephant": (2, Discrete(3))}, Rules(end=0.0, memory=True))


class Winning(Game):
    """Its metric ``won`` is 2 in every episode."""

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = super().step(action)
        return replace(transition, info={"won": torch.full((self.num_envs,), 2.0)})


def winning(num_envs: int, device: torch.device, **rules: Any) -> Game:
    """One group, and a metric."""
    return Winning(num_envs, device, {"agent": (2, Discrete(3))}, Rules(**rules))


class Matrix(Game):
    """Two agents, one payoff: what they play together, ``payoff[a, b]``, for both."""

    payoff = torch.tensor([[0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]])

    def _reward(self, name: str, action: Tensor) -> Tensor:
        return self.payoff[action[:, :1], action[:, 1:]].expand_as(action)


def matrix(num_envs: int, device: torch.device) -> Game:
    """Its observations tell nothing of use."""
    return Matrix(num_envs, device, {"pair": (2, Discrete(3))}, Rules(end=0.0))


class Failing(Game):
    """Its step ``when`` fails as a worker's process would."""

    when = 25

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        self.when -= 1
        if self.when < 0:
            raise WorkerError("the process of copy 0 died")
        return super().step(action)


class Poisoned(Game):
    """From step ``when`` on its rewards are not numbers."""

    when = 25

    def _reward(self, name: str, action: Tensor) -> Tensor:
        self.when -= name == "left"
        return super()._reward(name, action) * (torch.nan if self.when < 0 else 1.0)


class LateMetric(Game):
    """From its second reset on ``won`` is told too, and is 2."""

    resets = -1  # the first is the constructor's

    def reset(self, seed: int) -> Observation:
        self.resets += 1
        return super().reset(seed)

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        made = super().step(action)
        won = {"won": torch.full_like(made.info["length"], 2.0)} if self.resets > 1 else {}
        return replace(made, info={**made.info, **won})


def late_metric(num_envs: int, device: torch.device) -> LateMetric:
    return LateMetric(num_envs, device, PAIR, Rules())


def failing(num_envs: int, device: torch.device) -> Game:
    return Failing(num_envs, device, PAIR, Rules())


def poisoned(num_envs: int, device: torch.device) -> Game:
    return Poisoned(num_envs, device, PAIR, Rules())


KINDS = {
    "identity": identity,
    "rivals": rivals,
    "mortal": mortal,
    "images": images,
    "multidiscrete": multidiscrete,
    "continuous": continuous,
    "stateful": stateful,
    "memory": memory,
    "single": single,
    "matrix": matrix,
}


def random_actions(env: Game, obs: Observation, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: random_action(g, obs.groups[n], generator) for n, g in env.groups.items()}


def stack(observations: list[Observation]) -> Observation:
    """``[T]`` observations as one ``[T, ...]``."""
    first, *rest = observations
    return tree_map(lambda *parts: torch.stack(parts), first, *rest)
