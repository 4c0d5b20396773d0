"""The command ``marl tables``: tables, plots and pages from the records. Loads no torch."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from marl.benchmark import own_suite
from marl.benchmark.suite import Suite
from marl.cli import benchmark
from marl.tables import publish
from marl.tables.document import printable
from marl.tables.publish import Published
from marl.tables.text import listed


def tables(options: Namespace) -> int:
    """Writes the files of the suites, or with ``--check`` prints what differs.

    Returns:
        The exit code: 1 where ``--check`` found a difference, else 0.
    """
    results = Path(options.results)
    if options.readme:
        publish.show_in_readme(results, options.readme)
    published = list(_published(results, options.suites))
    if options.check:
        return _check(results, published, whole=not options.suites)
    for suite in published:
        suite.write(results / suite.selection.name, options.redraw)
        _print_summary(suite)
    if not options.suites:
        publish.write_overview(results, published)
        print(f"page     {results / 'index.html'}" if published else "there are no records yet")
    return 0


def _published(results: Path, names: list[str]) -> Iterator[Published]:
    """Yields what each suite's folder should hold; on a terminal it names the suite being read,
    since that may take seconds."""
    for folder in publish.chosen(results, names):
        if sys.stderr.isatty():
            print(f"reading  {folder}", file=sys.stderr, flush=True)
        yield publish.publish(folder, grid(folder))


def grid(folder: Path) -> Suite | None:
    """Returns the suite of a folder of records: the user's own that ``marl benchmark`` stored
    there, else this package's of that name; None where there is none."""
    own = own_suite.read(folder)
    if own is not None or folder.name not in benchmark.names():
        return own
    return benchmark.find(folder.name)


def _print_summary(suite: Published) -> None:
    selection = suite.selection
    gaps = f", {len(selection.left_out)} left out, {len(selection.missing)} missing"
    versions = listed([str(version) for version in selection.versions])
    print(f"suite    {selection.name}: {len(selection.runs)} runs{gaps}; learning {versions}")
    if selection.older:
        print(
            f"older    {len(selection.older)} records are left out, because the same task and "
            "algorithm have records of a newer version of learning"
        )
    for cell, reason in selection.left_out:
        print(printable(f"left out {cell}: {reason}"), file=sys.stderr)


def _check(results: Path, published: list[Published], whole: bool) -> int:
    lines = [d for s in published for d in s.differences(results / s.selection.name)]
    if whole:
        lines += publish.overview_differences(results, published)
    for line in lines:
        print(f"marl: {line}", file=sys.stderr)
    if lines:
        print("marl: run 'marl tables' and commit what it writes", file=sys.stderr)
    return 1 if lines else 0
