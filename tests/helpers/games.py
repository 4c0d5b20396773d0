"""Playing games, and telling whether a sample has the mean it should."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from marl.envs.games.env import GameEnv


def joint(env: GameEnv, action: Tensor) -> dict[str, Tensor]:
    """``action [B, N]`` in the game's order, to the groups."""
    return {name: action[:, rows] for name, rows in env._rows.items()}


def everything(env: GameEnv) -> Tensor:
    """All joint actions, ``[prod of choices, N]``."""
    return torch.tensor(list(itertools.product(*map(range, env.game.choices))))


def play(
    env: GameEnv, policy: Callable[[GameEnv, int], Tensor], seed: int = 0
) -> tuple[Tensor, dict[str, Tensor]]:
    """One episode's returns ``[B, N]`` in the groups' order, and its measures."""
    env.reset(seed)
    steps = [env.step(joint(env, policy(env, step))) for step in range(env.max_steps)]
    assert steps[-1].done.all() and not any(step.done.any() for step in steps[:-1])
    rewards = [torch.cat(list(step.reward.values()), dim=1) for step in steps]
    return torch.stack(rewards).sum(0), dict(steps[-1].info)


def always(*actions: int) -> Callable[[GameEnv, int], Tensor]:
    return lambda env, _: torch.tensor([actions] * env.num_envs)


def close(found: Tensor, expected: float) -> bool:
    """Whether a sample's mean is within four standard errors."""
    error = found.float().std() / len(found) ** 0.5
    return abs(found.float().mean().item() - expected) <= 4 * error.item() + 1e-6


def chance(env: GameEnv, seed: int = 0) -> Callable[[GameEnv, int], Tensor]:
    """Everybody uniformly at random."""
    generator = torch.Generator().manual_seed(seed)
    shape = (env.num_envs, len(env.game.agents))
    return lambda env, _: torch.randint(env.game.choices[0], shape, generator=generator)
