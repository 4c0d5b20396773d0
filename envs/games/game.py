"""Base class of games: agents, dynamics, observations, rewards and measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from marl.envs.games.render import Table
from marl.types import register

S = TypeVar("S")  # a game's own state: a registered dataclass of tensors [B, ...]


@register
@dataclass(frozen=True)
class Play:
    """State of an episode: all that the next step depends on but noise, and the last step.

    Attributes:
        state: the game's own.
        action: actions of the last step, ``[B, N]`` int64; -1 before the first.
        reward: rewards of the last step, ``[B, N]``.
        steps: steps since the episode began, ``[B]`` int64.
        totals: the measures so far, ``[B, M]``.
    """

    state: Any
    action: Tensor
    reward: Tensor
    steps: Tensor
    totals: Tensor


class Outcome(NamedTuple):
    """Rewards and measures of one step.

    Attributes:
        reward: ``[B, N]`` float32.
        measures: ``[B]`` each, in the order of ``Game.measures``.
    """

    reward: Tensor
    measures: Sequence[Tensor] = ()


class Scene(NamedTuple):
    """The last step of one copy, for a picture.

    Attributes:
        state: the game's own after the step, without the axis B.
        action: each agent's action; None before the first step.
        reward: each agent's reward.
    """

    state: Any
    action: list[int] | None
    reward: list[float]


class Game(Generic[S]):
    """Base class of all games.

    A game is built once, from its options; then only pure functions of its state are called.
    """

    #: Names of the agents.
    agents: Sequence[str]
    #: Number of actions of each agent.
    choices: Sequence[int]
    #: O, the length of an agent's observation.
    obs_size: int
    #: S, the length of the state that critics may read; None in games that give none.
    state_size: int | None = None
    #: Steps of an episode, unless ``task.max_steps`` is set.
    length: int
    #: Whether the game itself ends after ``length`` steps (a termination); else it is truncated.
    final = False
    #: Number of uniform numbers in [0, 1) that an episode starts from.
    start_noise = 0
    #: Number of uniform numbers in [0, 1) that every step uses.
    step_noise = 0
    #: Names of the episode metrics, and how they add up over steps: ``sum``, ``mean`` or ``last``.
    measures: ClassVar[Mapping[str, str]] = {}

    def bind(self, device: torch.device) -> None:
        """Builds the tensors that are the same in every step, on ``device``."""

    def start(self, noise: Tensor) -> S:
        """Returns the state of a new episode, from ``noise [B, start_noise]``."""
        raise NotImplementedError

    def advance(self, state: S, action: Tensor, noise: Tensor) -> tuple[S, Outcome]:
        """Computes one step.

        Args:
            state: the game's, ``[B, ...]``.
            action: ``[B, N]`` int64.
            noise: uniform in [0, 1), ``[B, step_noise]``.

        Returns:
            The next state, and the step's rewards and measures.
        """
        raise NotImplementedError

    def observe(self, state: S) -> Tensor:
        """Returns the agents' observations, ``[B, N, O]`` float32."""
        raise NotImplementedError

    def global_state(self, state: S) -> Tensor | None:
        """Returns what critics may read, ``[B, S]`` float32; None in games that give none."""
        return None

    def picture(self, scene: Scene) -> Table:
        """Returns a table that shows the last step."""
        raise NotImplementedError


def shared_reward(reward: Tensor, agents: int) -> Tensor:
    """Returns the same reward for all agents.

    Args:
        reward: ``[B]``.
        agents: N.

    Returns:
        ``[B, N]`` float32.
    """
    return reward.float().unsqueeze(-1).expand(-1, agents)


def agent_names(agents: int) -> list[str]:
    """Returns ``agent_0``, ``agent_1`` and so on."""
    return [f"agent_{index}" for index in range(agents)]
