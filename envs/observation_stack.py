"""Stacks of the last observations, for policies without memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from marl.env import VectorEnv
from marl.envs.checks import check_count
from marl.envs.wrappers import Wrapper
from marl.errors import UserError
from marl.types import GroupObservation, Observation, Transition
from marl.utils import stacking


class StackObservations(Wrapper):
    """Lets each agent observe its last K observations, the oldest first, along the last axis.

    At the beginning of an episode, and when an agent appears, the first observation stands in for
    those before it. At the end of an episode ``next_obs`` is the stack of the old one, and ``obs``
    that of the new one. A vector ``[O]`` becomes ``[K * O]``, an image ``[H, W, C]``
    ``[H, W, K * C]``. Action masks, the state and the graph stay those of the last step alone.

    Args:
        env: the environment within.
        count: K, at least 2; usual 2 to 8.

    Raises:
        UserError: a group observes no vector or image.
    """

    def __init__(self, env: VectorEnv, count: int):
        super().__init__(env)
        check_count("stack_observations", count, least=2)
        self.count = count
        for name, group in env.groups.items():
            if not group.observation.shape:
                raise UserError(
                    f"stack_observations: group {name!r} observes a single number without an axis; "
                    "expected vectors or images"
                )
        self.groups = {
            name: replace(group, observation=stacking.stacked(group.observation, count))
            for name, group in env.groups.items()
        }
        self._last: dict[str, GroupObservation] = {}  # stacks that the agents act on

    def reset(self, seed: int) -> Observation:
        obs = self.env.reset(seed)
        self._last = {n: stacking.repeated(g, self.count) for n, g in obs.groups.items()}
        return replace(obs, groups=self._last)

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition, last = self.env.step(action), self._last
        next_obs = self._pushed(last, transition.next_obs, torch.zeros_like(transition.done))
        same = transition.obs is transition.next_obs
        obs = next_obs if same else self._pushed(last, transition.obs, transition.done)
        self._last = dict(obs.groups)
        return replace(transition, obs=obs, next_obs=next_obs)

    def _pushed(
        self, last: Mapping[str, GroupObservation], obs: Observation, start: Tensor
    ) -> Observation:
        """Returns the stacks with one more observation; new ones where ``start [B]``."""
        groups = {n: stacking.push(last[n], group, start) for n, group in obs.groups.items()}
        return replace(obs, groups=groups)

    def own_state(self) -> dict[str, Any]:
        return {name: [group.obs, group.alive] for name, group in self._last.items()}

    def load_own_state(self, state: dict[str, Any]) -> None:
        def placed(x: Tensor | None) -> Any:
            return None if x is None else x.to(self.device, copy=True)

        self._last = {
            name: GroupObservation(placed(obs), alive=placed(alive))
            for name, (obs, alive) in state.items()
        }
