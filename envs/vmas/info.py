"""Episode metrics of VMAS: a scenario's own numbers, summed over the episode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class EpisodeInfo:
    """Sums over an episode's steps of each number's mean over the agents that report it.

    Vectors (positions) are left out. The names are those of the first step.

    Args:
        num_envs: B, the number of copies.
        device: where the numbers are.
    """

    def __init__(self, num_envs: int, device: torch.device) -> None:
        self._num_envs = num_envs
        self._device = device
        self._names: list[str] | None = None
        self._totals = torch.zeros(0, num_envs, device=device)  # [K, B]
        self._plan: list[tuple[int, str]] | None = None  # (agent, name) of each number
        self._rows = torch.zeros(0, dtype=torch.int64, device=device)  # their rows in the totals
        self._weights = torch.zeros(0, 1, device=device)  # one over the number of agents, [M, 1]

    def add(self, infos: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Adds a step's infos.

        Args:
            infos: one for each agent.

        Returns:
            The episode's sums so far, ``[B]`` by name.
        """
        if self._plan is None:
            self._plan = self._make_plan(infos)
        if not self._plan:
            return {}
        numbers = torch.stack([infos[agent][name].reshape(-1) for agent, name in self._plan])
        self._totals = self._totals.index_add(0, self._rows, numbers * self._weights)
        return dict(zip(self._names or [], self._totals.unbind(), strict=True))

    def restart(self, done: Tensor | None) -> None:
        """Starts new sums where ``done [B]``; everywhere for None."""
        if done is None:
            self._totals = torch.zeros_like(self._totals)
        else:
            self._totals = self._totals.masked_fill(done, 0.0)

    def state_dict(self) -> dict[str, Any]:
        return {"names": self._names, "totals": self._totals.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._names, self._plan = state["names"], None
        self._totals = state["totals"].to(self._device, copy=True)

    def _make_plan(self, infos: list[dict[str, Any]]) -> list[tuple[int, str]]:
        """Returns agent and name of each number, and sets rows and weights of their sums."""
        plan = [
            (agent, name)
            for agent, info in enumerate(infos)
            for name, value in info.items()
            if isinstance(value, Tensor) and value.numel() == self._num_envs
        ]
        names = sorted({name for _, name in plan})
        if names != self._names:  # else they were loaded with their totals
            self._names = names
            self._totals = torch.zeros(len(names), self._num_envs, device=self._device)
        rows = [names.index(name) for _, name in plan]
        self._rows = torch.tensor(rows, dtype=torch.int64, device=self._device)
        weights = [[1.0 / rows.count(row)] for row in rows]
        self._weights = torch.tensor(weights, device=self._device).reshape(-1, 1)
        return plan
