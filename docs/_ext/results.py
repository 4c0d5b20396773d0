"""The directive ``results``: what the suites under results/ measured of an algorithm.

```{results} mappo ippo
:suites: mpe vmas
```

Names are those of the suites' rows; without ``suites`` all suites are read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).parents[2] / "results"
HEADER = ("suite", "task", "algorithm", "absolute metric", "random play", "seeds", "learning")
NOTE = (
    "Return of the best checkpoint, played again: interquartile mean over seeds (the mean of fewer "
    "than four) [95% bootstrap interval]. Compare rows of one suite, task and version of learning "
    "only. Everything else, with curves: "
)
NOTHING = "No suite under `results/` holds a record of it yet."


class Results(SphinxDirective):
    """A table of the absolute metric by suite and task, read when the page is built."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"suites": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        for path in RESULTS.glob("*/summary.csv"):
            self.env.note_dependency(str(path))
        algorithms, suites = self.arguments[0].split(), self.options.get("suites", "").split()
        text = markdown(list(rows(RESULTS, algorithms, suites)))
        return self.parse_text_to_nodes(text)


def rows(results: Path, algorithms: Sequence[str], suites: Sequence[str]) -> Iterator[list[str]]:
    """Yields the cells of every task of every suite on which an algorithm has a record.

    Args:
        results: the folder of the suites.
        algorithms: names of a suite's rows.
        suites: names of folders; all where empty.
    """
    for path in sorted(results.glob("*/summary.csv")):
        if suites and path.parent.name not in suites:
            continue
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["metric"] == "return" and row["algorithm"] in algorithms:
                    yield _cells(path.parent.name, row)


def _cells(suite: str, row: dict[str, str]) -> list[str]:
    task = row["task"] if row["team"] == "team" else f"{row['task']}, {row['team']}"
    metric = f"{row['absolute']} [{row['absolute_low']}, {row['absolute_high']}]"
    return [suite, task, row["algorithm"], metric, row["random"], row["seeds"], row["learning"]]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Returns the rows as a table in Markdown with the note that explains it."""
    if not table:
        return NOTHING
    lines = [HEADER, ["---"] * 3 + ["---:"] * 4, *table]
    files = ", ".join(f"`results/{suite}/tables.md`" for suite in sorted({row[0] for row in table}))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{NOTE}{files}.\n"


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
