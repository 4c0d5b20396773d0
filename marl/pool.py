"""Many runs at once, a process each: what is finished is skipped, what was cut off resumes, what
fails is told and the others go on. Importable without torch.

Every child holds the lock of its run directory as long as it lives. A run locked by another
launcher, here or on a machine with the same file system, is left to it and looked at again when it
ended; one whose launcher was killed here still counts among those at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
TAIL = 12  # lines of a failed run's log


@dataclass(frozen=True)
class Job:
    """One run: the settings of its ``marl train``, and where it is kept."""

    name: str
    words: tuple[str, ...]
    directory: Path
    aside: tuple[str, ...] = ()  # settings that change no result, of a new run

    @property
    def log(self) -> Path:
        return self._beside(".log")

    @property
    def lock(self) -> Path:
        return self._beside(".lock")

    @property
    def told(self) -> Path:
        return self._beside(".words.json")

    def _beside(self, ending: str) -> Path:
        return self.directory.with_name(self.directory.name + ending)

    def command(self) -> list[str]:
        """How the run begins, or goes on."""
        marl = [sys.executable, "-P", "-m", "marl"]
        if (self.directory / "config.json").exists():
            return [*marl, "resume", str(self.directory)]
        where = [f"directory={self.directory}", "progress=false"]
        return [*marl, "train", *self.words, *where, *self.aside]


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


class Pool:
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

    def run(self, watch: Callable[[Pool], None] = lambda pool: None, every: float = 0.5) -> None:
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
            if problem := _other_settings(job):
                self.outcomes.append(Outcome(job, "failed", problem))
                continue
            process = self._begin(job, free[0])
            theirs = process is None and _has_launcher(job)
            self.running.append(Running(job, None if theirs else free[0], process))

    def _slots(self) -> list[int]:
        """Those that are free."""
        return sorted(set(range(self.parallel)) - {one.slot for one in self.running})

    def _begin(self, job: Job, slot: int) -> subprocess.Popen[bytes] | None:
        """The job's process; None where another one has its lock."""
        job.directory.parent.mkdir(parents=True, exist_ok=True)
        with open(job.lock, "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            lock.truncate(0)
            lock.write(f"{socket.gethostname()} {os.getpid()}\n")
            lock.flush()
            if not (job.directory / "config.json").exists():
                shutil.rmtree(job.directory, ignore_errors=True)  # killed before it began
                job.told.write_text(json.dumps(job.words) + "\n")
            place = self.places[slot % len(self.places) :][:1] if self.places else []
            with open(job.log, "ab") as log:
                return subprocess.Popen(
                    [*job.command(), *place],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **ONE_THREAD},
                    pass_fds=[lock.fileno()],
                    start_new_session=True,  # Ctrl-C is for this process, which asks them to stop
                )

    def _reap(self) -> None:
        for one in list(self.running):
            code = _free(one.job) if one.process is None else one.process.poll()
            if code is None:
                continue
            self.running.remove(one)
            if one.process is None:  # its owner's run ended; see for ourselves how it stands
                self.waiting.insert(0, one.job)
            else:
                self.seconds[one.job.name] = time.monotonic() - one.began
                self.outcomes.append(self._outcome(one.job, code))

    def _outcome(self, job: Job, code: int) -> Outcome:
        if code == 0:
            try:
                self.finish(job)
                return Outcome(job, "done")
            except Exception as error:  # whatever it is, the other runs go on
                return Outcome(job, "failed", str(error))
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


def _other_settings(job: Job) -> str:
    """What to say of a run that was begun with other settings than the job's; empty if it was
    not."""
    if not (job.directory / "config.json").exists() or not job.told.exists():
        return ""
    before = set(json.loads(job.told.read_text()))
    return difference(before, set(job.words), job.directory)


def difference(before: set[str], now: set[str], directory: Path) -> str:
    """What to say of a run whose settings were ``before`` and should be ``now``."""
    if before == now:
        return ""
    return (
        f"{directory} was made with other settings: {' '.join(sorted(before - now)) or 'fewer'} "
        f"where now {' '.join(sorted(now - before)) or 'fewer'} is asked; move it away, or set "
        "them back"
    )


def _has_launcher(job: Job) -> bool:
    """Whether the launcher that began a locked job still lives; on another machine it is taken
    to."""
    host, _, process = job.lock.read_text().strip().partition(" ")
    if host != socket.gethostname() or not process.isdigit():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _free(job: Job) -> int | None:
    """0 when nobody has the job's lock any more."""
    with open(job.lock, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
    return 0


def tail(path: Path, lines: int = TAIL) -> str:
    """The last lines of a log."""
    try:
        text = path.read_text(errors="replace").rstrip()
    except OSError:
        text = ""
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
