"""The state of foraging episodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from marl.tensors import static_field
from marl.types import register


@register
@dataclass(frozen=True)
class State:
    """Episodes of foraging: all that the next step depends on, and what happened in the last one.

    All is in one tensor, whose axis B is the last: so a processor computes many episodes in one
    instruction, and a compiled step has few tensors to pass. N players, F foods; coordinates are
    (row, column) from the upper left.
    """

    #: The properties below, one after another, ``[4 N + 4 F + 3, B]`` int32.
    values: Tensor
    #: N, the number of players.
    players: int = static_field(0)

    @classmethod
    def of(
        cls,
        player: Tensor,
        level: Tensor,
        food: Tensor,
        food_level: Tensor,
        spawned: Tensor,
        steps: Tensor,
        failed: Tensor,
        action: Tensor,
        loaded: Tensor,
    ) -> State:
        """Returns the state of these properties."""
        one = (spawned.unsqueeze(0), steps.unsqueeze(0), failed.unsqueeze(0))
        parts = (*player, level, action, *food, food_level, loaded, *one)
        return cls(torch.cat(parts), len(level))

    @property
    def foods(self) -> int:
        """F, the number of foods."""
        return (len(self.values) - 3) // 4 - self.players

    @property
    def player(self) -> Tensor:
        """Where players are, ``[2, N, B]``."""
        return self._slice(0, 2 * self.players).unflatten(0, (2, self.players))

    @property
    def level(self) -> Tensor:
        """The players' levels, ``[N, B]``."""
        return self._slice(2 * self.players, self.players)

    @property
    def action(self) -> Tensor:
        """The players' last actions, ``[N, B]``; -1 before the first."""
        return self._slice(3 * self.players, self.players)

    @property
    def food(self) -> Tensor:
        """Where foods were put, ``[2, F, B]``; anywhere, with level 0, if there was no room."""
        return self._slice(4 * self.players, 2 * self.foods).unflatten(0, (2, self.foods))

    @property
    def food_level(self) -> Tensor:
        """The foods' levels, ``[F, B]``; 0 where there is none, or none any more."""
        return self._slice(4 * self.players + 2 * self.foods, self.foods)

    @property
    def loaded(self) -> Tensor:
        """The levels of foods that were loaded in the last step, ``[F, B]``; 0 of others."""
        return self._slice(4 * self.players + 3 * self.foods, self.foods)

    @property
    def spawned(self) -> Tensor:
        """The sum of the foods' levels at the beginning, ``[B]``."""
        return self.values[-3]

    @property
    def steps(self) -> Tensor:
        """Steps since the beginning, ``[B]``."""
        return self.values[-2]

    @property
    def failed(self) -> Tensor:
        """How often players tried to load a food that was too heavy, so far, ``[B]``."""
        return self.values[-1]

    def _slice(self, first: int, size: int) -> Tensor:
        return self.values[first : first + size]
