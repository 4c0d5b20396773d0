"""The README's table of results, between two marks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from marl.tables import known
from marl.tables.document import Block, Heading, Table, Text, address, escaped, markdown
from marl.tables.record import RETURN
from marl.tables.scores import Summary
from marl.tables.sections import bold, learned
from marl.tables.selection import Selection
from marl.tables.text import number

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
ABOUT = (
    "The absolute metric (the best checkpoint, evaluated again): interquartile mean return over "
    "seeds [95% bootstrap interval], bold where the best algorithm's lies within; below it the "
    "final policy's mean, and the number of seeds where there are fewer than five."
)


@dataclass(frozen=True)
class Marks:
    """A README with the two marks that its table stands between.

    The first may name a suite, ``<!-- tables: begin mpe -->``; without a name all are shown.
    """

    before: str
    suite: str
    after: str

    def filled(self, block: str) -> str:
        """Returns the README with ``block``, which ends with a newline, between its marks."""
        begin = BEGIN.replace(" -->", f" {self.suite} -->") if self.suite else BEGIN
        return f"{self.before}{begin}\n{block}{END}{self.after}"


def marks(readme: str) -> Marks | None:
    """Returns the marks of a README; None where it has none."""
    begin = re.search(r"<!-- tables: begin ?([\w-]*) -->", readme)
    end = readme.find(END)
    if begin is None or end < begin.end():
        return None
    return Marks(readme[: begin.start()], begin[1], readme[end + len(END) :])


def table(suites: Sequence[tuple[Selection, Sequence[Summary]]], folder: str) -> str:
    """Returns the block of all suites as Markdown.

    Args:
        suites: their runs and their tables' rows.
        folder: of the results, relative to the README.
    """
    if not suites:
        return f"No suite has records in `{folder}/` yet.\n"
    blocks: list[Block] = [Text(f"{ABOUT} All of it: [{folder}/index.html]({folder}/index.html).")]
    for selection, rows in suites:
        blocks += _suite(selection, rows, folder)
    return markdown(blocks)


def _suite(selection: Selection, rows: Sequence[Summary], folder: str) -> Iterator[Block]:
    yield Heading(
        f"[{escaped(selection.name)}]({address(f'{folder}/{selection.name}')}/tables.md)", 3
    )
    if text := f"{selection.about} {learned(selection)}".strip():
        yield Text(text)
    returns = [row for row in rows if row.metric == RETURN]
    teams = len({row.team for row in returns}) > 1
    lines = dict.fromkeys((row.task, row.team) for row in returns)
    body = [
        [escaped(f"{task}, {team}" if teams else task), *_cells(task, team, returns, selection)]
        for task, team in lines
    ]
    if body:
        best = ["best known"] * _any_best(selection)
        yield Table(["task", *map(escaped, selection.algorithms), "random play", *best], body)
    if absent := len(selection.left_out) + len(selection.older) + len(selection.missing):
        yield Text(f"{absent} of its runs are left out or missing: see the link.")


def _cells(task: str, team: str, rows: Sequence[Summary], selection: Selection) -> Iterator[str]:
    by_algorithm = {row.algorithm: row for row in rows if (row.task, row.team) == (task, team)}
    several = len(selection.versions) > 1
    for algorithm in selection.algorithms:
        if algorithm in by_algorithm:
            count = known.reached(selection, task, team, algorithm)
            optimum = f"<br>optimum in {count} seeds" if count else ""
            yield _cell(by_algorithm[algorithm], by_algorithm.values(), several) + optimum
        else:
            yield ""
    levels = dict(known.levels(selection, task, team, next(iter(by_algorithm.values())).random))
    yield levels["random play"]
    if _any_best(selection):
        yield levels.get("best known", "")


def _any_best(selection: Selection) -> bool:
    return any(references.best for references in selection.references.values())


def _cell(row: Summary, others: Iterable[Summary], several: bool) -> str:
    few = f", {row.seeds} seed{'' if row.seeds == 1 else 's'}" if row.seeds < 5 else ""
    version = f", learning {row.learning}" if several else ""
    return f"{bold(row, others)}<br>{number(row.final_mean)}{few}{version}"
