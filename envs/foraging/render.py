"""Pictures of foraging.

Players are discs in colours of their own, foods apples; each has its level on it. Food that was
loaded in the last step is a green ring, beside those who loaded it; a player who tried in vain has
a red one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from marl.envs.foraging.board import Board
from marl.envs.foraging.rules import LOAD
from marl.envs.foraging.state import State

SIZE, HEAD = 512, 48  # pixels: of the picture, and of the lines above the board
MARGIN = 12  # pixels
PAPER, INK, LINE, CELL = (252, 252, 250), (45, 48, 56), (208, 210, 214), (241, 243, 240)
APPLE, LEAF = (214, 70, 62), (86, 140, 72)
GOOD, BAD = (46, 145, 82), (205, 58, 52)
PLAYERS = (
    (66, 118, 190), (236, 153, 59), (132, 94, 176), (45, 150, 150), (196, 84, 140), (120, 120, 60),
    (90, 90, 100), (160, 110, 70), (60, 160, 80),
)  # fmt: skip

Box = tuple[float, float, float, float]  # left, top, right and bottom, pixels


def draw(name: str, board: Board, state: State, max_steps: int) -> np.ndarray:
    """Returns a picture of one episode, ``[512, 512, 3]`` uint8.

    Args:
        name: of the task.
        board: its size.
        state: of one episode, without the axis B.
        max_steps: of an episode.
    """
    image = Image.new("RGB", (SIZE, SIZE), PAPER)
    pen = ImageDraw.Draw(image)
    _heading(pen, name, state, max_steps)
    grid = _Grid(board)
    grid.lines(pen)
    _foods(pen, grid, state)
    _players(pen, grid, state)
    return np.array(image)


class _Grid:
    """Where the cells of a board are in the picture."""

    def __init__(self, board: Board):
        self.board = board
        room = SIZE - HEAD - MARGIN
        self.side = min(room / board.rows, (SIZE - 2 * MARGIN) / board.columns)
        self.left = (SIZE - self.side * board.columns) / 2

    def box(self, row: int, column: int, share: float = 1.0) -> Box:
        """Returns the middle part of a cell, ``share`` of its side."""
        half = self.side * share / 2
        x, y = self.left + (column + 0.5) * self.side, HEAD + (row + 0.5) * self.side
        return x - half, y - half, x + half, y + half

    def lines(self, pen: ImageDraw.ImageDraw) -> None:
        for row in range(self.board.rows):
            for column in range(self.board.columns):
                pen.rectangle(self.box(row, column), fill=CELL, outline=LINE)


def _heading(pen: ImageDraw.ImageDraw, name: str, state: State, max_steps: int) -> None:
    spawned, left = int(state.spawned), int(state.food_level.sum())
    title = f"{name}   step {int(state.steps)} of {max_steps}"
    pen.text((MARGIN, 6), title, INK, font=_font(18))
    result = f"collected {spawned - left} of {spawned}"
    if loaded := int(state.loaded.sum()):
        result += f"   loaded {loaded} in this step"
    pen.text((MARGIN, 28), result, INK, font=_font(14))


def _foods(pen: ImageDraw.ImageDraw, grid: _Grid, state: State) -> None:
    width = max(2, round(grid.side / 16))
    foods = zip(*state.food.tolist(), state.food_level.tolist(), state.loaded.tolist(), strict=True)
    for row, column, level, loaded in foods:
        box = grid.box(row, column, 0.62)
        if loaded:
            pen.ellipse(box, outline=GOOD, width=width)
            _write(pen, box, f"+{loaded}", GOOD)
        if level:
            left, top, right, _ = box
            pen.ellipse(box, fill=APPLE)
            stem = (left + right) / 2, top + width
            pen.line([stem, (stem[0] + 2 * width, top - 2 * width)], fill=LEAF, width=width)
            _write(pen, box, str(level), PAPER)


def _players(pen: ImageDraw.ImageDraw, grid: _Grid, state: State) -> None:
    """Draws the players, smaller and side by side where several share a cell."""
    places = list(zip(*state.player.tolist(), strict=True))
    for number, (row, column) in enumerate(places):
        here = [other for other, place in enumerate(places) if place == (row, column)]
        left, top, right, bottom = grid.box(row, column, 0.8 if len(here) == 1 else 0.9)
        if len(here) > 1:
            step = (right - left) / len(here)
            left, middle = left + here.index(number) * step, (top + bottom) / 2
            left, top, right, bottom = left, middle - step / 2, left + step, middle + step / 2
        box = left, top, right, bottom
        in_vain = _tried_in_vain(state, number)
        edge, width = (BAD, max(3, round(grid.side / 12))) if in_vain else (INK, 1)
        pen.ellipse(box, fill=PLAYERS[number % len(PLAYERS)], outline=edge, width=width)
        _write(pen, box, str(state.level[number].item()), PAPER)


def _tried_in_vain(state: State, player: int) -> bool:
    """Returns whether a player tried to load a food that is still there."""
    distance = (state.player[:, player].unsqueeze(1) - state.food).abs().sum(0)
    beside = bool(((distance == 1) & (state.food_level > 0)).any())
    return int(state.action[player]) == LOAD and beside


def _write(pen: ImageDraw.ImageDraw, box: Box, text: str, colour: tuple[int, int, int]) -> None:
    """Draws ``text`` in the middle of a box."""
    left, top, right, bottom = box
    size = max(6, round((bottom - top) * 0.6))
    middle = (left + right) / 2, (top + bottom) / 2
    pen.text(middle, text, colour, font=_font(size), anchor="mm")


@cache
def _font(size: int) -> Any:
    """Returns Pillow's own font, cached because loading it is slow."""
    return ImageFont.load_default(size=size)
