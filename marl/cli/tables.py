"""``marl tables``: from the records under ``results/`` to what is shown of them; without torch."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from marl.benchmark.suite import Suite
from marl.cli import benchmark
from marl.tables import publish
from marl.tables.document import printable
from marl.tables.publish import Published
from marl.tables.text import listed


def tables(options: Namespace) -> int:
    """Writes the files of the suites, or with ``--check`` says what differs: then the code is 1."""
    results = Path(options.results)
    published = list(_published(results, options.suites))
    if options.check:
        return _check(results, published, whole=not options.suites)
    for suite in published:
        suite.write(results / suite.selection.name, options.redraw)
        _say(suite)
    if not options.suites:
        publish.write_overview(results, published)
        print(f"page     {results / 'index.html'}" if published else "there are no records yet")
    return 0


def _published(results: Path, names: list[str]) -> Iterator[Published]:
    """With a line for each on a terminal, for a suite of many runs takes seconds."""
    for folder in publish.chosen(results, names):
        if sys.stderr.isatty():
            print(f"reading  {folder}", file=sys.stderr, flush=True)
        yield publish.publish(folder, grid(folder.name))


def grid(name: str) -> Suite | None:
    """The suite's packaged file; None where there is none."""
    return benchmark.find(name) if name in benchmark.names() else None


def _say(suite: Published) -> None:
    selection = suite.selection
    lost = f", {len(selection.left_out)} left out, {len(selection.missing)} missing"
    versions = listed([str(version) for version in selection.versions])
    print(f"suite    {selection.name}: {len(selection.runs)} runs{lost}; learning {versions}")
    if selection.older:
        print(
            f"older    {len(selection.older)} records are left out beside those of a newer version "
            "of learning on the same task with the same algorithm"
        )
    for cell, reason in selection.left_out:
        print(printable(f"left out {cell}: {reason}"), file=sys.stderr)


def _check(results: Path, published: list[Published], whole: bool) -> int:
    found = [d for s in published for d in s.differences(results / s.selection.name)]
    if whole:
        found += publish.overview_differences(results, published)
    for line in found:
        print(f"marl: {line}", file=sys.stderr)
    if found:
        print("marl: run 'marl tables' and commit what it writes", file=sys.stderr)
    return 1 if found else 0
