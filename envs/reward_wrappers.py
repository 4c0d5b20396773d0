"""Wrappers of rewards and metrics: scale, clip, shaping by a user's function, one metric more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from marl.env import VectorEnv
from marl.envs.checks import check_number
from marl.envs.native import Measures
from marl.envs.wrappers import Wrapper
from marl.errors import UserError
from marl.types import Observation, Transition, tree_map, tree_tensors, zero_absent
from marl.utils.serialization import import_path

Groups = Mapping[str, Tensor]  # group -> [B, N]


class RewardScale(Wrapper):
    """Multiplies rewards.

    Args:
        env: the environment within.
        scale: the factor, not 0; usual such that returns are between 1 and 100.
    """

    def __init__(self, env: VectorEnv, scale: float):
        super().__init__(env)
        check_number("reward_scale", scale, -1e30, 1e30)
        if not scale:
            raise UserError("reward_scale=0 leaves nothing to learn; expected another number")
        self.scale = float(scale)

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = self.env.step(action)
        return replace(transition, reward={g: r * self.scale for g, r in transition.reward.items()})


class RewardClip(Wrapper):
    """Clips the reward of each agent and step.

    Args:
        env: the environment within.
        low: the least reward.
        high: the largest reward, more than ``low``.
    """

    def __init__(self, env: VectorEnv, low: float, high: float):
        super().__init__(env)
        check_number("reward_clip: low", low)
        check_number("reward_clip: high", high)
        if not low < high:
            raise UserError(f"reward_clip=[{low}, {high}] must be [low, high] with low below high")
        self.low, self.high = float(low), float(high)

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = self.env.step(action)
        clipped = {g: r.clamp(self.low, self.high) for g, r in transition.reward.items()}
        return replace(transition, reward=clipped)


class RewardFunction(Wrapper):
    """Replaces rewards by what a function makes of them.

    Args:
        env: the environment within.
        function: ``module:function`` or the function. It takes the ``marl.Observation`` that agents
            acted on, the one that the step led to, and the rewards, ``[B, N]`` by group, and
            returns the new rewards.
    """

    def __init__(self, env: VectorEnv, function: str | Callable[..., Groups]):
        super().__init__(env)
        self.function, self.name = _loaded("reward_function", function)
        self.obs: Observation | None = None

    def reset(self, seed: int) -> Observation:
        self.obs = self.env.reset(seed)
        return self.obs

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = self.env.step(action)
        reward = self.function(self.obs, transition.next_obs, dict(transition.reward))
        reward = _by_group(self, f"reward_function {self.name}", reward)
        self.obs = transition.obs
        return replace(transition, reward=reward)

    def own_state(self) -> dict[str, Any]:
        return {"obs": tree_tensors(self.obs)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.obs is None:  # whose structure is not in the state
            self.reset(0)
        super().load_state_dict(state)

    def load_own_state(self, state: dict[str, Any]) -> None:
        saved = iter(state["obs"])
        self.obs = tree_map(lambda x: next(saved).to(x.device, copy=True), self.obs)


class RewardPotential(Wrapper):
    """Adds shaping from a potential, which leaves optimal policies as they are (Ng et al. 1999).

    The reward grows by ``gamma * potential(next_obs) - potential(obs)``. Absent agents, and agents
    after their termination, have the potential 0.

    Args:
        env: the environment within.
        potential: ``module:function`` or the function. It takes a ``marl.Observation`` and returns
            ``[B, N]`` by group.
        gamma: the algorithm's discount.
    """

    def __init__(self, env: VectorEnv, potential: str | Callable[..., Groups], gamma: float = 0.99):
        super().__init__(env)
        check_number("reward_potential: gamma", gamma, 0, 1)
        self.function, self.name = _loaded("reward_potential", potential)
        self.gamma, self.potential = float(gamma), {}

    def reset(self, seed: int) -> Observation:
        obs = self.env.reset(seed)
        self.potential = self._of(obs)
        return obs

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = self.env.step(action)
        after, before = self._of(transition.next_obs), self.potential
        shaped = {
            name: reward
            + self.gamma * after[name].masked_fill(transition.terminated[name], 0.0)
            - before[name]
            for name, reward in transition.reward.items()
        }
        same = transition.obs is transition.next_obs
        self.potential = after if same else self._of(transition.obs)
        return replace(transition, reward=shaped)

    def _of(self, obs: Observation) -> dict[str, Tensor]:
        values = _by_group(self, f"reward_potential {self.name}", self.function(obs))
        return {name: zero_absent(x, obs.groups[name].alive) for name, x in values.items()}

    def own_state(self) -> dict[str, Any]:
        return {"potential": dict(self.potential)}

    def load_own_state(self, state: dict[str, Any]) -> None:
        saved = state["potential"].items()
        self.potential = {name: x.to(self.device, copy=True) for name, x in saved}


class Metric(Wrapper):
    """Adds a metric to the episodes' ``info``.

    Args:
        env: the environment within.
        function: ``module:function`` or the function. It takes the ``marl.Transition`` of a step
            and returns a number for each copy, ``[B]``.
        name: the metric's name; by default the function's.
        over: what it is over the episode: ``sum``, ``mean`` or ``last`` of its steps' numbers.
    """

    def __init__(
        self,
        env: VectorEnv,
        function: str | Callable[[Transition], Tensor],
        name: str = "",
        over: str = "sum",
    ):
        super().__init__(env)
        if over not in ("sum", "mean", "last"):
            raise UserError(f"metric: over={over!r} must be sum, mean or last")
        self.function, function_name = _loaded("metric", function)
        self.name = name or function_name.rpartition(":")[2].rpartition(".")[2]
        self._measures = Measures({self.name: over}, self.device, torch.float32)
        self._restart()

    def _restart(self) -> None:
        self._totals = torch.zeros(self.num_envs, 1, device=self.device)
        self._steps = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)

    def reset(self, seed: int) -> Observation:
        self._restart()
        return self.env.reset(seed)

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = self.env.step(action)
        value = self.function(transition)
        if not isinstance(value, Tensor) or value.shape != (self.num_envs,):
            raise _wrong(f"metric {self.name}", value, f"a tensor [{self.num_envs}]")
        if self.name in transition.info:
            raise UserError(f"metric: the environment has a metric {self.name!r}; set name=…")
        totals, steps = self._measures.add(self._totals, [value]), self._steps + 1
        info = {**transition.info, **self._measures.by_name(totals, steps)}
        self._totals = totals.masked_fill(transition.done.unsqueeze(-1), 0.0)
        self._steps = steps.masked_fill(transition.done, 0)
        return replace(transition, info=info)

    def own_state(self) -> dict[str, Any]:
        return {"totals": self._totals, "steps": self._steps}

    def load_own_state(self, state: dict[str, Any]) -> None:
        self._totals = state["totals"].to(self.device, copy=True)
        self._steps = state["steps"].to(self.device, copy=True)


def _loaded(wrapper: str, function: Any) -> tuple[Callable[..., Any], str]:
    """Returns a function that may be an import path, and its name for errors."""
    value = import_path(function) if isinstance(function, str) else function
    if not callable(value):
        raise UserError(f"{wrapper}: {function!r} is no function; expected module:function")
    name = function if isinstance(function, str) else getattr(value, "__name__", repr(value))
    return value, name


def _by_group(env: Wrapper, what: str, values: Any) -> dict[str, Tensor]:
    """Returns what a user's function gave as ``[B, N]`` float32 by group.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(values, Mapping) or set(values) != set(env.groups):
        raise _wrong(what, values, f"a dict of the groups {', '.join(env.groups)}")
    for name, group in env.groups.items():
        shape = (env.num_envs, group.size)
        if not isinstance(values[name], Tensor) or tuple(values[name].shape) != shape:
            raise _wrong(what, values[name], f"a tensor {list(shape)} for group {name!r}")
    return {name: values[name].to(torch.float32) for name in env.groups}


def _wrong(what: str, value: object, expected: str) -> UserError:
    words = f"a {type(value).__name__}"
    if isinstance(value, Tensor):
        words = f"a tensor {list(value.shape)}"
    elif isinstance(value, Mapping):
        words = f"a dict of {', '.join(map(str, value)) or 'nothing'}"
    return UserError(f"{what} returned {words}; expected {expected}")
