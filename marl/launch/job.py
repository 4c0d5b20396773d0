"""One of many runs: how it is begun in a process of its own, and who has it. Importable without
torch.

The child holds the lock of its run directory as long as it lives, on every machine that shares the
file system; the lock's file names the launcher.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from marl.utils.files import take_lock
from marl.utils.versions import LEARNING, learning_of

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
TAIL = 12  # lines of a failed run's log
ABSOLUTE = "absolute_episodes="  # of a word that may change: resuming measures what it asks for


@dataclass(frozen=True)
class Job:
    """One run: the settings of its ``marl train``, and where it is kept."""

    name: str
    words: tuple[str, ...]
    directory: Path
    aside: tuple[str, ...] = ()  # settings that change no result, of a new run
    trust: bool = False  # whether run directories of somebody else may import what they name

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

    @property
    def exists(self) -> bool:
        """Whether there is a run to go on with; one killed before it had a configuration is
        none."""
        return (self.directory / "config.json").exists()

    @property
    def outdated(self) -> bool:
        """Whether the run that there is learned by an older version; it does not go on."""
        return self.exists and learning_of(self.directory) < LEARNING

    def command(self) -> list[str]:
        """How the run begins, or goes on."""
        marl = [sys.executable, "-P", "-m", "marl"]
        trust = ["--trust"] * self.trust
        if self.exists and not self.outdated:
            absolute = [word for word in self.words if word.startswith(ABSOLUTE)]
            return [*marl, "resume", str(self.directory), *absolute, *trust]
        where = [f"directory={self.directory}", "progress=false"]
        return [*marl, "train", *self.words, *where, *self.aside, *trust]

    def begin(self, place: Sequence[str] = ()) -> subprocess.Popen[bytes] | None:
        """Its process, with the words ``place`` for where it runs; None where another one has the
        lock."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with open(self.lock, "a") as lock:
            if not take_lock(lock):
                return None
            lock.truncate(0)
            lock.write(f"{socket.gethostname()} {os.getpid()}\n")
            lock.flush()
            if self.outdated:
                self._set_aside()
            if not self.exists:
                shutil.rmtree(self.directory, ignore_errors=True)
                self.told.write_text(json.dumps(self.words) + "\n")
            with open(self.log, "ab") as log:
                return subprocess.Popen(
                    [*self.command(), *place],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **ONE_THREAD},
                    pass_fds=[lock.fileno()],
                    start_new_session=True,  # Ctrl-C is for the launcher, which asks them to stop
                )

    def _set_aside(self) -> None:
        """Renames the run that there is, ``NAME.learning-1``, so that a new one begins."""
        name = f"{self.directory.name}.learning-{learning_of(self.directory)}"
        places = (self.directory.with_name(name + f"-{i}" * (i > 1)) for i in count(1))
        os.rename(self.directory, next(place for place in places if not place.exists()))

    def free(self) -> bool:
        """Whether nobody has the lock."""
        with open(self.lock, "a") as lock:
            return take_lock(lock)

    def has_launcher(self) -> bool:
        """Whether the one that began a locked job still lives; on another machine it is taken
        to."""
        host, _, process = self.lock.read_text().strip().partition(" ")
        if host != socket.gethostname() or not process.isdigit():
            return True
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            return True
        return True

    def other_settings(self) -> str:
        """What to say of a run that was begun with other settings; empty if it was not."""
        if not self.exists or self.outdated or not self.told.exists():
            return ""
        return difference(set(json.loads(self.told.read_text())), set(self.words), self.directory)


def difference(before: set[str], now: set[str], directory: Path) -> str:
    """What to say of a run whose settings were ``before`` and should be ``now``, the episodes of
    the absolute metric apart."""
    before, now = (
        {word for word in words if not word.startswith(ABSOLUTE)} for words in (before, now)
    )
    if before == now:
        return ""
    return (
        f"{directory} was made with other settings: {' '.join(sorted(before - now)) or 'fewer'} "
        f"where now {' '.join(sorted(now - before)) or 'fewer'} is asked; move it away, or set "
        "them back"
    )


def tail(path: Path, lines: int = TAIL) -> str:
    """The last lines of a log."""
    try:
        text = path.read_text(errors="replace").rstrip()
    except OSError:
        text = ""
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
