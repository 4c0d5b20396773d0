"""The protocol of algorithms and of their configurations, and what an algorithm is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor

from marl.learning.replay import Replay
from marl.networks.base import Model
from marl.policies.base import Policy
from marl.types import AgentGroup, Carry, Metrics, Noise, Observation, PolicyStep, Rollout
from marl.utils.moved import old_names

if not TYPE_CHECKING:
    __getattr__ = old_names("marl.algorithm")


#: Loads the policy of a team of an earlier run. It takes a run directory or checkpoint file, the
#: name of the team (empty for the team of the same groups), and the context to play in.
LoadPolicy: TypeAlias = "Callable[[Path, str, Context], Policy]"


@dataclass(frozen=True)
class Context:
    """What an algorithm is built from."""

    #: The groups that learn together, by name.
    team: Mapping[str, AgentGroup]
    #: All groups of the environment, by name.
    everyone: Mapping[str, AgentGroup]
    #: S of ``Observation.state``; None in environments without a state.
    state_size: int | None
    #: B, the number of environments.
    num_envs: int
    #: T, the steps of a rollout.
    steps: int
    #: Number of updates in the whole run, for schedules.
    iterations: int
    #: Hyperparameters of the policies' networks.
    model: Model
    #: Hyperparameters of the critics' networks.
    critic_model: Model
    #: The policies of all teams by team, to be read only.
    policies: Mapping[str, Policy]
    #: The algorithm's random numbers, on the run's device.
    generator: torch.Generator
    #: The run's replay, if the configuration has ``needs_replay``.
    replay: Replay | None = None
    #: Loads policies of earlier runs; None where that is not possible.
    load_policy: LoadPolicy | None = None
    #: How steps of learning run (``marl.utils.programs.learning_step``).
    execution: str = "eager"

    @property
    def device(self) -> torch.device:
        """Device of the run."""
        return self.generator.device


class Algorithm(Protocol):
    """Learns for a team: acts decentralized, and updates from the joint rollout of all groups.

    An algorithm whose policy never changes has the attribute ``learns = False``. It gets no best
    checkpoint, and self-play stores no past policies of it. A method ``unread_settings()`` may
    return the reason why nothing reads some settings of the run, by their names.
    """

    @property
    def policy(self) -> Policy:
        """The policy that acts, which is saved for evaluation."""
        ...

    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        """Chooses the team's actions of one step, without gradient.

        Args:
            obs: the observations of all groups of the environment, ``[B, N, *shape]`` each.
            carry: the memories before the step, ``[B, N, H]`` by group; at first
                ``policy.initial_carry(B)``, then ``carry`` of the step before. Those of other teams
                are ignored.
            start: ``[B]`` bool, True where the step is the first of an episode; memories are set to
                zero there.
            generator: the generator to sample with, on the device of ``obs``.
            explore: True to sample actions, as in training; False for greedy ones, as in
                evaluation.

        Returns:
            The team's groups only: actions ``[B, N, *action shape]``, log-probabilities ``[B, N]``,
            the memories after the step, and the tensors that ``Policy.evaluate`` needs beside the
            actions.
        """
        ...

    def update(self, rollout: Rollout) -> Metrics:
        """Learns from a rollout of all groups.

        Args:
            rollout: T steps of B environments, in which the team's groups acted by ``act``. Its
                tensors are reused by the next rollout: copy what is to stay.

        Returns:
            Named scalars on the device, which are logged as ``<name>/<team>``.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the next update depends on, for checkpoints."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Loads what ``state_dict`` returned."""
        ...


class PureActor(Algorithm, Protocol):
    """An algorithm whose acting in training is a pure function, of which programs are made.

    Its ``act`` with exploration returns ``decide`` of ``acting_noise``.
    """

    def acting_noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        """Draws the random numbers of one step's actions.

        Args:
            num_envs: B, the number of environments.
            generator: the generator to draw from.

        Returns:
            Tensors by name, always of the same shapes within a rollout.
        """
        ...

    def decide(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise) -> PolicyStep:
        """Chooses the team's actions of one step; arguments and result as of ``act``.

        It may depend on weights, which programs read where they are now, but neither change
        anything, nor depend on the values of tensors in Python.
        """
        ...


class StackedAlgorithm(Protocol):
    """What several seeds of one algorithm learn by in one process, each as it would alone.

    The seeds' algorithms stay what they were: their weights, moments and random numbers move with
    every update, so that each of them is saved, loaded and played by itself.
    """

    def decide(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise) -> PolicyStep:
        """Chooses the actions of one step as ``PureActor.decide``, in environments side by side.

        All tensors are ``[S * B, ...]``: B copies of the environment of each of S seeds.
        """
        ...

    def update(self, rollout: Rollout, iteration: int) -> list[Metrics]:
        """Learns from the rollouts of all seeds.

        Args:
            rollout: ``[S, T, B, ...]``, and memories ``[S, B, ...]``.
            iteration: number of updates before, for schedules.

        Returns:
            Each seed's metrics, as of ``Algorithm.update``.
        """
        ...


class Stackable(PureActor, Protocol):
    """An algorithm of which several seeds learn in one process (``stacked_seeds``)."""

    @staticmethod
    def stack(seeds: Sequence[Any]) -> StackedAlgorithm:
        """Returns what the seeds learn by.

        Args:
            seeds: the algorithms, built of the same configuration with different seeds.

        Raises:
            UserError: a setting has no meaning for several seeds in step.
        """
        ...


def is_stackable(team: Algorithm) -> bool:
    """Returns whether an algorithm is ``Stackable``, and learns as its class with ``stack``."""
    for cls in type(team).__mro__:
        if "stack" in vars(cls):
            return is_pure_actor(team)
        if {"update", "loss", "prepare"} & vars(cls).keys():
            break
    return False


def is_pure_actor(team: Algorithm) -> bool:
    """Returns whether an algorithm is a ``PureActor``, and acts by ``decide``.

    A subclass that overrides ``act`` alone does not, and a policy with ``pure = False`` depends on
    more than its arguments.
    """
    for cls in type(team).__mro__:
        if "decide" in vars(cls):
            return getattr(team.policy, "pure", True)
        if "act" in vars(cls):
            break
    return False


class AlgorithmConfig(Protocol):
    """Hyperparameters: a dataclass whose fields the command line sets and checks.

    With a class attribute ``needs_replay = True`` the algorithm gets the run's replay, in
    ``Context.replay``, and learns from it even after rollouts that a past policy of its team
    played. A method ``first_update()`` may return the number of frames before learning begins.
    """

    def policy(self, context: Context) -> Policy:
        """Builds the policy alone, to load a checkpoint into and to play."""
        ...

    def build(self, context: Context) -> Algorithm:
        """Builds the algorithm with its policy."""
        ...
