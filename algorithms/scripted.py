"""Teams that do not learn: uniformly random, by a function, or frozen from a checkpoint."""

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
from marl.types import AgentGroup, Carry, Noise, Observation, PolicyStep
from marl.utils.serialization import REFERENCE, import_path
from marl.utils.user_files import absolute


@dataclass
class RandomConfig:
    """A team that acts at random, for baselines and as an opponent."""

    def policy(self, context: Context) -> Policy:
        return RandomPolicy(context.team)

    def build(self, context: Context) -> Scripted:
        return Scripted(self.policy(context), explore=True)


@dataclass
class ScriptedConfig:
    """A team that does what a function says: ``function(group, seen)``, of an AgentGroup and its
    GroupObservation, returns the actions ``[B, N]`` or ``[B, N, A]``."""

    function: str = ""  # module:name, or file.py:name

    def __post_init__(self) -> None:
        if not self.function:
            raise UserError("algorithm scripted needs function=module:name, which tells actions")
        self.function = absolute(self.function)

    def imports(self) -> list[str]:
        """Returns what of others' code it needs."""
        return [self.function]

    def policy(self, context: Context) -> Policy:
        function: Callable[..., Tensor] = import_path(self.function)
        if not callable(function):
            raise UserError(f"function={self.function} is no function, so it tells no actions")
        return FunctionPolicy(context.team, function)

    def build(self, context: Context) -> Scripted:
        return Scripted(self.policy(context), explore=None)


class FunctionPolicy(FixedPolicy):
    """Actions by a function, greedy or not.

    Raises:
        UserError: the function returns something else than actions.
    """

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
        seen = obs.groups[group.name]
        action = self.function(group, seen)
        expected = (len(seen.obs), group.size, *group.action.shape)
        found = getattr(action, "shape", type(action).__name__)
        if not isinstance(action, Tensor) or found != expected:
            raise UserError(
                f"the scripted actions of group {group.name!r} must be a tensor "
                f"{list(expected)}, not {found}"
            )
        return action.to(group.action.dtype)


@dataclass
class FrozenConfig:
    """A team with the policy of an earlier run, which does not learn any more."""

    # A run directory, or one of its checkpoint files.
    checkpoint: str = field(default="", metadata=REFERENCE)
    source: str = ""  # the team to take from that run; empty for the one with the same groups
    explore: bool = True  # whether it samples its actions while the others train

    def __post_init__(self) -> None:
        if not self.checkpoint:
            raise UserError(
                "algorithm frozen needs checkpoint=RUN, the directory of an earlier run"
            )
        self.checkpoint = str(Path(self.checkpoint).absolute())  # found again from anywhere

    def policy(self, context: Context) -> Policy:
        assert context.load_policy is not None, "a run's context loads policies"
        return context.load_policy(Path(self.checkpoint), self.source, context)

    def build(self, context: Context) -> Scripted:
        return Scripted(self.policy(context), explore=None if self.explore else False)
