"""The command ``marl compare``: curves and final returns of runs, side by side. Loads no torch."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from marl.comparison import groups, history, report, results
from marl.comparison.discovery import CONFIG, runs_of
from marl.comparison.history import History
from marl.comparison.text import aligned
from marl.errors import UserError


def compare(options: Namespace) -> int:
    """Runs ``marl compare``: prints the table and the remarks, and writes the files.

    Returns:
        The exit code.
    """
    out = Path(options.out)
    if (out / CONFIG).exists():
        raise UserError(f"--out {str(out)!r} is a run directory; name another folder")
    histories, faults = _read(runs_of(options.runs), options.sampled)
    made, remarks = groups.grouped(histories)
    if not made:
        raise UserError(f"there is nothing to compare: {'; '.join([*faults, *remarks][:3])}")
    everything = ["these are the episodes with sampled actions"]
    kind = everything if options.sampled else groups.sampled_alone(made)
    remarks = [*kind, *faults, *remarks, *groups.remarks_of(made)]
    comparison = report.Comparison(made, list(results.points(made)), results.finals(made), remarks)
    for title, rows in report.sections(comparison.finals).items():
        print(f"\n{title}")
        print("\n".join(aligned([report.COLUMNS, *map(report.cells, rows)], words=1)))
    print("\ninterquartile mean of the last evaluation's mean return over seeds [95% interval]")
    for remark in remarks:
        print(f"marl: note: {remark}", file=sys.stderr)
    for path in report.write(comparison, out):
        print(f"{'page' if path.suffix == '.html' else 'written':8} {path}")
    return 0


def _read(directories: Sequence[Path], sampled: bool) -> tuple[list[History], list[str]]:
    """Returns the runs with their curves, and why others cannot be read."""
    histories, faults = [], []
    for directory in directories:
        try:
            histories.append(history.read(directory, sampled))
        except UserError as error:
            faults.append(f"left out: {error}")
    return histories, faults
