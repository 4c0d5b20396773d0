"""Processes of their own that start in milliseconds: forked from a server that has imported all.

``marl`` as a user runs it, to look at its exit code, its words and its files, and to kill it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

# What the server imports, so that children need not.
import imageio.v3
import imageio_ffmpeg
import matplotlib.pyplot
import torch._dynamo

import marl.cli.commands
import marl.cli.main
import marl.cli.run_report
import marl.envs.particle.tasks
import marl.envs.pettingzoo
import marl.envs.vmas.env
import marl.training.report
from marl.utils.jsonl import read_jsonl
from tests.helpers import experiments

HEAVY = (
    marl.envs.particle.tasks,
    marl.envs.pettingzoo,
    marl.envs.vmas.env,
    marl.cli.commands,
    marl.cli.run_report,
    marl.training.report,
    matplotlib.pyplot,
    imageio.v3,
    imageio_ffmpeg,
    torch._dynamo,  # of every optimizer
)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Child:
    """Runs ``function(*arguments)`` in directory ``cwd``."""

    def __init__(self, cwd: Path, function: Callable[..., Any], *arguments: Any):
        context = _server()
        self.words = [cwd / f".{time.monotonic_ns()}.{name}" for name in ("out", "err")]
        self.process = context.Process(
            target=_child, args=(cwd, self.words, dict(os.environ), function, arguments)
        )
        self.process.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = 120) -> Result:
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"a child took more than {seconds} seconds")
        texts = [path.read_text() if path.exists() else "" for path in self.words]
        for path in self.words:
            path.unlink(missing_ok=True)
        return Result(self.process.exitcode, *texts)

    def wait_for(self, file: Path, lines: int) -> None:
        """Until ``file`` has so many records."""
        while len(read_jsonl_safely(file)) < lines:
            assert self.process.is_alive(), self.wait()
            time.sleep(0.002)


def read_jsonl_safely(path: Path) -> list:
    try:
        return read_jsonl(path)
    except ValueError:  # half a line
        return []


class Forked:
    """Stands in for ``subprocess.Popen`` where a job starts ``python -P -m marl``: the same run in
    a process of its own, with the same log and lock, forked instead of started."""

    def __init__(
        self, command: list[str], *, stdin: int, stdout: Any, stderr: Any, env: dict[str, str],
        pass_fds: list[int], start_new_session: bool,
    ):  # fmt: skip
        assert command[:4] == [sys.executable, "-P", "-m", "marl"], command
        assert stdin == subprocess.DEVNULL and stderr is stdout and start_new_session
        arguments = (env, _Descriptor(stdout.fileno()), list(map(_Descriptor, pass_fds)))
        self.process = _server().Process(target=_job, args=(os.getcwd(), command[4:], *arguments))
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)


@dataclass
class _Descriptor:
    """A file descriptor that a child receives as one of its own, while a process starts."""

    number: int

    def __reduce__(self) -> Any:
        return _received, (DupFd(self.number),)


def _received(descriptor: Any) -> int:
    return descriptor.detach()


def _job(cwd: str, words: list[str], environ: dict[str, str], log: int, _locks: list[int]) -> None:
    os.setsid()
    for number in (1, 2):
        os.dup2(log, number)
    _enter(cwd, environ)
    sys.argv = ["marl", *words]  # which records keep
    marl.cli.main.main()


def _server() -> Any:
    """Returns the context of processes that are forked from the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers.processes"])
    os.environ["PYTHONPATH"] = str(ROOT)
    return context


def _child(
    cwd: Path, words: list[Path], environ: dict[str, str], function: Callable, arguments: tuple
) -> None:
    for path, number in zip(words, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    _enter(cwd, environ)
    function(*arguments)


def _enter(cwd: Path | str, environ: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    sys.path.insert(0, str(ROOT))


def start_cli(cwd: Path, *words: str) -> Child:
    return Child(cwd, marl.cli.main.main, list(words))


def cli(cwd: Path, *words: str) -> Result:
    """``marl words...`` in ``cwd``, to its end."""
    return start_cli(cwd, *words).wait()


def start_training(directory: Path, resume: bool = False, **settings: Any) -> Child:
    """``experiments.train`` in a process of its own."""
    return Child(directory.parent, experiments.train, directory, resume, settings)
