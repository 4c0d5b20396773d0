"""Algorithms and collectors over the toys, set up as experiments do it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Algorithm, Context
from marl.algorithms.mappo import MAPPO, MAPPOConfig
from marl.algorithms.scripted import RandomConfig
from marl.networks.perceptron import Perceptron
from marl.policies.fixed import Scripted
from marl.training.collector import Collector
from marl.types import AgentGroup, Rollout
from tests.helpers.toy_envs import KINDS, Game

CPU = torch.device("cpu")
# Small networks, fit for the toys' images too.
SMALL: dict[str, Any] = {
    "hidden": [8], "channels": [4], "kernels": [4], "strides": [2],
}  # fmt: skip


def context(
    env: Game,
    model: Perceptron | None = None,
    steps: int = 10,
    team: dict[str, AgentGroup] | None = None,
    iterations: int = 10,
) -> Context:
    """What an algorithm for ``team`` (by default all groups) of ``env`` is built from."""
    model = model or Perceptron(**SMALL)
    team = team or dict(env.groups)
    return Context(
        team, env.groups, env.state_size, env.num_envs, steps, iterations, model, model, {},
        torch.Generator().manual_seed(0),
    )  # fmt: skip


def mappo(
    kind: str,
    model: Perceptron | None = None,
    envs: int = 4,
    steps: int = 10,
    iterations: int = 10,
    **config: Any,
) -> MAPPO:
    """MAPPO over a toy; the same arguments give the same weights."""
    torch.manual_seed(0)
    chosen = context(KINDS[kind](envs, CPU), model, steps, iterations=iterations)
    return MAPPOConfig(**{"chunk_length": 5 if steps % 5 == 0 else 4, **config}).build(chosen)


def collector(kind: str, algorithm: Algorithm, envs: int = 4, steps: int = 10) -> Collector:
    env = KINDS[kind](envs, CPU)
    return Collector(env, {"team": algorithm}, steps, 2, torch.Generator().manual_seed(1))


def rollout_of(kind: str, algorithm: Algorithm, envs: int = 4, steps: int = 10) -> Rollout:
    return collector(kind, algorithm, envs, steps).collect()[0]


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def randomly(env: Game) -> dict[str, Scripted]:
    """One team of all groups that acts at random."""
    return {"team": RandomConfig().build(context(env))}
