"""Numbers and rows as text, rounded so that the files are the same on every machine."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from marl.tables.scores import Score


def digits(value: float, count: int = 5) -> str:
    """Returns a number as text; empty for NaN.

    Args:
        value: the number.
        count: of significant digits.
    """
    if math.isnan(value):
        return ""
    rounded = float(f"{float(f'{value:.12g}'):.{count}g}") + 0.0  # no negative zero
    return f"{rounded:.{count}g}"


def number(value: float) -> str:
    """Returns a number for reading: four significant digits, at most three decimals, and thousands
    in full; empty for NaN."""
    if math.isnan(value):
        return ""
    value = float(digits(value, 8))
    decimals = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"


def interval(score: Score, seeds: int) -> str:
    """Returns ``value [low, high]``, or the value alone where there is one seed.

    Args:
        score: the value and its interval.
        seeds: their number.
    """
    if math.isnan(score.value):
        return ""
    if seeds < 2:
        return number(score.value)
    return f"{number(score.value)} [{number(score.low)}, {number(score.high)}]"


def duration(seconds: float) -> str:
    """Returns ``45 s``, ``12 min`` or ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def seed_count(seeds: int) -> str:
    """Returns the number of seeds, which is called preliminary below five."""
    return f"{seeds} (preliminary)" if seeds < 5 else str(seeds)


def table(kind: type, rows: Iterable[Any]) -> str:
    """Returns the CSV text of dataclasses, where a ``Score`` gives three columns.

    Args:
        kind: the dataclass, whose fields are the header.
        rows: its instances.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_header(kind))
    writer.writerows(list(_cells(row)) for row in rows)
    return out.getvalue()


def _header(kind: type) -> Iterator[str]:
    for field in fields(kind):
        yield field.name
        if field.type in (Score, "Score"):
            yield from (f"{field.name}_low", f"{field.name}_high")


def _cells(row: Any) -> Iterator[str]:
    for field in fields(row):
        value = getattr(row, field.name)
        if is_dataclass(value):
            yield from (digits(getattr(value, part.name)) for part in fields(value))
        else:
            yield digits(value) if isinstance(value, float) else str(value)


def rows(text: str) -> list[dict[str, str]]:
    """Returns the rows of a CSV file (column -> cell)."""
    return list(csv.DictReader(io.StringIO(text)))


def listed(words: Sequence[str]) -> str:
    """Returns ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
