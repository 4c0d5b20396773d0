"""``marl benchmark``: a suite's runs, each in a process of its own, and their records. Loads no
torch."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from marl import configs
from marl.benchmark import records
from marl.benchmark.records import Cell
from marl.benchmark.suite import Suite, chosen
from marl.benchmark.suite import read as read_suite
from marl.cli.progress import ProgressView
from marl.errors import UserError, unknown
from marl.launch import file_settings
from marl.launch.job import ABSOLUTE, Job, difference
from marl.launch.scheduler import JobScheduler, Outcome
from marl.utils.places import without_places
from marl.utils.versions import LEARNING, learning_of

ASIDE = ("directory=", "progress=", "device=", "wandb", "--trust")  # words that change no result
FOLDER = Path(configs.__file__).parent / "benchmark"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(name: str) -> Suite:
    """The suite of that name, or of that file.

    Raises:
        UserError: there is none, or its file names code from elsewhere without being trusted.
    """
    if name.endswith((".yaml", ".yml")):
        suite = read_suite(Path(name))
        file_settings.check(Path(name), FOLDER, suite.given())
        return suite
    if name not in names():
        raise unknown("benchmark", name, names())
    return read_suite(FOLDER / f"{name}.yaml")


@dataclass(frozen=True)
class Plan:
    """What is to be done of a suite."""

    suite: Suite
    cells: Sequence[Cell]
    runs: Path  # where runs are kept while they go on
    results: Path  # where records go
    wandb: bool = False  # whether runs are logged there
    prune: bool = False  # whether a recorded run loses what only continuing needs
    trust: bool = False  # whether somebody else's run directories are trusted

    def job(self, cell: Cell) -> Job:
        words = self.suite.words(cell)
        if not any(word.startswith("video=") for word in words):  # else the suite decides
            words = [*words, f"video={str(cell.seed == self.suite.seeds[0]).lower()}"]
        name = f"{cell.task}-{cell.algorithm}-{cell.seed}"
        aside = self._wandb(cell) if self.wandb else ()
        return Job(str(cell), tuple(words), (self.runs / name).absolute(), aside, self.trust)

    def _wandb(self, cell: Cell) -> tuple[str, ...]:
        group = f"{self.suite.name}/{cell.task}/{cell.algorithm}"
        tags = f"[{self.suite.name},{cell.task},{cell.algorithm}]"
        return ("wandb=true", f"wandb_group={group}", f"wandb_tags={tags}")

    def jobs(self) -> dict[str, Cell]:
        return {str(cell): cell for cell in self.cells}

    def recorded(self, cell: Cell) -> bool:
        """Whether the run has a record; one of an older version of learning is to be replaced."""
        path = self.results / cell.folder
        return records.exists(path) and learning_of(path) >= LEARNING

    def outdated(self, cells: Sequence[Cell]) -> str:
        """A line on the records and runs of an older version of learning, which begin anew."""
        before = sum(records.exists(self.results / cell.folder) for cell in cells)
        runs = sum(self.job(cell).outdated for cell in cells)
        if not before and not runs:
            return ""
        return (
            f"\nanew     of a version of learning before {LEARNING}: records {before} (each stays "
            f"until its new one is there), runs {runs} (kept as NAME.learning-1)"
        )

    def problems(self) -> Iterator[Outcome]:
        """Records that are there but are not what this suite asks for."""
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
            return f"{path}: it is not as a run writes it: {type(error).__name__} {error}"

    def _other_settings(self, cell: Cell, path: Path) -> str:
        command = records.read_json(path / "provenance.json")["command"]
        ours = {word for word in command[2:] if not word.startswith(ASIDE)}
        wanted = without_places(self.job(cell).words)  # as records tell them
        if why := difference(set(without_places(list(ours))), set(wanted), path):
            return why
        episodes = records.read_json(path / "config.json")["settings"]["absolute_episodes"]
        wanted = [word for word in self.suite.words(cell) if word.startswith(ABSOLUTE)]
        if wanted == [f"{ABSOLUTE}{episodes}"]:
            return ""
        return (
            f"{path} holds an absolute metric of {episodes} episodes where now {wanted[0]} is "
            "asked; remove it to have the trained run measured anew, or set it back"
        )

    def keep(self, job: Job) -> None:
        """Makes the record of a run that has ended."""
        if not self.ended(job):  # by another launcher, meanwhile
            records.write(job.directory, self.results, self.jobs()[job.name])
        if self.prune:
            prune(job.directory)

    def ended(self, job: Job) -> bool:
        return self.recorded(self.jobs()[job.name])


def run(options: Namespace) -> int:
    """Runs what has no record yet; 0 when the whole of it has one, 1 where a run failed."""
    suite = find(options.name)
    results = Path(options.results or Path("results") / suite.name)
    cells = chosen(suite, options.only)
    runs = Path(options.runs) / suite.name
    plan = Plan(suite, cells, runs, results, options.wandb, options.prune, options.trust)
    todo = [cell for cell in plan.cells if not plan.recorded(cell)]
    if options.dry_run:
        for cell in todo:
            print(" ".join(plan.job(cell).command()))
        return 0
    problems = list(plan.problems())
    parallel = options.jobs or os.cpu_count() or 1
    done = len(plan.cells) - len(todo)
    older = plan.outdated(todo)
    print(
        f"suite    {suite.name}: {len(plan.cells)} runs, {done} recorded already, "
        f"{len(todo)} to do, {parallel} at once\nruns     {plan.runs}\nrecords  {results}{older}",
        flush=True,
    )
    places = [f"device={device}" for device in options.devices]
    scheduler = JobScheduler(
        [plan.job(cell) for cell in todo], parallel, plan.keep, places, plan.ended
    )
    with ProgressView(suite.name, len(plan.cells), done) as watch:
        scheduler.run(watch)
    return summarize(plan, problems + scheduler.outcomes, scheduler.signals)


def prune(run: Path) -> None:
    """Keeps of a run's checkpoints those at which its teams were best."""
    for path in (run / "checkpoints").glob("*"):
        if not path.name.startswith("best-"):
            path.unlink()


def summarize(plan: Plan, outcomes: Sequence[Outcome], signals: Sequence[int]) -> int:
    """Says what ended how; the exit code."""
    by = {status: [o for o in outcomes if o.status == status] for status in ("failed", "stopped")}
    for outcome in by["failed"]:
        print(f"\nfailed   {outcome.job.name}: {outcome.why}\nlog      {outcome.job.log}")
    there = sum(plan.recorded(cell) for cell in plan.cells)
    print(f"\nrecords  {there} of {len(plan.cells)} in {plan.results}", end="")
    print(f", {len(by['failed'])} failed" if by["failed"] else "")
    if by["stopped"]:
        print(f"stopped  {len(by['stopped'])} runs to be done; the same command goes on")
    if there == len(plan.cells) and not by["failed"]:
        size = sum(path.stat().st_size for path in plan.runs.rglob("*") if path.is_file())
        print(f"runs     {size / 2**30:.1f} GiB in {plan.runs}; records do not need them")
        print("tables   marl tables")
    if signals:
        return 128 + signals[0]
    return 1 if by["failed"] else 0


def listed() -> list[str]:
    """The suites with their sentences, for ``marl list benchmarks``."""
    found = [find(name) for name in names()]
    return [f"{s.name:12} {len(s.cells()):3} runs  {s.about}" for s in found]
