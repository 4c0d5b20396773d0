"""Playing VMAS environments at random, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from marl.env import random_action
from marl.envs.vmas.env import VmasEnv
from marl.types import Observation, Transition, tree_tensors


def actions(env: VmasEnv, obs: Observation, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: random_action(group, obs.groups[name], generator)
        for name, group in env.groups.items()
    }


def raw_actions(env: VmasEnv, action: Mapping[str, Tensor]) -> list[Tensor]:
    """In VMAS's own order of agents."""
    by_agent = {
        agent: action[name][:, n].clone()
        for name, group in env.groups.items()
        for n, agent in enumerate(group.agents)
    }
    return [by_agent[agent.name] for agent in env._vmas.agents]


def play(env: VmasEnv, obs: Observation, steps: int) -> list[Transition]:
    transitions: list[Transition] = []
    for t in range(steps):
        transitions.append(env.step(actions(env, obs, seed=t)))
        obs = transitions[-1].obs
    return transitions


def assert_same(one: Any, other: Any, rows: Tensor | slice = slice(None)) -> None:
    pairs = zip(tree_tensors(one), tree_tensors(other), strict=True)
    assert all(torch.equal(a[rows], b[rows]) for a, b in pairs)
