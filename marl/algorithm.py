"""What an algorithm is, what it is built from, and what its team reads off a rollout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor

from marl.learning.replay import Replay
from marl.networks.base import Model
from marl.policies.base import Policy
from marl.types import AgentGroup, Carry, Metrics, Observation, PolicyStep, Rollout
from marl.utils.moved import old_names

if not TYPE_CHECKING:
    __getattr__ = old_names("marl.algorithm")


# Loads the policy of a team of an earlier run: (run directory or checkpoint file, name of the team
# or empty for the one of the same groups, context to play in) -> policy.
LoadPolicy: TypeAlias = "Callable[[Path, str, Context], Policy]"


@dataclass(frozen=True)
class Context:
    """What an algorithm is built from."""

    team: Mapping[str, AgentGroup]  # the groups that learn with it
    everyone: Mapping[str, AgentGroup]  # all groups of the environment
    state_size: int | None  # of Observation.state
    num_envs: int  # B
    steps: int  # T of a rollout
    iterations: int  # updates in the whole run, for schedules
    model: Model
    critic_model: Model
    policies: Mapping[str, Policy]  # every team's, by team; read-only
    generator: torch.Generator  # the algorithm's own random numbers, on the run's device
    replay: Replay | None = None  # the run's, where a team asks for it
    load_policy: LoadPolicy | None = None  # of an earlier run; see ``LoadPolicy``

    @property
    def device(self) -> torch.device:
        return self.generator.device


class Algorithm(Protocol):
    """Learns for a whole team: acts decentralized, updates from the joint rollout of all groups.

    One whose policy never changes says so by ``learns = False``: it has no best checkpoint, and
    self-play knows no past of it.
    """

    @property
    def policy(self) -> Policy: ...

    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep: ...

    def update(self, rollout: Rollout) -> Metrics:
        """Learns from the rollout. The metrics are scalars on the device."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class AlgorithmConfig(Protocol):
    """Hyperparameters: a dataclass whose fields the command line sets and checks.

    One with a class attribute ``needs_replay = True`` gets the run's replay, in ``Context.replay``,
    and learns from it even when its team played as it had been. One with a method
    ``first_update()`` tells the frames after which it begins to learn.
    """

    def policy(self, context: Context) -> Policy:
        """A policy alone, to load a checkpoint into and play."""
        ...

    def build(self, context: Context) -> Algorithm: ...
