"""Pictures of games: tables of coloured cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

SIZE = 512  # pixels
MARGIN, GAP = 24, 3  # pixels
MAX_CELL = 104  # a cell's side, pixels
PAPER, INK, FAINT = (252, 252, 250), (45, 48, 56), (226, 227, 230)
BLUE, ORANGE = (176, 205, 238), (248, 205, 150)
GOOD, BAD = (46, 145, 82), (205, 58, 52)


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: in its middle.
        fill: its colour.
        edge: colour of a frame, where something happened; None without.
    """

    text: str = ""
    fill: Colour = FAINT
    edge: Colour | None = None


@dataclass(frozen=True)
class Table:
    """A table with headings.

    Attributes:
        cells: row by row; None leaves a place empty.
        rows: headings of the rows; empty without.
        columns: headings of the columns; empty without.
        legend: a line below.
    """

    cells: Sequence[Sequence[Cell | None]]
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    legend: str = ""


BITS = (Cell("0", BLUE), Cell("1", ORANGE))


def draw(table: Table, title: str, lines: Sequence[str] = ()) -> np.ndarray:
    """Returns a picture of the table, ``[512, 512, 3]`` uint8.

    Args:
        table: what is drawn.
        title: a line above.
        lines: lines below the legend.
    """
    image = Image.new("RGB", (SIZE, SIZE), PAPER)
    pen = ImageDraw.Draw(image)
    _write(pen, (MARGIN, MARGIN), title, 24, "la")
    below = [line for line in (table.legend, *lines) if line]
    for number, line in enumerate(reversed(below)):
        _write(pen, (MARGIN, SIZE - MARGIN - 24 * number), line, 17, "ld")
    left = 132 if table.rows else MARGIN
    top = MARGIN + 44 + (26 if table.columns else 0)
    right, bottom = SIZE - MARGIN, SIZE - MARGIN - 24 * len(below) - 12
    _grid(pen, table, (left, top, right, bottom))
    return np.array(image)


def shade(value: float, least: float, most: float) -> Colour:
    """Returns a colour, the greener the higher ``value`` is above 0, the redder below.

    Args:
        value: the number.
        least: the smallest number, which is reddest.
        most: the largest number, which is greenest.
    """
    colour, share = (GOOD, value / most) if value > 0 else (BAD, value / least if least else 0.0)
    red, green, blue = (round(255 + 0.55 * share * (part - 255)) for part in colour)
    return red, green, blue


def _grid(pen: ImageDraw.ImageDraw, table: Table, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    wide, high = max(len(row) for row in table.cells), len(table.cells)
    width, height = min(MAX_CELL, (right - left) / wide), min(MAX_CELL, (bottom - top) / high)
    for column, heading in enumerate(table.columns):
        _write(pen, (left + (column + 0.5) * width, top - 5), heading, 16, "md", width)
    for line, row in enumerate(table.cells):
        y = top + line * height
        if table.rows:
            heading = table.rows[line]
            _write(pen, (left - 10, y + height / 2), heading, 16, "rm", left - MARGIN)
        for column, cell in enumerate(row):
            if cell is not None:
                x = left + column * width
                _cell(pen, cell, (x, y, x + width - GAP, y + height - GAP))


def _cell(pen: ImageDraw.ImageDraw, cell: Cell, box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = box
    frame = max(2, round(min(right - left, bottom - top) / 16))
    pen.rectangle(box, fill=cell.fill, outline=cell.edge, width=frame if cell.edge else 0)
    size = min(28, (bottom - top) * 0.55)
    middle = ((left + right) / 2, (top + bottom) / 2)
    _write(pen, middle, cell.text, size, "mm", right - left - 2 * frame)


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: float,
    anchor: str,
    room: float = SIZE - 2 * MARGIN,
) -> None:
    """Draws ``text`` in this size, or smaller where it does not fit into ``room`` pixels."""
    if not text:
        return
    font = _font(round(size))
    needed = font.getlength(text)
    if needed > room:
        font = _font(max(4, int(size * room / needed)))
    pen.text(place, text, INK, font=font, anchor=anchor)


@cache
def _font(size: int) -> Any:
    """Returns Pillow's own font, cached because loading it is slow."""
    return ImageFont.load_default(size=size)
