"""What a game is about: its agents, what happens, what they see and earn, what is measured."""

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
    """Everything that decides what comes next, noise apart, and the last step for the picture."""

    state: Any  # the game's own
    action: Tensor  # [B, N] int64 of the last step; -1 before the first
    reward: Tensor  # [B, N] of the last step
    steps: Tensor  # [B] int64 since the episode began
    totals: Tensor  # [B, M] the measures so far


class Outcome(NamedTuple):
    """What a step led to."""

    reward: Tensor  # [B, N] float32
    measures: Sequence[Tensor] = ()  # [B] each: the step's, in the order of ``measures``


class Scene(NamedTuple):
    """The last step of one copy, to be drawn."""

    state: Any  # the game's, after the step, without its axis B
    action: list[int] | None  # of every agent; None before the first step
    reward: list[float]  # of every agent


class Game(Generic[S]):
    """The base of all.

    A game is built once, by its options, and then asked only for pure functions of its state.
    ``measures`` names its episode metrics and how steps add up: sum, mean or last.
    """

    agents: Sequence[str]
    choices: Sequence[int]  # of every agent; its actions are 0 .. choices - 1
    sight: int  # O, numbers that an agent sees
    length: int  # steps of an episode, where the user does not say otherwise
    final = False  # whether the game itself is over after ``length`` steps, rather than cut off
    start_noise = 0  # uniform numbers in [0, 1) that an episode begins with
    step_noise = 0  # and that every step needs
    measures: ClassVar[Mapping[str, str]] = {}

    def bind(self, device: torch.device) -> None:
        """Builds what stays the same from step to step."""

    def start(self, noise: Tensor) -> S:
        """A new episode from ``noise [B, start_noise]``."""
        raise NotImplementedError

    def advance(self, state: S, action: Tensor, noise: Tensor) -> tuple[S, Outcome]:
        """One step, from ``action [B, N]`` int64 and ``noise [B, step_noise]``."""
        raise NotImplementedError

    def observe(self, state: S) -> Tensor:
        """What all agents see, ``[B, N, O]`` float32."""
        raise NotImplementedError

    def picture(self, scene: Scene) -> Table:
        """The last step for a reader."""
        raise NotImplementedError


def shared(reward: Tensor, agents: int) -> Tensor:
    """One reward ``[B]`` for everybody, ``[B, N]`` float32."""
    return reward.float().unsqueeze(-1).expand(-1, agents)


def numbered(agents: int) -> list[str]:
    return [f"agent_{index}" for index in range(agents)]
