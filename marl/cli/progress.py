"""The view of many runs: how far each is, and how long all will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from marl.launch.progress import RunProgress, run_progress
from marl.launch.scheduler import JobScheduler, Outcome, Running

REFRESH = 2.0  # seconds between two reads of the runs' files


class ProgressView:
    """A live bar for each running run and one for all, on a terminal; elsewhere a plain line when a
    run starts or ends, and one for all every half minute.

    Args:
        title: of all runs together.
        total: number of runs, with those that were done before.
        done: number of runs that were done before.
        every: seconds between two lines for all runs, off a terminal.
    """

    def __init__(self, title: str, total: int, done: int = 0, every: float = 30.0):
        self.console, self.title, self.total, self.before = Console(), title, total, done
        self.every, self.refreshed, self.printed = every, 0.0, time.monotonic()
        self.shown_outcomes = 0
        self.started: set[str] = set()  # names of jobs
        self.shown_roundings: set[str] = set()
        self.durations: list[float] = []  # seconds of the runs that ended well here
        self.bars: dict[str, TaskID] = {}
        self.progress: Progress | None = None
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[far]}"),
                TextColumn("[green]{task.fields[returns]}"),
                TextColumn("[cyan]{task.fields[left]}"),
            )
            self.progress = Progress(*columns, console=self.console)
            self.all = self._add(f"[bold]{title}", total)

    def __enter__(self) -> ProgressView:
        if self.progress:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def __call__(self, scheduler: JobScheduler) -> None:
        now = time.monotonic()
        for outcome in scheduler.outcomes[self.shown_outcomes :]:
            self._show_end(outcome, scheduler)
        self.shown_outcomes = len(scheduler.outcomes)
        for one in scheduler.running:
            self._show_start(one)
        if now - self.refreshed >= REFRESH or not scheduler.running:
            self.refreshed = now
            self._show_progress(
                {one.job.name: run_progress(one.job.directory) for one in scheduler.running},
                scheduler,
            )

    def _show_start(self, one: Running) -> None:
        if one.job.name in self.started:
            return
        self.started.add(one.job.name)
        if self.progress:
            self.bars[one.job.name] = self._add(one.job.name, 1)
        else:
            self._print(f"started  {one.job.name}")

    def _show_end(self, outcome: Outcome, scheduler: JobScheduler) -> None:
        name = outcome.job.name
        if outcome.status == "done" and (seconds := scheduler.seconds.get(name)):
            self.durations.append(seconds)
        progress = run_progress(outcome.job.directory)
        returns = progress.returns
        self._show_rounding(progress)  # of a run that was shorter than the time between two reads
        if self.progress and name in self.bars:
            self.progress.remove_task(self.bars.pop(name))
        why = f": {outcome.why.splitlines()[0]}" if outcome.why else ""
        returns = "" if outcome.why else returns
        if outcome.status != "stopped" or name in self.started:
            self._print(f"{outcome.status:8} {name}  {returns}{why}")

    def _show_progress(self, progress: dict[str, RunProgress], scheduler: JobScheduler) -> None:
        done = self.before + sum(o.status == "done" for o in scheduler.outcomes)
        left = remaining(progress, len(scheduler.waiting), scheduler.parallel, self.durations)
        shares = ", ".join(
            f"{name} {s.frames / s.total:.0%}" for name, s in progress.items() if s.total
        )
        for each in progress.values():
            self._show_rounding(each)
        if self.progress:
            self._update(self.all, done, f"{done}/{self.total} runs", "", left)
            for name, s in progress.items():
                if name in self.bars:
                    far = f"{s.frames:,}/{s.total:,} frames"
                    share = s.frames / (s.total or 1)
                    self._update(self.bars[name], share, far, s.returns, s.seconds)
        elif time.monotonic() - self.printed >= self.every and scheduler.running:
            self.printed = time.monotonic()
            self._print(f"{self.title}  {done}/{self.total} runs  left {clock(left)}  {shares}")

    def _show_rounding(self, progress: RunProgress) -> None:
        """Prints, once for all runs, that a run plays more frames than were asked for."""
        if progress.rounding and progress.rounding not in self.shown_roundings:
            self.shown_roundings.add(progress.rounding)
            self._print(f"frames   {progress.rounding}")

    def _add(self, name: str, total: float) -> TaskID:
        assert self.progress is not None
        return self.progress.add_task(name, total=total, far="", returns="", left="")

    def _update(self, bar: TaskID, far: float, word: str, returns: str, left: float | None) -> None:
        assert self.progress is not None
        self.progress.update(bar, completed=far, far=word, returns=returns, left=clock(left))

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows on stderr how much of ``total`` is done, with the time left.

    On a terminal it is a bar, elsewhere a line after two seconds and then every ten.

    Args:
        title: what is counted.
        total: the whole number.

    Yields:
        A function to call with each number that is done.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(title, total=total)
            yield lambda count: progress.advance(task, count)
        return
    start, done, due = time.monotonic(), 0, 2.0

    def advance(count: int) -> None:
        nonlocal done, due
        done += count
        seconds = time.monotonic() - start
        if done < total and seconds >= due:
            due = seconds + 10
            left = clock(seconds * (total - done) / done)
            print(f"{title}  {done}/{total}  left {left}", file=sys.stderr, flush=True)

    yield advance


def remaining(
    progress: dict[str, RunProgress], waiting: int, parallel: int, durations: Sequence[float]
) -> float | None:
    """Returns the seconds until all runs will have ended; None where nothing is known yet.

    A waiting run is assumed to take as long as those that ended, or else as those that are running.

    Args:
        progress: of the running runs, by name.
        waiting: number of runs that have not started.
        parallel: number of runs at the same time.
        durations: seconds that the ended runs took.
    """
    lengths = list(durations) or [s.total / s.speed for s in progress.values() if s.speed > 0]
    if not lengths:
        return None
    each = sum(lengths) / len(lengths)
    going = [each if s.seconds is None else s.seconds for s in progress.values()]
    return max(max(going, default=0.0), (sum(going) + waiting * each) / parallel)


def clock(seconds: float | None) -> str:
    """Returns ``1:02:03``, or dashes for None."""
    if seconds is None:
        return "-:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
