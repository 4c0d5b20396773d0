"""The command ``marl record``: finished runs as records of a suite. Loads no torch."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from marl.cli.benchmark import names
from marl.comparison import overview, recording
from marl.comparison.discovery import runs_of


def record(options: Namespace) -> int:
    """Runs ``marl record``. Nothing is written unless all runs can be recorded.

    Returns:
        The exit code.
    """
    folder = recording.suite_folder(Path(options.results), options.suite, names())
    runs = [overview.read(directory) for directory in runs_of(options.runs)]
    plan = recording.entries(runs, options.task, options.algorithm)
    todo = recording.check(plan, folder)
    for path in recording.write(todo, folder):
        print(f"record   {path}")
    if recorded := len(plan) - len(todo):
        print(f"before   {recorded} of these {len(plan)} runs were recorded already")
    where = "" if options.results == "results" else f" --results {options.results}"
    print(f"tables   marl tables {options.suite}{where}")
    return 0
