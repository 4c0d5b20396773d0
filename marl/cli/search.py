"""A sweep under way on this machine: its runs, and how each of them ended."""

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
from marl.launch import sweep
from marl.launch.job import Job
from marl.launch.progress import run_progress
from marl.launch.scheduler import JobScheduler, Outcome
from marl.launch.sweep import Point, Sweep
from marl.utils.versions import LEARNING

LOOK = 2.0  # seconds between two looks at the metric of what runs


@dataclass
class Trial:
    """One point and its run."""

    job: Job
    point: Point
    status: str = "waiting"  # or done, early (stopped by early_terminate), failed, stopped
    why: str = ""
    history: list[tuple[int, float]] = field(default_factory=list)  # (frames, metric)

    @property
    def done(self) -> bool:
        """Whether it was trained to the end: the curve is drawn last."""
        found = run_progress(self.job.directory)
        drawn = (self.job.directory / "curve.png").exists()
        return drawn and 0 < found.total <= found.frames


class Search:
    """A sweep in its directory: its runs, and how each ended (``sweep.json``, ``sweep.csv``).

    Raises:
        UserError: the directory holds another sweep.
    """

    def __init__(
        self,
        found: Sweep,
        trials: Sequence[Trial],
        settings: Mapping[str, str],
        seed: int,
        directory: Path,
    ):
        self.sweep, self.trials, self.directory = found, trials, directory
        self.asked = {
            "method": found.method, "seed": seed, "parameters": found.space(),
            "settings": dict(settings), "learning": LEARNING,
        }  # fmt: skip
        self.looked, self.ended = 0.0, 0
        self.problem: UserError | None = None
        cut = self._earlier()
        for trial in trials:
            if trial.job.name in cut:
                trial.status = "early"
            elif trial.done:
                trial.status = "done"

    def _earlier(self) -> list[str]:
        """The runs that an earlier call stopped early."""
        path = self.directory / "sweep.json"
        if not path.exists():
            return []
        before = json.loads(path.read_text())
        asked = {"learning": 1, **before["asked"]}
        for name, value in self.asked.items():
            if asked[name] != value:
                told = _difference(asked[name], value)
                raise UserError(
                    f"{str(self.directory)!r} holds another sweep: {name} {told}; "
                    "choose another with --directory, or move it away"
                )
        return [row["run"] for row in before["runs"] if row["status"] == "early"]

    def run(self, parallel: int) -> list[int]:
        """Runs what is left; the signals that came."""
        left = [trial for trial in self.trials if trial.status == "waiting"]
        scheduler = JobScheduler([trial.job for trial in left], parallel)
        with ProgressView("sweep", len(self.trials), len(self.trials) - len(left)) as watch:
            self.write()

            def look(scheduler: JobScheduler) -> None:
                self._look(scheduler)
                watch(scheduler)

            scheduler.run(look)
        self.write()
        if self.problem:
            raise self.problem
        return scheduler.signals

    def _look(self, scheduler: JobScheduler) -> None:
        """Reads the metric of what runs, stops what is behind, keeps what ended."""
        by_name = {trial.job.name: trial for trial in self.trials}
        for outcome in scheduler.outcomes[self.ended :]:
            self._keep(by_name[outcome.job.name], outcome)
        now = time.monotonic()
        if now - self.looked > LOOK or not scheduler.running:
            self.looked = now
            for one in scheduler.running:
                trial = by_name[one.job.name]
                trial.history = sweep.history(one.job.directory, self.sweep.metric)
                if one.process and trial.status == "waiting" and self._behind(trial):
                    trial.status = "early"
                    one.process.send_signal(signal.SIGTERM)
            self._check_metric(scheduler)
        if len(scheduler.outcomes) > self.ended:
            self.ended = len(scheduler.outcomes)
            self.write()

    def _keep(self, trial: Trial, outcome: Outcome) -> None:
        if trial.status == "early" and outcome.status == "failed":  # as it was told
            outcome.status, outcome.why = "early", ""
        trial.status, trial.why = outcome.status, outcome.why

    def _behind(self, trial: Trial) -> bool:
        rule = self.sweep.early_terminate
        values = [self._upward(one) for one in self.trials]
        return rule is not None and rule.behind(self._upward(trial), values)

    def _upward(self, trial: Trial) -> list[float]:
        return [self.sweep.upward(value) for _, value in trial.history]

    def _check_metric(self, scheduler: JobScheduler) -> None:
        """Stops everything where nobody logs what is compared."""
        for job in [one.job for one in scheduler.running] + [o.job for o in scheduler.outcomes]:
            done = any(o.job is job and o.status == "done" for o in scheduler.outcomes)
            found = sweep.missing(job.directory, self.sweep.metric, done)
            if found and not self.problem:
                self.problem = found
                scheduler.signals.append(signal.SIGTERM)

    # ------------------------------------------------------------------------------------- results

    def ranked(self) -> list[Trial]:
        """By the last value of the metric, the best first; what has none comes last."""

        def rank(trial: Trial) -> float:
            values = self._upward(trial)
            return -values[-1] if values and math.isfinite(values[-1]) else math.inf

        return sorted(self.trials, key=rank)

    def rows(self) -> list[dict[str, Any]]:
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
        """``sweep.json`` and ``sweep.csv``, of what the runs' own files tell now."""
        from marl.training.checkpoint import write_atomic
        from marl.training.run_directory import write_json

        for trial in self.trials:
            trial.history = sweep.history(trial.job.directory, self.sweep.metric)
        self.directory.mkdir(parents=True, exist_ok=True)
        metric = {"name": self.sweep.metric, "goal": self.sweep.goal}
        rows = self.rows()
        whole = {"asked": self.asked, "metric": metric, "runs": rows}
        write_json(self.directory / "sweep.json", whole)
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
