"""Teams that do not learn: uniformly random, scripted by a function, or frozen from a
checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from marl.algorithm import Context
from marl.errors import UserError
from marl.policies.base import Policy
from marl.policies.fixed import FixedPolicy, Scripted
from marl.policies.random import RandomPolicy
from marl.types import AgentGroup, Carry, GroupObservation, Noise, Observation, PolicyStep
from marl.utils.serialization import REFERENCE, import_path
from marl.utils.user_files import absolute


@dataclass
class RandomConfig:
    """A team that acts uniformly at random, as a baseline or an opponent."""

    def policy(self, context: Context) -> Policy:
        return RandomPolicy(context.team)

    def build(self, context: Context) -> Scripted:
        return Scripted(self.policy(context), explore=True)


@dataclass
class ScriptedConfig:
    """A team whose actions a function computes.

    ``function(group, observation)`` gets an AgentGroup and its GroupObservation (``obs`` is ``[B,
    N, *O]``), and returns the actions, ``[B, N]`` for Discrete and ``[B, N, A]`` for other actions.
    """

    #: The function, as ``package.module:name`` or ``folder/file.py:name``; required.
    function: str = ""

    def __post_init__(self) -> None:
        if not self.function:
            raise UserError(
                "algorithm scripted needs function=module:name (or file.py:name), "
                "which returns actions"
            )
        self.function = absolute(self.function)

    def imports(self) -> list[str]:
        """Returns the import paths of users' code that the team needs."""
        return [self.function]

    def policy(self, context: Context) -> Policy:
        function: Callable[..., Tensor] = import_path(self.function)
        if not callable(function):
            raise UserError(
                f"function={self.function} is no function but a {type(function).__name__}; "
                "name one that takes (group, observation) and returns actions"
            )
        return FunctionPolicy(context.team, function)

    def build(self, context: Context) -> Scripted:
        return Scripted(self.policy(context), explore=None)


def idle(group: AgentGroup, observation: GroupObservation) -> Tensor:
    """Returns actions of zero: no force, or the first of discrete choices.

    It is the function for ``teams.NAME.algorithm.function=marl.algorithms.scripted:idle``.
    """
    batch = observation.obs.shape[:2]
    return torch.zeros(
        *batch, *group.action.shape, dtype=group.action.dtype, device=observation.obs.device
    )


class FunctionPolicy(FixedPolicy):
    """Policy whose actions a function computes, the same with and without exploration.

    ``act`` raises UserError where the function returns something other than actions.

    Args:
        groups: the team's, by name.
        function: as in ``ScriptedConfig``.
    """

    #: A user's function may depend on what no program sees.
    pure = False

    def __init__(self, groups: Mapping[str, AgentGroup], function: Callable[..., Tensor]):
        super().__init__(groups)
        self.function = function

    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        return {}

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        action = {name: self._action(group, obs) for name, group in self.groups.items()}
        log_prob = {
            name: torch.zeros(len(start), group.size, device=start.device)
            for name, group in self.groups.items()
        }
        return PolicyStep(action, log_prob, {}, {name: {} for name in self.groups})

    def _action(self, group: AgentGroup, obs: Observation) -> Tensor:
        observation = obs.groups[group.name]
        action = self.function(group, observation)
        expected = (len(observation.obs), group.size, *group.action.shape)
        if not isinstance(action, Tensor) or action.shape != expected:
            result = list(action.shape) if isinstance(action, Tensor) else type(action).__name__
            raise UserError(
                f"the scripted actions of group {group.name!r} must be a tensor "
                f"{list(expected)}, not {result}"
            )
        return action.to(group.action.dtype)


@dataclass
class FrozenConfig:
    """A team with the policy of an earlier run, which does not learn any further."""

    #: Directory of the earlier run, one of its checkpoint files, or a name of the zoo
    #: (``zoo:mpe/spread/mappo``); required.
    checkpoint: str = field(default="", metadata=REFERENCE)
    #: Team of that run whose policy it plays; empty for the one with the same groups.
    source: str = ""
    #: Whether it samples its actions while the others train; greedy if not.
    explore: bool = True

    def __post_init__(self) -> None:
        if not self.checkpoint:
            raise UserError(
                "algorithm frozen needs checkpoint=RUN, the directory of an earlier run or one of "
                "its checkpoint files"
            )
        if not self.checkpoint.startswith("zoo:"):
            self.checkpoint = str(Path(self.checkpoint).absolute())  # valid in every directory

    def policy(self, context: Context) -> Policy:
        assert context.load_policy is not None, "a run's context loads policies"
        return context.load_policy(Path(self.checkpoint), self.source, context)

    def build(self, context: Context) -> Scripted:
        return Scripted(self.policy(context), explore=None if self.explore else False)
