"""One copy of a scripted environment behind the adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.spaces import Box, Discrete

from marl.envs.pettingzoo.env import PettingZooEnv
from tests.helpers.scripted_envs import Scripted, Step

UNIT = Box(-1, 1, (1,), np.float64)
AB = {"a_0": UNIT, "a_1": UNIT}


def scripted(
    script: Sequence[Step],
    observes: Mapping[str, spaces.Space],
    acts: Mapping[str, spaces.Space] | None = None,
    **kwargs: Any,
) -> PettingZooEnv:
    acts = acts or {agent: Discrete(3) for agent in observes}
    return PettingZooEnv(lambda: Scripted(observes, acts, script), 1, **kwargs)


def inner(env: PettingZooEnv) -> Any:
    return env._runner._envs[0]  # type: ignore[attr-defined]  # the one scripted copy


def play(env: PettingZooEnv, steps: int, value: float = 0) -> list[Any]:
    """Transitions under the same action always."""
    env.reset(0)
    action = {
        name: torch.full((1, group.size, *group.action.shape), value).to(group.action.dtype)
        for name, group in env.groups.items()
    }
    return [env.step(action) for _ in range(steps)]


def numbers(**values: float) -> dict[str, list[float]]:
    return {agent: [value] for agent, value in values.items()}
