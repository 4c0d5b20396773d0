"""Many runs at once, a process each: what is finished is skipped, what was cut off resumes, what
fails is told and the others go on. Importable without torch.

A run locked by another launcher, here or on a machine with the same file system, is left to it and
looked at again when it ended; one whose launcher was killed here still counts among those at once.
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
    """How a job ended: ``done``, ``failed``, or ``stopped`` before its end."""

    job: Job
    status: str
    why: str = ""


@dataclass
class Running:
    """A job under way; without a process of ours where another launcher started it, and without a
    slot where that one still lives."""

    job: Job
    slot: int | None
    process: subprocess.Popen[bytes] | None
    began: float = field(default_factory=time.monotonic)


class JobScheduler:
    """Runs jobs, so many at once.

    Args:
        jobs: in the order they shall begin.
        parallel: how many at once.
        finish: called with each job whose child ended well; its error makes the job failed.
        places: words for the settings of where a job runs, in turn, such as ``device=cuda:0``.
        ended: whether a job needs no running any more, for another launcher did it.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        parallel: int,
        finish: Callable[[Job], None] = lambda job: None,
        places: Sequence[str] = (),
        ended: Callable[[Job], bool] = lambda job: False,
    ):
        self.waiting, self.running = list(jobs), list[Running]()
        self.outcomes: list[Outcome] = []
        self.seconds: dict[str, float] = {}  # how long each job took that ended here, by name
        self.parallel, self.finish, self.places, self.ended = parallel, finish, places, ended
        self.signals: list[int] = []  # that asked to stop
        self.obeyed = 0

    def run(
        self, watch: Callable[[JobScheduler], None] = lambda scheduler: None, every: float = 0.5
    ) -> None:
        """Until all have ended. ``watch`` is called every so many seconds. SIGTERM, SIGHUP and
        Ctrl-C let the children save and end; ``signals`` then tells which it was."""
        with self._on_signals():
            while self.waiting or self.running:
                self._start()
                self._obey()
                self._reap()
                watch(self)
                if self.running:
                    time.sleep(every)
        watch(self)

    def _start(self) -> None:
        while self.waiting and (free := self._slots()):
            job = self.waiting.pop(0)
            if self.ended(job):
                self.outcomes.append(Outcome(job, "done"))
                continue
            if problem := job.other_settings():
                self.outcomes.append(Outcome(job, "failed", problem))
                continue
            slot: int | None = free[0]
            place = self.places[free[0] % len(self.places) :][:1] if self.places else ()
            process = job.begin(place)
            if process is None and job.has_launcher():
                slot = None
            self.running.append(Running(job, slot, process))

    def _slots(self) -> list[int]:
        """Those that are free."""
        return sorted(set(range(self.parallel)) - {one.slot for one in self.running})

    def _reap(self) -> None:
        for one in list(self.running):
            if one.process is None:
                if one.job.free():  # see for ourselves how it stands
                    self.running.remove(one)
                    self.waiting.insert(0, one.job)
            elif (code := one.process.poll()) is not None:
                self.running.remove(one)
                self.seconds[one.job.name] = time.monotonic() - one.began
                self.outcomes.append(self._outcome(one.job, code))

    def _outcome(self, job: Job, code: int) -> Outcome:
        if code == 0:
            try:
                self.finish(job)
                return Outcome(job, "done")
            except Exception as error:  # whatever it is, the other runs go on
                return Outcome(job, "failed", str(error))
        if self.ended(job):  # another launcher recorded, perhaps pruned it, while ours began
            return Outcome(job, "done")
        if self.signals:
            return Outcome(job, "stopped")
        told = tail(job.log)
        return Outcome(job, "failed", f"{told.splitlines()[-1]} (exit code {code})\n{told}")

    @contextmanager
    def _on_signals(self) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, self._asked) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, number: int, _: FrameType | None) -> None:
        self.signals.append(number)

    def _obey(self) -> None:
        """Asks all children to save and end; the second time, to end at once."""
        if self.obeyed == len(self.signals):
            return
        word = signal.SIGTERM if self.obeyed == 0 else signal.SIGKILL
        self.obeyed = len(self.signals)
        others = [one for one in self.running if one.process is None]
        self.running = [one for one in self.running if one.process is not None]
        left = [*self.waiting, *(one.job for one in others)]
        self.outcomes += [Outcome(job, "stopped") for job in left]
        self.waiting = []
        for one in self.running:
            if one.process is not None and one.process.poll() is None:
                one.process.send_signal(word)
