"""Action spaces with one more option in each choice, to wait, and the masks that go with them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from marl.envs.pettingzoo.actions import Bounded, action_decoder
from marl.envs.pettingzoo.masks import write_mask
from marl.errors import EnvironmentFault, UserError


@dataclass(frozen=True)
class TurnActions:
    """Actions of an agent that takes turns: the environment's, and in each choice a last, to wait.

    Attributes:
        agent: whose they are, for errors.
        space: Gymnasium space of the choices with the option to wait.
        nvec: number of the environment's own actions in each choice.
        waiting: mask that allows to wait only, ``[sum(nvec) + len(nvec)]`` bool.
    """

    agent: Hashable
    space: Any
    nvec: tuple[int, ...]
    waiting: np.ndarray

    def check(self, action: Any) -> None:
        """Raises EnvironmentFault where the action of an agent whose turn it is holds to wait."""
        own = np.ravel(action) - np.ravel(getattr(self.space, "start", 0))
        if (own >= self.nvec).any():
            raise EnvironmentFault(
                f"agent {self.agent!r} chose to wait, and it is its turn; expected an action that "
                "its mask allows"
            )

    def acting(self, mask: Any) -> np.ndarray:
        """Returns the mask of an agent whose turn it is, of the shape of ``waiting``.

        Args:
            mask: the environment's mask of its own actions; None allows them all.

        Raises:
            EnvironmentFault: it allows nothing.
        """
        own = np.zeros(sum(self.nvec), dtype=bool)
        if not write_mask(mask, self.nvec, own):
            raise EnvironmentFault(
                f"the action mask of agent {self.agent!r}, whose turn it is, allows nothing; "
                "expected at least one allowed action"
            )
        whole = np.zeros(len(self.waiting), dtype=bool)
        whole[~self.waiting] = own
        return whole


def turn_actions(space: Any, agent: Hashable) -> TurnActions:
    """Returns the actions of an agent that takes turns.

    Args:
        space: the environment's Gymnasium space of its actions.
        agent: whose it is.

    Raises:
        UserError: a space that is not made of choices.
    """
    from gymnasium import spaces

    decoder = action_decoder(space, agent)
    if isinstance(decoder, Bounded):
        raise UserError(
            f"agent {agent!r} acts in {space}, which has no action to wait with between its turns; "
            "expected choices: take the environment's parallel version, or its discrete actions"
        )
    wider = [n + 1 for n in decoder.nvec]
    waiting = np.zeros(sum(wider), dtype=bool)
    waiting[np.cumsum(wider) - 1] = True
    if isinstance(space, spaces.Discrete):
        own: Any = spaces.Discrete(wider[0], start=space.start)
    elif isinstance(space, spaces.MultiDiscrete):
        own = spaces.MultiDiscrete(space.nvec + 1, dtype=space.dtype.type, start=space.start)
    else:  # MultiBinary
        own = spaces.MultiDiscrete(np.full(space.shape, 3), dtype=space.dtype.type)
    return TurnActions(agent, own, decoder.nvec, waiting)
