"""How many players and foods a board has room for, by the rules of placement."""

from __future__ import annotations

from functools import cache

from marl.envs.foraging.board import Board
from marl.errors import UserError

TILE = 9  # cells of a side, up to which the most foods are counted exactly, in milliseconds


def check_room(name: str, board: Board, rules: str) -> None:
    """Raises UserError for a board on which so many players and foods can never be at once.

    Args:
        name: the task, for the error.
        board: of it, of at least 3 rows and columns.
        rules: of placement, as in ``Options``.
    """
    rows, columns = board.rows - 2, board.columns - 2
    most, foods = most_foods(rows, columns), f"{board.foods} food{'s' * (board.foods != 1)}"
    if not 1 <= board.foods <= most:
        raise UserError(
            f"task {name!r}: {foods} on {rows * columns} cells that are not at the border, where "
            f"foods lie at least three steps from each other; expected 1 to {most}, or a larger "
            "board"
        )
    short = int(rules == "v1")  # there no player begins in the last row and column
    cells = (board.rows - short) * (board.columns - short)
    if not 1 <= board.players <= cells - board.foods:
        raise UserError(
            f"task {name!r}: {board.players} players and {foods} on {cells} cells; expected 1 to "
            f"{cells - board.foods} players, or a larger board"
        )


def most_foods(rows: int, columns: int) -> int:
    """Returns the most foods that lie on these cells with three steps or more between any two.

    Exact for ``TILE`` cells in both directions or less; else an upper bound, the sum over tiles of
    that size.
    """
    return sum(_packing(*sorted((h, w))) for h in _parts(rows) for w in _parts(columns))


def _parts(cells: int) -> list[int]:
    return [TILE] * (cells // TILE) + [cells % TILE] * (cells % TILE > 0)


@cache
def _packing(width: int, length: int) -> int:
    """Returns the exact number for a rectangle, row by row of its ``length`` rows.

    Foods of one row are three cells or more apart; those of the next are neither below nor
    diagonally below one of them; and those of the row after that not below.
    """
    rows = [row for row in range(1 << width) if not row & (row << 1 | row << 2)]
    best = {(0, 0): 0}  # most foods so far, by the cells of the last two rows as bits
    for _ in range(length):
        new: dict[tuple[int, int], int] = {}
        for (before, last), foods in best.items():
            near = before | last | last << 1 | last >> 1
            for row in rows:
                if not row & near:
                    key = last, row
                    new[key] = max(new.get(key, 0), foods + row.bit_count())
        best = new
    return max(best.values())
