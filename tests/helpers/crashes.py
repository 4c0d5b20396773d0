"""What a process killed at any operation on a run's files leaves of them.

A kill at an operation leaves the files as they are at that moment, so one run that is looked at
before each of its operations, and within each write, shows what every kill would leave.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Files = dict[str, bytes]  # by path below the directory; directories end with a slash
CLOCKS = ("timing.jsonl", "provenance.json")
OPERATIONS = ("mkdir", "replace", "unlink", "fsync", "open")  # besides opening and writing files
Look = Callable[[str, Any], None]  # at an operation and what it is on: a path, or a number


def files(directory: Path) -> Files:
    if not directory.exists():
        return {}
    found = sorted(directory.rglob("*"))
    names = [str(path.relative_to(directory)) + "/" * path.is_dir() for path in found]
    return {n: b"" if p.is_dir() else p.read_bytes() for n, p in zip(names, found, strict=True)}


def restore(state: Files, directory: Path) -> None:
    for name, data in state.items():
        path = directory / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


class Watched:
    """A file whose writes are looked at halfway."""

    def __init__(self, file: Any, look: Look):
        self.file, self.look = file, look

    def write(self, data: Any) -> int:
        half = len(data) // 2
        done = self.file.write(data[:half])
        self.file.flush()
        self.look("write", self.file.fileno())
        return done + self.file.write(data[half:])

    def truncate(self, size: int | None = None) -> int:
        self.look("truncate", self.file.fileno())
        return self.file.truncate(size)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@contextmanager
def watching(monkeypatch: Any, look: Look) -> Iterator[None]:
    """Calls ``look`` before every operation that changes files, and within every write."""
    with monkeypatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, _after_a_look(name, getattr(os, name), look))
        for module in (builtins, io):
            patch.setattr(module, "open", _opener(module.open, look))
        yield


def _after_a_look(name: str, operation: Callable[..., Any], look: Look) -> Callable[..., Any]:
    def watched(first: Any, *arguments: Any, **options: Any) -> Any:
        look(name, first)
        return operation(first, *arguments, **options)

    return watched


def _opener(original: Callable[..., Any], look: Look) -> Callable[..., Any]:
    def watched(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wa+x"):
            return original(file, mode, *arguments, **options)
        look("open", file)
        return Watched(original(file, mode, *arguments, **options), look)

    return watched


class Snapshots:
    """All different states of a directory; half-written temporary files, and clocks, make no
    difference."""

    def __init__(self, directory: Path):
        self.directory, self.states, self.looking = directory, dict[int, Files](), False

    def look(self, *_: Any) -> None:
        if not self.looking:  # for looking reads files itself
            self.looking = True
            state = files(self.directory)
            parts = [
                (name, b"" if name.endswith(".tmp") else data)
                for name, data in state.items()
                if name not in CLOCKS
            ]
            self.states.setdefault(hash(tuple(parts)), state)
            self.looking = False


class Full:
    """A disk on which nothing below ``directory`` can be written from its operation ``left`` on;
    removing files is always possible."""

    def __init__(self, directory: Path, left: int, number: int):
        self.directory, self.left, self.number = directory, left, number
        self.last: Any = None

    def look(self, name: str, target: Any) -> None:
        again, self.last = (name, target) == self.last, (name, target)
        if name == "unlink" or (again and self.left >= 0):  # writes to one file count once
            return
        path = f"/proc/self/fd/{target}" if isinstance(target, int) else target
        if not Path(path).resolve().is_relative_to(self.directory):
            return
        self.left -= 1
        if self.left < 0:
            if isinstance(target, int):  # what was opened is not forbidden later
                number = errno.ENOSPC if self.number == errno.EACCES else self.number
                raise OSError(number, os.strerror(number))
            raise OSError(self.number, os.strerror(self.number), str(target))
