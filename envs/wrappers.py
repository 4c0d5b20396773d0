"""Wrappers: environments around another one that change what goes in or comes out.

``task.wrappers`` puts them around a task's environment, the first of the list next to it.
``marl.envs.wrapping`` reads the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.env import VectorEnv
from marl.types import AgentGroup, Observation, Transition


class Wrapper:
    """An environment that passes everything on to the one within it.

    Subclass it and override what differs: ``reset`` and ``step``, and the attributes below. A
    wrapper with a state of its own returns it from ``own_state`` and takes it back by
    ``load_own_state``, so that a run resumes exactly.

    Args:
        env: the environment within.

    Attributes:
        env: the environment within.
        num_envs: B, the number of copies.
        device: of all tensors.
        groups: groups of agents, by name.
        teams: names of each team's groups.
        state_size: S of ``Observation.state``; None if there is no state.
    """

    def __init__(self, env: VectorEnv):
        self.env = env
        self.num_envs: int = env.num_envs
        self.device: torch.device = env.device
        self.groups: Mapping[str, AgentGroup] = env.groups
        self.teams: Mapping[str, tuple[str, ...]] = env.teams
        self.state_size: int | None = env.state_size

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # not set yet, as while it is copied
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self, seed: int) -> Observation:
        return self.env.reset(seed)

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        return self.env.step(action)

    def own_state(self) -> dict[str, Any]:
        """Returns what later steps depend on beside the state of the environment within: nested
        dicts and lists of tensors and plain values."""
        return {}

    def load_own_state(self, state: dict[str, Any]) -> None:
        """Restores what ``own_state`` returned, after a reset."""

    def state_dict(self) -> dict[str, Any] | None:
        """Returns the states of both; None if the environment within cannot save its own."""
        inner = self.env.state_dict()
        return None if inner is None else {"env": inner, "wrapper": self.own_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.env.load_state_dict(state["env"])
        self.load_own_state(state["wrapper"])

    def render(self, index: int = 0) -> np.ndarray:
        return self.env.render(index)

    def cannot_draw(self) -> str:
        """Returns why ``render`` gives no picture, ``""`` where it does or does not say."""
        return cannot_draw(self.env)

    def close(self) -> None:
        self.env.close()


def cannot_draw(env: VectorEnv) -> str:
    """Returns why an environment gives no picture, ``""`` where it does or does not say.

    The environment must be reset afterwards.
    """
    return env.cannot_draw() if hasattr(env, "cannot_draw") else ""  # type: ignore[attr-defined]


class RewardRecord(Wrapper):
    """Records the environment's own rewards, for ``OwnReward`` outside of other wrappers."""

    def __init__(self, env: VectorEnv):
        super().__init__(env)
        self.rewards: list[Mapping[str, Tensor]] = []

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = self.env.step(action)
        self.rewards.append({name: x.clone() for name, x in transition.reward.items()})
        return transition


class OwnReward(Wrapper):
    """Returns the environment's own rewards in place of the wrappers', for evaluations.

    Args:
        env: the wrappers, with ``record`` within them.
        record: next to the environment. Where a wrapper makes several steps of one, they add up.
    """

    def __init__(self, env: VectorEnv, record: RewardRecord):
        super().__init__(env)
        self._record = record
        sizes = [{n: g.size for n, g in e.groups.items()} for e in (env, record)]
        self._replaces = sizes[0] == sizes[1]  # else the rewards are of other agents

    def reset(self, seed: int) -> Observation:
        self._record.rewards.clear()
        return self.env.reset(seed)

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = self.env.step(action)
        first, *others = self._record.rewards
        self._record.rewards.clear()
        if not self._replaces:
            return transition
        reward = {name: sum((r[name] for r in others), first[name]) for name in first}
        return replace(transition, reward=reward)
