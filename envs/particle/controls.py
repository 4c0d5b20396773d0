"""Actions of particle worlds, decoded to forces and messages."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from marl.envs.particle.physics import Body
from marl.envs.particle.scenario import Scenario
from marl.types import ActionSpec, Continuous, Discrete

# Directions of the moves: nothing, left, right, down, up.
MOVES = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))


def action_spec(body: Body, channels: int, continuous: bool) -> ActionSpec:
    """Returns the actions of an agent.

    Args:
        body: the agent.
        channels: C, the numbers of a message.
        continuous: whether actions are vectors in [0, 1]: nothing, left, right, down, up if the
            agent moves, then C numbers if it talks; else one choice among the moves times the
            messages.
    """
    messages = channels if body.talks else 0
    if continuous:
        size = len(MOVES) * body.moves + messages
        return Continuous((0.0,) * size, (1.0,) * size)
    return Discrete((len(MOVES) if body.moves else 1) * max(messages, 1))


class Controls:
    """Decoder of the actions of all groups.

    Args:
        scenario: whose agents act.
        continuous: whether actions are vectors rather than choices.
        device: where actions are.
        dtype: of forces and messages.
    """

    def __init__(
        self, scenario: Scenario, continuous: bool, device: torch.device, dtype: torch.dtype
    ):
        self._agents, self._channels = scenario.agents, scenario.channels
        self._continuous, self._device, self._dtype = continuous, device, dtype
        accel = [[body.accel] for body in scenario.agents]
        self._accel = torch.tensor(accel, device=device, dtype=dtype)  # [N, 1]
        self._rows: Mapping[str, slice] = {}

    def set_groups(self, rows: Mapping[str, slice], actions: Mapping[str, ActionSpec]) -> None:
        """Sets the groups, and builds a table of every choice.

        Args:
            rows: the agents of each group among all.
            actions: the actions of each group.
        """
        self._rows = dict(sorted(rows.items(), key=lambda item: item[1].start))
        self._tables = {
            name: self._table(self._agents[part.start], spec.n).to(self._device, self._dtype)
            for name, part in self._rows.items()
            if isinstance(spec := actions[name], Discrete)
        }

    def decode(self, action: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns all agents' forces in newtons, ``[B, N, 2]``, and messages, ``[B, N, C]``."""
        parts = [self._decode(name, action[name]) for name in self._rows]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)  # [B, N, 2 + C]
        return whole[..., :2] * self._accel, whole[..., 2:]

    def _decode(self, name: str, action: Tensor) -> Tensor:
        """Returns directions and messages of one group, ``[B, N, 2 + C]``."""
        if not self._continuous:
            return self._tables[name][action]
        body = self._agents[self._rows[name].start]
        action = action.to(self._dtype).clamp(0, 1)
        if body.moves:
            direction = action[..., 2:5:2] - action[..., 1:4:2]  # right - left, up - down
        else:
            direction = action.new_zeros(*action.shape[:-1], 2)
        if not body.talks:
            silence = action.new_zeros(*action.shape[:-1], self._channels)
            return torch.cat([direction, silence], dim=-1) if self._channels else direction
        return torch.cat([direction, action[..., len(MOVES) * body.moves :]], dim=-1)

    def _table(self, body: Body, choices: int) -> Tensor:
        """Returns direction and message of every choice, ``[n, 2 + C]``; the move varies
        fastest."""
        choice = torch.arange(choices)
        moves = torch.tensor(MOVES if body.moves else MOVES[:1])
        direction = moves[choice % len(moves)]
        if not body.talks:
            return torch.cat([direction, torch.zeros(choices, self._channels)], dim=-1)
        return torch.cat([direction, torch.eye(self._channels)[choice // len(moves)]], dim=-1)
