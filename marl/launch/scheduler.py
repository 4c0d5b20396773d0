"""Many runs at once, a process each. Finished runs are skipped, interrupted ones resume, and a
failed one is reported while the others continue. Loads no torch.

A run that another launcher has locked, here or on a machine with the same file system, is left to
it and checked again when it ended. A run whose launcher was killed here still counts among those
that run at once.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from marl.launch.job import Job, tail


@dataclass
class Outcome:
    """How a job ended.

    Attributes:
        job: the job.
        status: ``done``, ``failed``, or ``stopped`` before its end.
        why: the reason; empty where there is nothing to say.
    """

    job: Job
    status: str
    why: str = ""


@dataclass
class Running:
    """A job that is running.

    Attributes:
        job: the job.
        slot: number of its place among those that run at once; None where another launcher, which
            still lives, started it.
        process: its process; None where another launcher started it.
        start: time at which it was started here.
    """

    job: Job
    slot: int | None
    process: subprocess.Popen[bytes] | None
    start: float = field(default_factory=time.monotonic)


class JobScheduler:
    """Runs jobs, several at once.

    Args:
        jobs: in the order in which they start.
        parallel: how many run at once.
        finish: called with each job whose child ended well; its error makes the job failed.
        places: settings of where a job runs, such as ``device=cuda:0``; the slots take them in
            turn.
        is_done: whether a job needs no run any more, because another launcher did it.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        parallel: int,
        finish: Callable[[Job], None] = lambda job: None,
        places: Sequence[str] = (),
        is_done: Callable[[Job], bool] = lambda job: False,
    ):
        self.waiting, self.running = list(jobs), list[Running]()
        self.outcomes: list[Outcome] = []
        self.seconds: dict[str, float] = {}  # job that ended here -> how long it took
        self.parallel, self.finish, self.places, self.is_done = parallel, finish, places, is_done
        self.signals: list[int] = []  # received so far
        self.signals_handled = 0

    def run(
        self, watch: Callable[[JobScheduler], None] = lambda scheduler: None, every: float = 0.5
    ) -> None:
        """Runs all jobs to their end.

        After SIGTERM, SIGHUP or Ctrl-C the children save and end; ``signals`` then holds the
        signal.

        Args:
            watch: called with this scheduler, again and again.
            every: seconds between two calls of ``watch``.
        """
        with self._on_signals():
            while self.waiting or self.running:
                self._start_jobs()
                self._handle_signals()
                self._collect_ended()
                watch(self)
                if self.running:
                    time.sleep(every)
        watch(self)

    def _start_jobs(self) -> None:
        while self.waiting and (free := self._free_slots()):
            job = self.waiting.pop(0)
            if self.is_done(job):
                self.outcomes.append(Outcome(job, "done"))
                continue
            if problem := job.other_settings():
                self.outcomes.append(Outcome(job, "failed", problem))
                continue
            slot: int | None = free[0]
            process = job.start(place_of_slot(self.places, free[0]))
            if process is None and job.has_launcher():
                slot = None
            self.running.append(Running(job, slot, process))

    def _free_slots(self) -> list[int]:
        return sorted(set(range(self.parallel)) - {one.slot for one in self.running})

    def _collect_ended(self) -> None:
        for one in list(self.running):
            if one.process is None:
                if one.job.is_free():  # the other launcher's child ended: look at it ourselves
                    self.running.remove(one)
                    self.waiting.insert(0, one.job)
            elif (code := one.process.poll()) is not None:
                self.running.remove(one)
                self.seconds[one.job.name] = time.monotonic() - one.start
                self.outcomes.append(self._outcome(one.job, code))

    def _outcome(self, job: Job, code: int) -> Outcome:
        if code == 0:
            try:
                self.finish(job)
                return Outcome(job, "done")
            except Exception as error:  # of any kind: the other runs continue
                return Outcome(job, "failed", str(error))
        if self.is_done(job):  # another launcher recorded, perhaps pruned it, while ours started
            return Outcome(job, "done")
        if self.signals:
            return Outcome(job, "stopped")
        log = tail(job.log)
        return Outcome(job, "failed", f"{log.splitlines()[-1]} (exit code {code})\n{log}")

    @contextmanager
    def _on_signals(self) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, self._receive) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.signals.append(number)

    def _handle_signals(self) -> None:
        """Asks all children to save and end; after a second signal, to end at once."""
        if self.signals_handled == len(self.signals):
            return
        number = signal.SIGTERM if self.signals_handled == 0 else signal.SIGKILL
        self.signals_handled = len(self.signals)
        others = [one for one in self.running if one.process is None]
        self.running = [one for one in self.running if one.process is not None]
        unstarted = [*self.waiting, *(one.job for one in others)]
        self.outcomes += [Outcome(job, "stopped") for job in unstarted]
        self.waiting = []
        for one in self.running:
            if one.process is not None and one.process.poll() is None:
                one.process.send_signal(number)


def place_of_slot(places: Sequence[str], slot: int) -> list[str]:
    """Returns the settings of where the jobs of a slot run.

    Args:
        places: such as ``device=cuda:0``; empty for none.
        slot: number of the slot, from 0.
    """
    return [places[slot % len(places)]] if places else []
