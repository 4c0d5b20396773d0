"""The command ``marl benchmark``: a suite's runs, each in a process of its own, and their records.
Loads no torch."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from marl import configs
from marl.benchmark import own_suite, records
from marl.benchmark.records import Cell
from marl.benchmark.suite import Suite, chosen
from marl.benchmark.suite import read as read_suite
from marl.cli import check_cells
from marl.cli.progress import ProgressView
from marl.cli.quoting import quoted
from marl.errors import UserError, unknown
from marl.launch import file_settings
from marl.launch.job import ABSOLUTE, Job, difference
from marl.launch.scheduler import JobScheduler, Outcome, place_of_slot
from marl.utils.places import without_places
from marl.utils.versions import LEARNING, learning_of

# Beginnings of words that do not change a run's result.
WITHOUT_EFFECT = ("directory=", "progress=", "device=", "wandb", "--trust")
FOLDER = Path(configs.__file__).parent / "benchmark"


def names() -> list[str]:
    """Returns the names of this package's suites."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(name: str) -> Suite:
    """Returns the suite of that name or file.

    Raises:
        UserError: it does not exist, or its file names code from elsewhere and is not trusted.
    """
    if name.endswith((".yaml", ".yml")):
        suite = read_suite(Path(name))
        file_settings.check(Path(name), FOLDER, suite.all_settings())
        return suite
    if name not in names():
        raise unknown("benchmark", name, names())
    return read_suite(FOLDER / f"{name}.yaml")


@dataclass(frozen=True)
class Plan:
    """The runs of a suite to do, and how.

    Attributes:
        suite: the suite.
        cells: its runs to do.
        runs: folder of the run directories.
        results: folder of the records.
        wandb: whether runs log to W&B.
        prune: whether a recorded run loses the checkpoints that only resuming needs.
        trust: whether run directories of other users are trusted.
    """

    suite: Suite
    cells: Sequence[Cell]
    runs: Path
    results: Path
    wandb: bool = False
    prune: bool = False
    trust: bool = False

    def job(self, cell: Cell) -> Job:
        """Returns the job of a run."""
        words = self.suite.words(cell)
        if not any(word.startswith("video=") for word in words):  # otherwise the suite decides
            words = [*words, f"video={str(cell.seed == self.suite.seeds[0]).lower()}"]
        name = f"{cell.task}-{cell.algorithm}-{cell.seed}"
        directory = (self.runs / name).absolute()
        extra_words = self._wandb(cell) if self.wandb else ()
        return Job(str(cell), tuple(words), directory, extra_words, self.trust)

    def _wandb(self, cell: Cell) -> tuple[str, ...]:
        group = quoted(f"{self.suite.name}/{cell.task}/{cell.algorithm}")
        tags = f"[{quoted(self.suite.name)},{cell.task},{cell.algorithm}]"
        return ("wandb=true", f"wandb_group={group}", f"wandb_tags={tags}")

    def recorded(self, cell: Cell) -> bool:
        """Returns whether the run has a record of the current version of learning."""
        path = self.results / cell.folder
        return records.exists(path) and learning_of(path) >= LEARNING

    def outdated(self, cells: Sequence[Cell]) -> str:
        """Returns a line on the records and runs among ``cells`` of an older version of learning,
        which start again; empty without any."""
        before = sum(records.exists(self.results / cell.folder) for cell in cells)
        runs = sum(self.job(cell).outdated for cell in cells)
        if not before and not runs:
            return ""
        return (
            f"\nagain    of a version of learning before {LEARNING}: records {before} (each is "
            f"replaced when its new one is complete), runs {runs} (renamed to NAME.learning-1)"
        )

    def problems(self) -> Iterator[Outcome]:
        """Yields the existing records that are not what this suite asks for, as failed."""
        for cell in self.cells:
            if self.recorded(cell) and (why := self._problem(cell)):
                yield Outcome(self.job(cell), "failed", why)

    def _problem(self, cell: Cell) -> str:
        path = self.results / cell.folder
        try:
            records.check(path)
            return self._other_settings(cell, path)
        except UserError as error:
            return f"{path}: {error}"
        except (LookupError, TypeError, AttributeError) as error:
            return f"{path} is not what a run writes: {type(error).__name__} {error}"

    def _other_settings(self, cell: Cell, path: Path) -> str:
        command = records.read_json(path / "provenance.json")["command"]
        before = [word for word in command[2:] if not word.startswith(WITHOUT_EFFECT)]
        now = without_places(self.job(cell).words)  # as records have them
        if why := difference(set(without_places(before)), set(now), path):
            return why
        episodes = records.read_json(path / "config.json")["settings"]["absolute_episodes"]
        required = [word for word in self.suite.words(cell) if word.startswith(ABSOLUTE)]
        if required == [f"{ABSOLUTE}{episodes}"]:
            return ""
        return (
            f"{path} holds an absolute metric of {episodes} episodes, and the suite sets "
            f"{required[0]}; remove the record to measure the trained run again, or restore the "
            "setting"
        )

    def record(self, job: Job) -> None:
        """Writes the record of a run that has ended."""
        if not self.is_recorded(job):  # unless another launcher did meanwhile
            cell = self._cell(job)
            first = cell.seed == self.suite.seeds[0]
            records.write(job.directory, self.results, cell, policy=first)
        if self.prune:
            prune(job.directory)

    def is_recorded(self, job: Job) -> bool:
        """Returns whether the job's run has a record."""
        return self.recorded(self._cell(job))

    def _cell(self, job: Job) -> Cell:
        return next(cell for cell in self.cells if str(cell) == job.name)


def run(options: Namespace) -> int:
    """Runs what has no record yet.

    Returns:
        The exit code: 0 when all runs have a record, 1 where one failed, 128 + n after signal n.
    """
    suite = find(options.name)
    results = Path(options.results or Path("results") / suite.name)
    if options.references:
        from marl.cli import references

        path = references.measure(suite, results)
        _store_own(suite, results)
        print(f"written  {path}\ntables   marl tables")
        return 0
    cells = chosen(suite, options.only)
    runs = Path(options.runs) / suite.name
    plan = Plan(suite, cells, runs, results, options.wandb, options.prune, options.trust)
    todo = [cell for cell in plan.cells if not plan.recorded(cell)]
    parallel = options.jobs or os.cpu_count() or 1
    places = [f"device={device}" for device in options.devices]
    if todo:
        check_cells.check(suite, todo)
    if options.dry_run:
        for number, cell in enumerate(todo):
            place = place_of_slot(places, number % parallel)
            print(shlex.join([*plan.job(cell).command(), *place]))
        return 0
    _store_own(suite, results)
    problems = list(plan.problems())
    done = len(plan.cells) - len(todo)
    older = plan.outdated(todo)
    print(
        f"suite    {suite.name}: {len(plan.cells)} runs, {done} recorded already, "
        f"{len(todo)} to do, {parallel} at once\nruns     {plan.runs}\nrecords  {results}{older}",
        flush=True,
    )
    scheduler = JobScheduler(
        [plan.job(cell) for cell in todo], parallel, plan.record, places, plan.is_recorded
    )
    with ProgressView(suite.name, len(plan.cells), done) as view:
        scheduler.run(view)
    return summarize(plan, problems + scheduler.outcomes, scheduler.signals)


def _store_own(suite: Suite, results: Path) -> None:
    """Stores a suite of the user's own beside its records, for the tables."""
    if suite.name not in names() or suite != find(suite.name):
        own_suite.write(suite, results)


def prune(run: Path) -> None:
    """Deletes a run's checkpoints but those at which its teams were best."""
    for path in (run / "checkpoints").glob("*"):
        if not path.name.startswith("best-"):
            path.unlink()


def summarize(plan: Plan, outcomes: Sequence[Outcome], signals: Sequence[int]) -> int:
    """Prints how the runs ended.

    Args:
        plan: what was to do.
        outcomes: of the runs, and problems of records.
        signals: that arrived.

    Returns:
        The exit code, as of ``run``.
    """
    by = {status: [o for o in outcomes if o.status == status] for status in ("failed", "stopped")}
    for outcome in by["failed"]:
        print(f"\nfailed   {outcome.job.name}: {outcome.why}\nlog      {outcome.job.log}")
    recorded = sum(plan.recorded(cell) for cell in plan.cells)
    print(f"\nrecords  {recorded} of {len(plan.cells)} in {plan.results}", end="")
    print(f", {len(by['failed'])} failed" if by["failed"] else "")
    if by["stopped"]:
        print(f"stopped  {len(by['stopped'])} runs left; the same command continues")
    if recorded == len(plan.cells) and not by["failed"]:
        size = sum(path.stat().st_size for path in plan.runs.rglob("*") if path.is_file())
        print(f"runs     {size / 2**30:.1f} GiB in {plan.runs}; records do not need them")
        print("tables   marl tables")
    if signals:
        return 128 + signals[0]
    return 1 if by["failed"] else 0


def listed() -> list[str]:
    """Returns the lines of ``marl list benchmarks``: names, numbers of runs, and descriptions."""
    suites = [find(name) for name in names()]
    return [f"{s.name:12} {len(s.cells()):3} runs  {s.about}" for s in suites]
