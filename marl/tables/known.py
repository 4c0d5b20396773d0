"""What returns are compared with: random play, doing nothing, the best that is known."""

from __future__ import annotations

from collections.abc import Iterator

from marl.benchmark.references import DO_NOTHING, References
from marl.tables.record import RETURN, newest
from marl.tables.scores import mean
from marl.tables.selection import Selection
from marl.tables.text import number

UNKNOWN = References({})


def levels(selection: Selection, task: str, team: str, random: float) -> Iterator[tuple[str, str]]:
    """Yields names and returns to compare a task's with, the lowest first.

    Doing nothing is among them where it beats random play, which is then too low a mark.

    Args:
        random: mean return of random play.
    """
    known = selection.references.get(task, UNKNOWN)
    yield "random play", number(random)
    if (idle := known.idle.get(team)) is not None and idle > random:
        yield DO_NOTHING, number(idle)
    if known.best is not None:
        yield "best known", number(known.best.value)


def source(selection: Selection, task: str) -> str:
    """Returns a sentence on where the best known return is from; empty without one."""
    best = selection.references.get(task, UNKNOWN).best
    if best is None:
        return ""
    counted = (
        ""
        if best.reached is None
        else f" A seed has reached it whose absolute metric is at least {number(best.reached)}."
    )
    return f"Best known: {best.source}.{counted}"


def reached(selection: Selection, task: str, team: str, algorithm: str) -> str:
    """Returns in how many seeds the best known return was reached, ``3 of 5``; empty where that is
    not counted."""
    best = selection.references.get(task, UNKNOWN).best
    if best is None or best.reached is None:
        return ""
    runs = [
        run
        for run in selection.runs
        if (run.cell.task, run.cell.algorithm) == (task, algorithm) and team in run.teams
    ]
    values = [mean(run.teams[team][RETURN].absolute) for run in newest(runs)]
    return f"{sum(value >= best.reached for value in values)} of {len(values)}"
