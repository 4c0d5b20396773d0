"""Records made of finished runs: their places in a suite, and the checks before any is written."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from marl.benchmark import own_suite, records
from marl.benchmark.records import ABSOLUTE, BadRecord, Cell
from marl.comparison import overview
from marl.comparison.overview import Overview
from marl.comparison.settings import (
    described,
    differences,
    settings_of,
    short_names,
    within_algorithms,
)
from marl.errors import UserError
from marl.tables.record import BUDGET
from marl.tables.record import read as read_record
from marl.training.run_outcome import FINISHED, PHRASES, RUNNING
from marl.utils.versions import LEARNING


@dataclass(frozen=True)
class Entry:
    """A run and its place in the suite."""

    run: Overview
    cell: Cell


def entries(
    runs: Sequence[Overview], task: str | None = None, algorithm: str | None = None
) -> list[Entry]:
    """Returns the places of runs in a suite.

    Tasks are named after the task, and algorithms after the algorithm, with the settings in which
    the runs differ: those of the task and of the budget go into the task's name, which is what
    tables compare within, and all others of one algorithm's runs into the algorithm's.

    Args:
        runs: the runs.
        task: name of the task in the suite; None for the task's own.
        algorithm: name of the algorithm in the suite; None for its own.

    Raises:
        UserError: a given name would be that of several tasks or algorithms.
    """
    differing = differences(runs, [settings_of(run) for run in runs])
    names = short_names(key for own in differing for key in own)
    tasks, algorithms = [], []
    within = within_algorithms(runs, differing)
    for run, own, part in zip(runs, differing, within, strict=True):
        of_task = {key: value for key, value in own.items() if _is_of_task(key)}
        rest = {k: v for k, v in part.items() if k not in of_task and k not in ("seed", "learning")}
        tasks.append(_slug(f"{_task_name(run)} {described(of_task, names)}"))
        algorithms.append(_slug(f"{run.algorithm} {described(rest, names)}"))
    tasks = _named("task", task, tasks)
    algorithms = _named("algorithm", algorithm, algorithms)
    cells = (Cell(t, a, run.seed) for t, a, run in zip(tasks, algorithms, runs, strict=True))
    return [Entry(run, cell) for run, cell in zip(runs, cells, strict=True)]


def _is_of_task(key: str) -> bool:
    return key.startswith("task.") or key in BUDGET


def _task_name(run: Overview) -> str:
    """Returns the name of a task, of one in a file without the file's folders."""
    return (
        os.path.basename(run.task) if run.task.endswith(".py") or ".py:" in run.task else run.task
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "task"


def _named(kind: str, name: str | None, own: Sequence[str]) -> list[str]:
    """Returns a name for each run: the given one, or its own.

    Raises:
        UserError: the given name is no name, or the runs are of several tasks or algorithms.
    """
    if name is None:
        return list(own)
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise UserError(f"--{kind} {name!r} must be of lower-case letters, digits and _")
    if len(several := sorted(set(own))) > 1:
        raise UserError(
            f"--{kind} {name} would name {', '.join(several)} alike; record one of them at a time"
        )
    return [name] * len(own)


def suite_folder(results: Path, name: str, package_suites: Sequence[str]) -> Path:
    """Returns the folder of a suite that may hold runs of the user's own.

    Args:
        results: the folder of all suites.
        name: of the suite.
        package_suites: names of this package's suites.

    Raises:
        UserError: its name is none, or its records are those of ``marl benchmark``.
    """
    if not re.fullmatch(r"\w[\w-]*", name, re.ASCII):
        raise UserError(f"--suite {name!r} must be of letters, digits, - and _")
    if name in package_suites or (results / name / own_suite.FILE).exists():
        raise UserError(
            f"suite {name!r} is a grid of its own, whose records 'marl benchmark' writes; choose "
            "another --suite for other runs"
        )
    return results / name


def check(plan: Sequence[Entry], folder: Path) -> list[Entry]:
    """Checks that every run can be a record of the suite, before any is written.

    Args:
        plan: the runs and their places.
        folder: of the suite's records.

    Returns:
        Those that have no record yet, so that a command which was cut off can be repeated.

    Raises:
        UserError: one cannot.
    """
    places: dict[Cell, Entry] = {}
    todo = [entry for entry in plan if not _is_recorded(entry, folder)]
    for entry in plan:
        _check_run(entry.run)
        if other := places.get(entry.cell):
            raise UserError(
                f"{str(entry.run.directory)!r} has the settings and the seed of "
                f"{str(other.run.directory)!r}; leave one of them out"
            )
        places[entry.cell] = entry
        if entry in todo and records.exists(folder / entry.cell.folder):
            raise UserError(
                f"{str(folder / entry.cell.folder)!r} holds a record already; remove it to record "
                f"{str(entry.run.directory)!r} in its place, or name an --algorithm"
            )
        _check_beside(entry, folder)
    with tempfile.TemporaryDirectory() as temporary:
        for entry in todo:
            _check_record(entry, Path(temporary))
    return todo


def _is_recorded(entry: Entry, folder: Path) -> bool:
    """Returns whether the record in a run's place is of this very run."""
    record = folder / entry.cell.folder
    return records.exists(record) and all(
        _bytes(record / name) == _bytes(entry.run.directory / name) is not None
        for name in ("evaluations.jsonl", ABSOLUTE)
    )


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _check_run(run: Overview) -> None:
    """Raises UserError for a run that is not finished, or lacks what a record holds."""
    name, settings = str(run.directory), run.config["settings"]
    resume = f"marl resume {run.directory}"
    if run.config["task"] is None:
        raise UserError(
            f"{name!r} was made by a Python function without a name, and a record names its task; "
            "make the run with Task('module:function')"
        )
    if run.state == RUNNING:
        raise UserError(f"{name!r} is being trained; record it when it has finished")
    if run.state != FINISHED:
        raise UserError(
            f"{name!r} {PHRASES[run.state]} at {run.frames:,} of {run.total:,} frames; finish it "
            f"by '{resume}', or leave it out"
        )
    if run.frames < run.total:
        raise UserError(
            f"{name!r} ended early, at {run.frames:,} of {run.total:,} frames, and a record holds "
            f"all of them; train on by '{resume} stop_at_return=null stop_after_no_improvement=0'"
        )
    if run.learning != LEARNING:
        raise UserError(
            f"{name!r} learned by version {run.learning}, which is never averaged with version "
            f"{LEARNING} of this program; train it again"
        )
    if not settings.get("evaluation_interval"):
        raise UserError(
            f"{name!r} was evaluated at its end only, and a record holds a learning curve; train "
            "it with evaluation_interval above 0, such as a twentieth of total_frames"
        )
    for file, words in ((ABSOLUTE, " absolute_episodes=320"), ("random.json", "")):
        if not (run.directory / file).exists():
            raise UserError(
                f"{name!r} has no {file}, which a record holds; '{resume}{words}' measures it"
            )


def _check_beside(entry: Entry, folder: Path) -> None:
    """Raises UserError where the record's place holds other seeds with other settings."""
    for path in sorted((folder / entry.cell.folder).parent.glob("seed_*")):
        try:
            other = overview.read(path)
        except UserError:  # damaged, as the tables will say
            continue
        own, others = differences([entry.run, other], [*map(settings_of, (entry.run, other))])
        keys = [key for key in own if key != "seed"]
        if keys or other.task != entry.run.task:
            why = _comparison(own, others, keys) or f"the task {other.task}"
            raise UserError(
                f"{str(path)!r} was trained with {why}, unlike {str(entry.run.directory)!r}; "
                "give this one another name by --algorithm or --task"
            )


def _comparison(own: Mapping[str, str], others: Mapping[str, str], keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={others.get(key)} (not {own[key]})" for key in keys[:3])


def _check_record(entry: Entry, folder: Path) -> None:
    """Raises UserError where the tables could not read the record; writes it to ``folder``."""
    try:
        read_record(entry.cell, records.write(entry.run.directory, folder, entry.cell))
    except BadRecord as error:
        raise UserError(f"{str(entry.run.directory)!r} cannot be recorded: {error}") from None


def write(plan: Sequence[Entry], folder: Path) -> Iterator[Path]:
    """Writes the records and yields their folders.

    The first seed of each task and algorithm brings its trained policy, as in the zoo.

    Args:
        plan: the runs and their places, which ``check`` accepted.
        folder: of the suite's records.
    """
    first: dict[tuple[str, str], int] = {}
    for cell in (entry.cell for entry in plan):
        row = cell.task, cell.algorithm
        first[row] = min(cell.seed, first.get(row, cell.seed))
    for entry in plan:
        cell = entry.cell
        beside = (folder / cell.folder).parent.glob(f"seed_*/{records.POLICY}")
        policy = first[cell.task, cell.algorithm] == cell.seed and not any(beside)
        yield records.write(entry.run.directory, folder, cell, policy)
