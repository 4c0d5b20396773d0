"""What the native environments share: measures of an episode, restarts, checks of a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from marl.errors import UserError
from marl.types import AgentGroup, tree_map

T = TypeVar("T")


class Measures:
    """How an episode's measures add up over its steps.

    Args:
        words: measure -> ``sum``, ``mean`` or ``last``.
    """

    def __init__(self, words: Mapping[str, str], device: torch.device, dtype: torch.dtype):
        self.names = list(words)
        adds = [float(word != "last") for word in words.values()]
        self._adds = torch.tensor(adds, device=device, dtype=dtype)
        means = [word == "mean" for word in words.values()]
        self._averages = torch.tensor(means, device=device)

    def add(self, totals: Tensor, now: Sequence[Tensor]) -> Tensor:
        """Totals ``[B, M]`` with a step's measures, ``[B]`` each."""
        if not now:
            return totals
        return totals * self._adds + torch.stack([x.to(totals) for x in now], dim=-1)

    def told(self, totals: Tensor, steps: Tensor) -> dict[str, Tensor]:
        """The episode's measures after ``steps [B]``, ``[B]`` float32 each."""
        means = totals / steps.clamp(min=1).unsqueeze(-1)
        found = torch.where(self._averages, means, totals).float()
        return dict(zip(self.names, found.unbind(-1), strict=True))


def restarted(state: T, fresh: T, done: Tensor) -> T:
    """The ``fresh`` state where ``done [B]``."""

    def chosen(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(done.reshape(-1, *[1] * (old.dim() - 1)), new, old)

    return tree_map(chosen, state, fresh)


def for_all(groups: Mapping[str, AgentGroup], flag: Tensor) -> dict[str, Tensor]:
    """A copy's ``flag [B]`` for each of its agents, ``[B, N]`` by group."""
    return {name: flag.unsqueeze(-1).expand(-1, group.size) for name, group in groups.items()}


def check_index(index: int, num_envs: int) -> None:
    """Raises UserError where there is no environment ``index``."""
    if not 0 <= index < num_envs:
        raise UserError(f"no environment {index} to render; there are {num_envs}")


def check_copies(steps: Tensor, num_envs: int) -> None:
    """Raises UserError where a saved state, with its ``steps [B]``, is not of ``num_envs``."""
    if len(steps) != num_envs:
        raise UserError(
            f"the saved state is of {len(steps)} environments, expected {num_envs}; "
            f"set num_envs={len(steps)}"
        )
