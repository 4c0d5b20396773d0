"""The board of a foraging task by its name, and the options of all boards, with their checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from marl.envs.checks import check_count, check_number, check_switch
from marl.errors import UserError, unknown

NAME = re.compile(
    r"foraging/(?:(?P<sight>\d+)s-)?(?P<rows>\d+)x(?P<columns>\d+)-(?P<players>\d+)p-(?P<foods>\d+)f"
    r"(?P<coop>-coop)?"
)
RULES = ("v3", "v2", "v1")
COLLISIONS = ("package", "exclusive")
MOST_CELLS = 65_536  # of a board; episodes begin in batches, and each looks at all cells


@dataclass(frozen=True)
class Board:
    """What the name of a task says.

    Attributes:
        rows: of the board.
        columns: of the board.
        players: N.
        foods: F, the most foods of an episode.
        coop: whether every food has the highest level of its range.
        sight: cells that a player sees in each direction; None for the whole board.
    """

    rows: int
    columns: int
    players: int
    foods: int
    coop: bool = False
    sight: int | None = None


@dataclass(frozen=True)
class Options:
    """The options of foraging tasks. Levels are one number for all, or one for each."""

    #: Cells that a player sees in each direction; null for the whole board, or what the name says.
    sight: int | None = None
    #: Whose rules of placement: ``v3`` of lbforaging 2.0; ``v2`` of 1.0.16 to 1.1.1, where no food
    #: has the highest level but with ``-coop``; ``v1`` of 1.0.15, where besides no player begins in
    #: the last row or column.
    rules: str = "v3"
    #: Lowest level of a player.
    min_player_level: int | Sequence[int] = 1
    #: Highest level of a player.
    max_player_level: int | Sequence[int] = 2
    #: Lowest level of a food.
    min_food_level: int | Sequence[int] = 1
    #: Highest level of a food; null for the sum of the three lowest levels of the players.
    max_food_level: int | Sequence[int] | None = None
    #: Who stays where players meet: ``package`` stops those who go to the same cell, but lets a
    #: player go to the cell of one that is stopped, so that both share it; ``exclusive`` stops that
    #: player too.
    collisions: str = "package"
    #: What a player pays for trying to load a food that is too heavy; usual 0 to 0.1.
    penalty: float = 0.0
    #: Whether rewards are divided so that all food of an episode pays 1 in all.
    normalize_reward: bool = True
    #: Whether every player earns the sum of all players' rewards.
    common_reward: bool = False
    #: Whether players observe the levels of players.
    observe_agent_levels: bool = True
    #: Whether observations say which actions do something, and the others are never chosen.
    action_mask: bool = False
    #: Whether a step is compiled into one graph, and a restart into another.
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("normalize_reward", "common_reward", "observe_agent_levels", "action_mask"):
            check_switch(name, getattr(self, name))
        check_switch("compile", self.compile)
        check_number("penalty", self.penalty, 0.0)
        if self.sight is not None:
            check_count("sight", self.sight)
        if self.rules not in RULES:
            raise unknown("rules", self.rules, RULES)
        if self.collisions not in COLLISIONS:
            raise unknown("collisions", self.collisions, COLLISIONS)


def find_board(name: str) -> Board | None:
    """Returns the board of a task; None if it is no name of one."""
    match = NAME.fullmatch(name)
    if match is None:
        return None
    sizes = {k: int(match[k]) for k in ("rows", "columns", "players", "foods")}
    sight = None if match["sight"] is None else int(match["sight"])
    return Board(**sizes, coop=match["coop"] is not None, sight=sight)


def check_board(name: str, board: Board) -> None:
    """Raises UserError for a board that is too small for any food, or too large, or without sight.

    Args:
        name: the task, for the error.
        board: of it.
    """
    if min(board.rows, board.columns) < 3:
        raise UserError(
            f"task {name!r}: a board needs at least 3 rows and columns, for food never lies at the "
            "border; take 8x8, for instance"
        )
    if board.sight == 0:
        raise UserError(
            f"task {name!r}: players must see at least 1 cell far; take 2s, for instance"
        )
    cells = board.rows * board.columns
    if cells > MOST_CELLS:
        raise UserError(
            f"task {name!r}: the board has {cells} cells; expected {MOST_CELLS} at most, such as "
            "256x256"
        )


def levels(name: str, value: object, count: int) -> tuple[int, ...]:
    """Returns the levels of all players or foods.

    Args:
        name: the option, for errors.
        value: one number for all, or one for each.
        count: how many there are.

    Raises:
        UserError: no numbers of at least 1, or not ``count`` of them.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != count:
            raise UserError(f"{name}={list(value)} holds {len(value)} levels, expected {count}")
        for level in value:
            check_count(f"{name}: a level", level)
        return tuple(value)
    check_count(name, value)
    return (value,) * count  # type: ignore[return-value]


def check_levels(kind: str, low: Sequence[int], high: Sequence[int]) -> None:
    """Raises UserError where a lowest level is above its highest.

    Args:
        kind: ``player`` or ``food``, for the error.
        low: lowest levels.
        high: highest levels, as many.
    """
    for least, most in zip(low, high, strict=True):
        if least > most:
            raise UserError(
                f"min_{kind}_level={least} is above max_{kind}_level={most}; raise the latter"
            )
