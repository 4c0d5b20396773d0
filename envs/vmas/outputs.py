"""Checks of what a user's scenario returns, each with an error that names method and agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from marl.errors import UserError


class CheckedScenario:
    """A user's scenario whose outputs are checked in every step, by type and shape alone.

    Args:
        env: the ``vmas.simulator.environment.Environment`` of the scenario.
        name: its name, for errors.

    Raises:
        UserError: no policy steers an agent of its world.
    """

    def __init__(self, env: Any, name: str) -> None:
        self._scenario, self._name, self._num_envs = env.scenario, name, env.num_envs
        names = [agent.name for agent in env.agents]
        spaces = zip(names, env.observation_space, strict=True)
        self._shapes = {agent: list(_shapes(space)) for agent, space in spaces}
        if not names:
            raise UserError(
                f"the scenario {name} has no agents to steer; add vmas.simulator.core.Agent "
                "objects without action_script to the world in make_world"
            )

    def reward(self, agent: Any) -> Tensor:
        """Returns an agent's reward; raises UserError where it is not one number for each copy."""
        value = self._scenario.reward(agent)
        if not isinstance(value, Tensor) or value.numel() != self._num_envs:
            raise self._error(f"reward({agent.name})", value, f"a tensor [{self._num_envs}]")
        return value

    def observation(self, agent: Any) -> Any:
        """Returns an agent's observation; raises UserError where it is no tensor of all copies, or
        none of the shape of its first one."""
        value = self._scenario.observation(agent)
        parts, shapes = list(_leaves(value)), self._shapes[agent.name]
        call, size = f"observation({agent.name})", self._num_envs
        for part in parts:
            if not isinstance(part, Tensor) or part.dim() < 2 or len(part) != size:
                raise self._error(call, part, f"a tensor [{size}, numbers]")
        for part, shape in zip(parts, shapes, strict=False):
            if part.shape[1:] != shape or len(parts) != len(shapes):
                raise self._error(call, part, f"{[size, *shape]} as in its first one")
        return value

    def done(self) -> Tensor:
        """Returns where episodes end; raises UserError where it is not one flag for each copy."""
        value, shape = self._scenario.done(), (self._num_envs,)
        if not isinstance(value, Tensor) or value.shape != shape or value.dtype != torch.bool:
            raise self._error("done()", value, f"a tensor [{self._num_envs}] of bool")
        return value

    def info(self, agent: Any) -> dict[str, Any]:
        """Returns an agent's own numbers; raises UserError where they are not in a dict."""
        value = self._scenario.info(agent)
        if not isinstance(value, dict):
            raise self._error(f"info({agent.name})", value, "a dict of tensors by name")
        return value

    def _error(self, call: str, value: object, expected: str) -> UserError:
        what = f"a {type(value).__name__}"
        if isinstance(value, Tensor):
            what = f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
        return UserError(
            f"the scenario {self._name} returned {what} from {call}, expected {expected}: it steps "
            f"{self._num_envs} copies at once"
        )


def _leaves(value: Any) -> Iterator[Any]:
    """Yields the parts of an observation that may be a dict of dicts."""
    parts = value.values() if isinstance(value, Mapping) else ()
    yield from (leaf for part in parts for leaf in _leaves(part))
    if not isinstance(value, Mapping):
        yield value


def _shapes(space: Any) -> Iterator[tuple[int, ...]]:
    """Yields the shapes of the parts of an observation's space, of the old ``gym``."""
    if space.shape is not None:
        yield tuple(space.shape)
    else:
        yield from (shape for part in space.spaces.values() for shape in _shapes(part))
