"""A running sweep on this machine: its runs, and how each of them ended."""

from __future__ import annotations

import csv
import io
import json
import math
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marl.cli.progress import ProgressView
from marl.errors import UserError
from marl.launch.job import Job
from marl.launch.progress import run_progress
from marl.launch.scheduler import JobScheduler, Outcome
from marl.launch.sweep import Point, Sweep, history, missing
from marl.utils.versions import LEARNING

REFRESH = 2.0  # seconds between two reads of the running runs' metric


@dataclass
class Trial:
    """One point and its run.

    Attributes:
        job: the run.
        point: the values of the parameters.
        status: ``waiting``, ``done``, ``early`` (stopped by early_terminate), ``failed`` or
            ``stopped``.
        why: the reason of a failure.
        history: ``(frames, metric)`` of each time that the run logged the metric.
    """

    job: Job
    point: Point
    status: str = "waiting"
    why: str = ""
    history: list[tuple[int, float]] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the run was trained to its end: the curve is drawn last."""
        progress = run_progress(self.job.directory)
        has_curve = (self.job.directory / "curve.png").exists()
        return has_curve and 0 < progress.total <= progress.frames


class Search:
    """A sweep in its directory: its runs, and how each ended (``sweep.json``, ``sweep.csv``).

    Args:
        sweep: the file's content.
        trials: its points and their runs.
        settings: those of the command line, for all runs.
        seed: of the sampled points.
        directory: where the runs and the results go.

    Raises:
        UserError: the directory holds another sweep.
    """

    def __init__(
        self,
        sweep: Sweep,
        trials: Sequence[Trial],
        settings: Mapping[str, str],
        seed: int,
        directory: Path,
    ):
        self.sweep, self.trials, self.directory = sweep, trials, directory
        self.identity = {
            "method": sweep.method, "seed": seed, "parameters": sweep.space(),
            "settings": dict(settings), "learning": LEARNING,
        }  # fmt: skip
        self.refreshed, self.handled_outcomes = 0.0, 0
        self.problem: UserError | None = None
        stopped_early = self._stopped_early()
        for trial in trials:
            if trial.job.name in stopped_early:
                trial.status = "early"
            elif trial.done:
                trial.status = "done"

    def _stopped_early(self) -> list[str]:
        """Returns the runs that an earlier call stopped early, after checking that the directory is
        of the same sweep."""
        path = self.directory / "sweep.json"
        if not path.exists():
            return []
        before = json.loads(path.read_text())
        identity = {"learning": 1, **before["asked"]}
        for name, value in self.identity.items():
            if identity[name] != value:
                difference = _difference(identity[name], value)
                raise UserError(
                    f"{str(self.directory)!r} holds another sweep: {name} {difference}; choose "
                    "another with --directory, or move it away"
                )
        return [row["run"] for row in before["runs"] if row["status"] == "early"]

    def run(self, parallel: int, places: Sequence[str] = ()) -> list[int]:
        """Runs what is not done yet.

        Args:
            parallel: number of runs at the same time.
            places: settings of where they run, taken in turn, such as ``device=cuda:0``.

        Returns:
            The signals that arrived.
        """
        self.write()
        waiting = [] if self._reached() else [t for t in self.trials if t.status == "waiting"]
        scheduler = JobScheduler([trial.job for trial in waiting], parallel, places=places)
        with ProgressView("sweep", len(self.trials), len(self.trials) - len(waiting)) as view:

            def watch(scheduler: JobScheduler) -> None:
                self._update(scheduler)
                view(scheduler)

            scheduler.run(watch)
        self.write()
        if self.problem:
            raise self.problem
        return scheduler.signals

    def _update(self, scheduler: JobScheduler) -> None:
        """Reads the metric of the running runs, stops those that are behind, and notes how others
        ended."""
        by_name = {trial.job.name: trial for trial in self.trials}
        for outcome in scheduler.outcomes[self.handled_outcomes :]:
            self._note_end(by_name[outcome.job.name], outcome)
        now = time.monotonic()
        if now - self.refreshed > REFRESH or not scheduler.running:
            self.refreshed = now
            for one in scheduler.running:
                trial = by_name[one.job.name]
                trial.history = history(one.job.directory, self.sweep.metric)
                if one.process and trial.status == "waiting" and self._behind(trial):
                    trial.status = "early"
                    one.process.send_signal(signal.SIGTERM)
            self._check_metric(scheduler)
        if len(scheduler.outcomes) > self.handled_outcomes:
            self.handled_outcomes = len(scheduler.outcomes)
            self.write()  # which reads the metric of those that ended
        if self._reached():
            scheduler.waiting.clear()

    def _note_end(self, trial: Trial, outcome: Outcome) -> None:
        if trial.status == "early" and outcome.status == "failed":  # by the signal that we sent
            outcome.status, outcome.why = "early", ""
        trial.status, trial.why = outcome.status, outcome.why

    def _behind(self, trial: Trial) -> bool:
        rule = self.sweep.early_terminate
        values = [self._upward(one) for one in self.trials]
        return rule is not None and rule.behind(self._upward(trial), values)

    def _upward(self, trial: Trial) -> list[float]:
        return [self.sweep.upward(value) for _, value in trial.history]

    def _check_metric(self, scheduler: JobScheduler) -> None:
        """Stops the sweep where a run does not log the metric."""
        for job in [one.job for one in scheduler.running] + [o.job for o in scheduler.outcomes]:
            done = any(o.job is job and o.status == "done" for o in scheduler.outcomes)
            error = missing(job.directory, self.sweep.metric, done)
            if error and not self.problem:
                self.problem = error
                scheduler.signals.append(signal.SIGTERM)

    def _reached(self) -> bool:
        """Returns whether a run has reached the target, after which no more runs are started."""
        values = (value for trial in self.trials for _, value in trial.history)
        return any(self.sweep.reached(value) for value in values)

    # ------------------------------------------------------------------------------------- results

    def ranked(self) -> list[Trial]:
        """Returns the trials by the last value of the metric, the best first and those without a
        value last."""

        def rank(trial: Trial) -> float:
            values = self._upward(trial)
            return -values[-1] if values and math.isfinite(values[-1]) else math.inf

        return sorted(self.trials, key=rank)

    def rows(self) -> list[dict[str, Any]]:
        """Returns the rows of ``sweep.json``, the best run first."""
        return [self._row(trial) for trial in self.ranked()]

    def _row(self, trial: Trial) -> dict[str, Any]:
        frames, last = trial.history[-1] if trial.history else (0, None)
        best = max(trial.history, key=lambda one: self.sweep.upward(one[1]), default=(0, None))
        return {
            "run": trial.job.name, "status": trial.status, "last": last, "frames": frames,
            "best": best[1], "best_frames": best[0], "why": trial.why,
            "parameters": {name: trial.point[name] for name in self.sweep.varied},
        }  # fmt: skip

    def write(self) -> None:
        """Writes ``sweep.json`` and ``sweep.csv`` from the runs' own files."""
        from marl.training.checkpoint import write_atomic
        from marl.training.run_directory import write_json

        for trial in self.trials:
            trial.history = history(trial.job.directory, self.sweep.metric)
        self.directory.mkdir(parents=True, exist_ok=True)
        metric = {"name": self.sweep.metric, "goal": self.sweep.goal}
        rows = self.rows()
        content = {"asked": self.identity, "metric": metric, "runs": rows}
        write_json(self.directory / "sweep.json", content)
        text = io.StringIO()
        flat = [{**row, **row["parameters"]} for row in rows]
        columns = [key for key in flat[0] if key not in ("why", "parameters")]
        table = csv.DictWriter(text, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(flat)
        write_atomic(self.directory / "sweep.csv", text.getvalue().encode())


def _difference(before: Any, now: Any) -> str:
    if not isinstance(before, dict):
        return f"{before} there and {now} here"
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{n}: {before.get(n)} there and {now.get(n)} here" for n in names)
