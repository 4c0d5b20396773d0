"""The list of runs: their rows, newest first, as text or as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from marl.comparison import filters
from marl.comparison.overview import Overview, read
from marl.comparison.settings import described, differences, settings_of, short_names
from marl.comparison.text import aligned
from marl.errors import UserError

COLUMNS = ("run", "task", "algorithm", "frames", "return", "state", "differs in")


@dataclass(frozen=True)
class Listed:
    """A run in a list."""

    #: The run in brief.
    run: Overview
    #: Its settings in which the listed runs of its task differ, by the command line's keys.
    differing: Mapping[str, str]


def listed(directories: Sequence[Path], words: Sequence[str]) -> tuple[list[Listed], list[str]]:
    """Returns the runs that match all filters, newest first, and why others cannot be read.

    Args:
        directories: of the runs.
        words: the filters, as of ``marl.comparison.filters``.
    """
    rows, faults = [], []
    for directory in directories:
        try:
            run = read(directory)
            rows.append((run, settings_of(run)))
        except UserError as error:
            faults.append(str(error))
    rows = filters.matching(rows, words)
    rows.sort(key=lambda row: (_time(row[0].started), str(row[0].directory)), reverse=True)
    differing = differences([run for run, _ in rows], [settings for _, settings in rows])
    for own in differing:
        own.pop("total_frames", None)  # a column of its own
    pairs = zip(rows, differing, strict=True)
    return [Listed(run, own) for (run, _), own in pairs], faults


def _time(started: str) -> float:
    """Returns a time of provenance in seconds; 0 for one that is none."""
    try:
        return datetime.fromisoformat(started).timestamp()
    except ValueError:
        return 0.0


def plain(row: Listed) -> dict[str, Any]:
    """Returns a row as JSON values."""
    run = row.run
    return {
        "run": str(run.directory), "task": run.task, "algorithm": run.algorithm, "seed": run.seed,
        "differs": dict(row.differing), "frames": run.frames, "total_frames": run.total,
        "returns": dict(run.returns), "state": run.state, "why": run.why, "started": run.started,
        "learning": run.learning,
    }  # fmt: skip


def lines(rows: Sequence[Listed], width: int = 0) -> list[str]:
    """Returns the lines of a table, its header first.

    Args:
        rows: the runs.
        width: of the terminal, to which differences are cut; 0 for no limit.
    """
    names = short_names(key for row in rows for key in row.differing)
    table = aligned([COLUMNS, *(_cells(row, names) for row in rows)])
    fixed = table[0].rindex(COLUMNS[-1]) + len(COLUMNS[-1])  # of the columns that are never cut
    return [x if not fixed < width < len(x) else x[: width - 1] + "…" for x in table]


def _cells(row: Listed, names: Mapping[str, str]) -> tuple[str, ...]:
    run = row.run
    done = (
        short(run.total) if run.frames == run.total else f"{short(run.frames)}/{short(run.total)}"
    )
    returns = [f"{value:,.2f}" for value in run.returns.values()]
    if len(returns) > 1:
        returns = [f"{team} {text}" for team, text in zip(run.returns, returns, strict=True)]
    return (
        str(run.directory), run.task, run.algorithm, done, ", ".join(returns), run.state,
        described(row.differing, names),
    )  # fmt: skip


def short(number: int) -> str:
    """Returns a number as ``950``, ``30.4k`` or ``1.2M``."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.4g}{letter}"
    return str(number)
