"""Where players and foods begin, and their levels.

As in lbforaging, one after another: each player on any cell without another; then each food on a
cell that is not at the border, without a player, and without food in the eight cells around it or
two cells away in its row or column. All cells that remain are equally likely. Where none remains
the food is left out. (lbforaging tries at most 1,000 random cells for all foods together, and so
may give up a little earlier on a crowded board. It also keeps players from the cells where some
stood at the end of the episode before, which is forgotten here.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from marl.envs.foraging.board import Board, Options, check_levels, levels
from marl.envs.foraging.state import State
from marl.errors import UserError

WEAKEST = 3  # players, the sum of whose levels is the highest level of a food


class Placement:
    """Draws the beginnings of episodes.

    Args:
        board: its size, players and foods.
        options: the rules and the ranges of levels.
        device: of all tensors.

    Raises:
        UserError: levels that contradict each other.
    """

    def __init__(self, board: Board, options: Options, device: torch.device):
        self.board, self.rules = board, options.rules
        low = levels("min_player_level", options.min_player_level, board.players)
        high = levels("max_player_level", options.max_player_level, board.players)
        least = levels("min_food_level", options.min_food_level, board.foods)
        given = options.max_food_level
        most = None if given is None else levels("max_food_level", given, board.foods)
        check_levels("player", low, high)
        if board.coop and set(least) != {1}:
            raise UserError(
                f"min_food_level={options.min_food_level} has nothing to change: with -coop every "
                "food has the highest level; leave it out, or set max_food_level"
            )
        if most is not None:
            check_levels("food", least, most)
        elif not board.coop and max(least) > (weakest := sum(sorted(low)[:WEAKEST])):
            raise UserError(
                f"min_food_level={max(least)} is above {weakest}, the sum of the lowest levels of "
                "the weakest players; lower it, or set max_food_level"
            )
        self._low, self._high, self._least = (_rows(x, device) for x in (low, high, least))
        self._most = None if most is None else _rows(most, device)
        self._permutes = any(len(set(x or ())) > 1 for x in (low, high, least, most))
        self._inner = (board.rows - 2) * (board.columns - 2)  # cells that are not at the border
        cells = torch.arange(self._inner, dtype=torch.int32, device=device).unsqueeze(-1)
        self._inner_row, self._inner_column = self._inner_place(cells)

    @property
    def noise_size(self) -> int:
        """Number of uniform numbers in [0, 1) that an episode starts from."""
        return (3 if self._permutes else 2) * (self.board.players + self.board.foods)

    def start(self, noise: Tensor) -> State:
        """Returns new episodes, from ``noise [noise_size, B]``."""
        players, foods = self.board.players, self.board.foods
        sizes = [players, foods] * (noise.shape[0] // (players + foods))
        player_cells, food_cells, player_levels, food_levels, *orders = noise.split(sizes)
        player = self._place_players(player_cells)
        food, there = self._place_foods(food_cells, player)
        orders = [order.argsort(0) for order in orders]
        low, high = (_permuted(x, orders[:1]) for x in (self._low, self._high))
        level = low + _below(high - low + 1, player_levels)
        least, most = self._food_range(level, orders[1:])
        # Up to 1.1 the highest level was left out, unless it was the lowest too.
        choices = most - least + 1 if self.rules == "v3" else (most - least).clamp(min=1)
        food_level = (least + _below(choices, food_levels)) * there
        count = torch.zeros(noise.shape[-1], dtype=torch.int32, device=noise.device)
        return State.of(
            player, level, food, food_level, food_level.sum(0, dtype=torch.int32), count, count,
            torch.full_like(level, -1), torch.zeros_like(food_level),
        )  # fmt: skip

    def _food_range(self, level: Tensor, order: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the lowest and the highest level of each food, ``[F or 1, B or 1]``.

        Args:
            level: of the players, ``[N, B]``.
            order: of the ranges, ``[F, B]``, if they are permuted.
        """
        if self._most is None:
            weakest = level if len(level) <= WEAKEST else level.sort(0).values[:WEAKEST]
            most = weakest.sum(0, keepdim=True, dtype=torch.int32)
        else:
            most = _permuted(self._most, order)
        return most if self.board.coop else _permuted(self._least, order), most

    def _place_players(self, noise: Tensor) -> Tensor:
        """Returns random places, no two the same, ``[2, N, B]``, from ``noise [N, B]``."""
        short = int(self.rules == "v1")  # there no player begins in the last row and column
        rows, columns = self.board.rows - short, self.board.columns - short
        cells: list[Tensor] = []
        taken: list[Tensor] = []  # the same in ascending order
        for number, random in enumerate(noise):
            cell = _below(rows * columns - number, random)
            for other in taken:  # from the number among the free cells to that among all
                cell = cell + (cell >= other)
            cells.append(cell)
            for place, other in enumerate(taken):
                taken[place], cell = other.minimum(cell), other.maximum(cell)
            taken.append(cell)
        cell = torch.stack(cells)
        return torch.stack([cell // columns, cell % columns])

    def _place_foods(self, noise: Tensor, player: Tensor) -> tuple[Tensor, Tensor]:
        """Returns random places of foods, ``[2, F, B]``, and whether there was room, ``[F, B]``.

        Args:
            noise: ``[F, B]``.
            player: where players are, ``[2, N, B]``.
        """
        row, column = self._inner_row.unsqueeze(1), self._inner_column.unsqueeze(1)
        free = ((row != player[0]) | (column != player[1])).int().amin(1)  # [cells, B]
        cells = []
        for random in noise:
            count = free.cumsum(0, dtype=torch.int32)
            cell = (count <= _below(count[-1], random)).sum(0, dtype=torch.int32)
            cells.append(cell)
            down, across = (x.abs() for x in self._away(cell))
            free = free * ((down.maximum(across) > 1) & (down + across > 2))
        cell = torch.stack(cells)
        return torch.stack(self._inner_place(cell)), cell < self._inner

    def _inner_place(self, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Returns row and column of the cells that are not at the border, by their numbers."""
        width = self.board.columns - 2
        return cell // width + 1, cell % width + 1

    def _away(self, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the rows and columns from an inner cell to all of them, ``[cells, B]`` each."""
        row, column = self._inner_place(cell)
        return self._inner_row - row, self._inner_column - column


def _rows(values: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=device).unsqueeze(-1)


def _permuted(values: Tensor, order: Sequence[Tensor]) -> Tensor:
    """Returns ``values [E, 1]``, in the order ``[E, B]`` if there is one."""
    return values.squeeze(-1)[order[0]] if order else values


def _below(count: Tensor | int, noise: Tensor) -> Tensor:
    """Returns whole numbers from 0 to ``count - 1``, from uniform noise in [0, 1)."""
    return (noise * count).int()
