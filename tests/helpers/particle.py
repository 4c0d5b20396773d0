"""Particle worlds put into a state and played."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from marl.env import random_action
from marl.envs.particle.env import ParticleEnv
from marl.envs.particle.scenario import State
from marl.types import Transition


def placed(env: ParticleEnv, places: Any, chosen: list[int] | None = None) -> State:
    """All its worlds with the entities at rest at ``places [E, 2]``, and this drawn."""
    state = env.scenario.start(torch.zeros(env.num_envs, env.scenario.noise_size, dtype=env.dtype))
    position = torch.as_tensor(places, dtype=env.dtype).expand_as(state.position).clone()
    drawn = state.chosen if chosen is None else torch.tensor([chosen] * env.num_envs)
    return replace(state, position=position, chosen=drawn)


def random_steps(env: ParticleEnv, steps: int) -> list[Transition]:
    """Steps from where it is, always with the same random actions."""
    generator, found = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        seen = env.observe(env.state).groups
        action = {n: random_action(g, seen[n], generator) for n, g in env.groups.items()}
        found.append(env.step(action))
    return found


def played(env: ParticleEnv, steps: int) -> list[Tensor]:
    """The observations of such steps."""
    return [g.obs for step in random_steps(env, steps) for g in step.obs.groups.values()]
