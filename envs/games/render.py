"""Tables of coloured cells, which is how all games are drawn."""

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
LARGEST = 104  # a cell's side, pixels
PAPER, INK, FAINT = (252, 252, 250), (45, 48, 56), (226, 227, 230)
BLUE, ORANGE = (176, 205, 238), (248, 205, 150)
GOOD, BAD = (46, 145, 82), (205, 58, 52)


@dataclass(frozen=True)
class Cell:
    text: str = ""
    fill: Colour = FAINT
    edge: Colour | None = None  # a frame where something happened


@dataclass(frozen=True)
class Table:
    cells: Sequence[Sequence[Cell | None]]  # rows; None leaves a place empty
    rows: Sequence[str] = ()  # headings
    columns: Sequence[str] = ()
    legend: str = ""


BITS = (Cell("0", BLUE), Cell("1", ORANGE))


def draw(table: Table, title: str, lines: Sequence[str] = ()) -> np.ndarray:
    """The table between its title and ``lines`` as ``[512, 512, 3]`` uint8."""
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
    """Green as far as ``value`` is above 0, red as far as it is below, of the range there is."""
    colour, share = (GOOD, value / most) if value > 0 else (BAD, value / least if least else 0.0)
    red, green, blue = (round(255 + 0.55 * share * (part - 255)) for part in colour)
    return red, green, blue


def _grid(pen: ImageDraw.ImageDraw, table: Table, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    wide, high = max(len(row) for row in table.cells), len(table.cells)
    width, height = min(LARGEST, (right - left) / wide), min(LARGEST, (bottom - top) / high)
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
    """``text`` in this size, or as much smaller as it takes to fit into ``room`` pixels."""
    if not text:
        return
    font = _font(round(size))
    needed = font.getlength(text)
    if needed > room:
        font = _font(max(4, int(size * room / needed)))
    pen.text(place, text, INK, font=font, anchor=anchor)


@cache
def _font(size: int) -> Any:
    """Pillow's own font, whose reading takes long."""
    return ImageFont.load_default(size=size)
