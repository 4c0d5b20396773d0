"""What players observe, as in lbforaging 2.0.0.

First the foods, each as (row, column, level), in the order of rows, then columns; then the players,
each as (row, column, level), the observer first, the others in the order of agents. Foods and
players that are not seen, and foods that are gone, leave (-1, -1, 0) at the end of their list.

With the whole board in sight coordinates are those of the board. Otherwise they count from the
first row and column in sight, which is row ``max(row - sight, 0)`` of the observer's row. As in the
package, players up to ``2 * sight`` cells from there are seen, more than foods where the observer
is near the upper or left border.
"""

from __future__ import annotations

import torch
from torch import Tensor

from marl.envs.foraging.board import Board
from marl.envs.foraging.state import State

ABSENT = (-1, -1, 0)  # row, column and level


class Observer:
    """The observations of one board.

    Args:
        board: its size, players and foods.
        sight: cells that a player sees in each direction.
        levels: whether the levels of players are observed.
        device: of all tensors.
    """

    def __init__(self, board: Board, sight: int, levels: bool, device: torch.device):
        self.board, self.sight, self.levels = board, sight, levels
        self.whole = sight >= max(board.rows, board.columns) - 1
        self._absent = torch.tensor(ABSENT, dtype=torch.int32, device=device).unsqueeze(-1)
        agent = range(board.players)
        orders = [[one, *(other for other in agent if other != one)] for one in agent]
        self._orders = torch.tensor(orders, device=device)  # [N, N], of each observer
        earlier = torch.ones(board.players, board.players, dtype=torch.bool, device=device).tril(-1)
        self._earlier = earlier.unsqueeze(-1)
        self._slots = torch.arange(max(board.players, board.foods), device=device).unsqueeze(-1)

    @property
    def size(self) -> int:
        """O, the length of an observation."""
        return 3 * self.board.foods + (3 if self.levels else 2) * self.board.players

    @property
    def state_size(self) -> int:
        """S, the length of a state."""
        return 3 * (self.board.foods + self.board.players)

    def observe(self, state: State) -> Tensor:
        """Returns the observations, ``[B, N, O]`` float32."""
        if self.whole:
            foods = self._board_foods(state).expand(self.board.players, -1, -1, -1)
            players = self._players(state)[self._orders]
        else:
            foods, players = self._foods_in_sight(state), self._players_in_sight(state)
        players = players if self.levels else players[:, :, :2]
        obs = torch.cat([foods.flatten(1, 2), players.flatten(1, 2)], dim=1)  # [N, O, B]
        return obs.permute(2, 0, 1).float().contiguous()

    def state(self, state: State, obs: Tensor) -> Tensor:
        """Returns the foods left and all players, with the board's coordinates, ``[B, S]``.

        Args:
            state: the episodes.
            obs: the observations, ``[B, N, O]``; that of the first player may be the same.
        """
        if self.whole and self.levels:
            return obs[:, 0]
        parts = [self._board_foods(state).flatten(0, 2), self._players(state).flatten(0, 1)]
        return torch.cat(parts).t().float().contiguous()

    def _players(self, state: State) -> Tensor:
        """Returns all players, ``[N, 3, B]``."""
        return torch.stack([*state.player, state.level], 1)

    def _board_foods(self, state: State) -> Tensor:
        """Returns the foods left on the board, ``[1, F, 3, B]``."""
        there = (state.food_level > 0).unsqueeze(0)
        level = state.food_level.unsqueeze(0)
        return self._listed(state.food.unsqueeze(1), level, there, self._food_ranks(state, there))

    def _foods_in_sight(self, state: State) -> Tensor:
        """Returns the foods that each player sees, ``[N, F, 3, B]``."""
        away = (state.food.unsqueeze(1) - state.player.unsqueeze(2)).abs() <= self.sight
        seen = away[0] & away[1] & (state.food_level > 0)  # [N, F, B]
        place = state.food.unsqueeze(1) - self._origin(state)
        level = state.food_level.expand_as(seen)
        return self._listed(place, level, seen, self._food_ranks(state, seen))

    def _players_in_sight(self, state: State) -> Tensor:
        """Returns the players that each player sees, ``[N, N, 3, B]``."""
        place = state.player[:, self._orders] - self._origin(state)  # [2, N, N, B]
        near = (place >= 0) & (place <= 2 * self.sight)
        seen = near[0] & near[1]
        rank = (seen.unsqueeze(1) & self._earlier).sum(2, dtype=torch.int32)
        return self._listed(place, state.level[self._orders], seen, rank)

    def _origin(self, state: State) -> Tensor:
        """Returns the first row and column that each player sees, ``[2, N, 1, B]``."""
        return (state.player - self.sight).clamp(min=0).unsqueeze(2)

    def _food_ranks(self, state: State, seen: Tensor) -> Tensor:
        """Returns how many foods come before each in the list, ``[M, F, B]``.

        Args:
            state: the episodes.
            seen: which foods are listed by whom, ``[M, F, B]``.
        """
        cell = state.food[0] * self.board.columns + state.food[1]
        before = cell.unsqueeze(0) < cell.unsqueeze(1)  # [F, F, B]
        return (seen.unsqueeze(1) & before).sum(2, dtype=torch.int32)

    def _listed(self, place: Tensor, level: Tensor, seen: Tensor, rank: Tensor) -> Tensor:
        """Returns lists of E foods or players, those not seen as absent ones at the end.

        Args:
            place: row and column, ``[2, M, E, B]``.
            level: ``[M, E, B]``.
            seen: ``[M, E, B]`` bool.
            rank: place in the list of those seen, ``[M, E, B]``.

        Returns:
            ``[M, E, 3, B]``.
        """
        entry = torch.stack([*place, level], 2) - self._absent  # [M, E, 3, B]
        slots = self._slots[: entry.shape[1]]
        here = (rank.unsqueeze(1) == slots.unsqueeze(-1)) & seen.unsqueeze(1)  # [M, slot, E, B]
        chosen = torch.where(here.unsqueeze(3), entry.unsqueeze(1), 0)
        return chosen.sum(2, dtype=torch.int32) + self._absent
