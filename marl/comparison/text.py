"""Tables of plain text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], words: int = 99) -> list[str]:
    """Returns the rows of a table as lines, its columns two spaces apart.

    Args:
        rows: the cells of each row, the header first.
        words: number of columns of text, the first ones; all others are right-aligned.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            f"{cell:{width}}" if i < words else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
