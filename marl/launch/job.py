"""One of many runs: how it starts in a process of its own, and who is running it. Loads no torch.

The child process holds the lock of its run directory as long as it lives, on every machine that
shares the file system; the lock's file names the launcher.
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

from marl.utils.files import take_lock, write_atomic
from marl.utils.jsonl import read_json
from marl.utils.versions import LEARNING, learning_of

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
TAIL = 12  # lines of a failed run's log
JOB = "MARL_JOB"  # environment variable that tells a child that it shares settings with others
ABSOLUTE = "absolute_episodes="  # a setting that may change: resuming measures as many as it says


@dataclass(frozen=True)
class Job:
    """One run: the settings of its ``marl train`` and its directory.

    Attributes:
        name: of the run, in messages.
        words: the settings, ``KEY=VALUE``.
        directory: where the run's files go.
        extra_words: settings of a new run that do not change its result, such as W&B's.
        trust: whether run directories of other users may import the code that they name.
    """

    name: str
    words: tuple[str, ...]
    directory: Path
    extra_words: tuple[str, ...] = ()
    trust: bool = False

    @property
    def log(self) -> Path:
        """File with everything that the child prints."""
        return self._beside(".log")

    @property
    def lock(self) -> Path:
        """File whose lock the child holds."""
        return self._beside(".lock")

    @property
    def words_file(self) -> Path:
        """File with the settings that the run started with."""
        return self._beside(".words.json")

    def _beside(self, ending: str) -> Path:
        return self.directory.with_name(self.directory.name + ending)

    @property
    def exists(self) -> bool:
        """Whether there is a run to continue; one that was killed before it wrote its configuration
        does not count."""
        return (self.directory / "config.json").exists()

    @property
    def outdated(self) -> bool:
        """Whether the existing run is of an older version of learning, which is not continued."""
        return self.exists and learning_of(self.directory) < LEARNING

    def command(self) -> list[str]:
        """Returns the command that starts the run or continues it."""
        marl = [sys.executable, "-P", "-m", "marl"]
        trust = ["--trust"] * self.trust
        if self.exists and not self.outdated:
            absolute = [word for word in self.words if word.startswith(ABSOLUTE)]
            return [*marl, "resume", str(self.directory), *absolute, *trust]
        where = [f"directory={self.directory}", "progress=false"]
        return [*marl, "train", *self.words, *where, *self.extra_words, *trust]

    def start(self, place: Sequence[str] = ()) -> subprocess.Popen[bytes] | None:
        """Starts the run in a child process.

        Args:
            place: settings of where it runs, such as ``device=cuda:0``.

        Returns:
            The process; None where another process holds the lock.
        """
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
                write_atomic(self.words_file, (json.dumps(self.words) + "\n").encode())
            with open(self.log, "ab") as log:
                return subprocess.Popen(
                    [*self.command(), *place],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **ONE_THREAD, JOB: "1"},
                    pass_fds=[lock.fileno()],
                    start_new_session=True,  # Ctrl-C goes to the launcher, which asks them to stop
                )

    def _set_aside(self) -> None:
        """Renames the existing run to ``NAME.learning-1``, so that a new one can start."""
        name = f"{self.directory.name}.learning-{learning_of(self.directory)}"
        places = (self.directory.with_name(name + f"-{i}" * (i > 1)) for i in count(1))
        os.rename(self.directory, next(place for place in places if not place.exists()))

    def is_free(self) -> bool:
        """Returns whether no process holds the lock."""
        with open(self.lock, "a") as lock:
            return take_lock(lock)

    def has_launcher(self) -> bool:
        """Returns whether the launcher of a locked job still lives. One on another machine is
        assumed to."""
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
        """Returns the message that the run was started with other settings; empty if it was not."""
        before = read_json(self.words_file)
        if not self.exists or self.outdated or before is None:
            return ""
        return difference(set(before), set(self.words), self.directory)


def difference(before: set[str], now: set[str], directory: Path) -> str:
    """Returns the message that a run has other settings than it should have; empty if it has not.

    The episodes of the absolute metric may differ.

    Args:
        before: settings that the run was started with.
        now: settings that it should have.
        directory: the run's, for the message.
    """
    before, now = (
        {word for word in words if not word.startswith(ABSOLUTE)} for words in (before, now)
    )
    if before == now:
        return ""
    return (
        f"{directory} was made with other settings: {' '.join(sorted(before - now)) or 'fewer'} "
        f"there, {' '.join(sorted(now - before)) or 'fewer'} now; move it away, or restore the "
        "settings"
    )


def tail(path: Path, lines: int = TAIL) -> str:
    """Returns the end of a log file.

    Args:
        path: the file; a missing one counts as empty.
        lines: number of lines.
    """
    try:
        text = path.read_text(errors="replace").rstrip()
    except OSError:
        text = ""
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
