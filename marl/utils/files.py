"""Files that outlive what happens to a process or a disk: locks, whole writes, errors in a
sentence. Importable without torch."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from marl.errors import UserError

LOCK = ".lock"  # the file in a run directory whose lock its trainer holds


class Taken(UserError):
    """A directory that another process or another run has."""


# -------------------------------------------------------------------------------------------- locks


class Lock:
    """The right to train in a directory, which one process has at a time, on all machines that
    share the file system. It ends with its process, however that ends.

    ``held`` may be nested.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._file: IO[str] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock.

        Raises:
            Taken: another process holds it, or another object of this one.
        """
        if self._file is not None:
            yield
            return
        with open(self.directory / LOCK, "a+") as self._file:
            try:
                if not take_lock(self._file):
                    raise self._taken(self._file)
                self._file.truncate(0)
                self._file.write(f"{socket.gethostname()} {os.getpid()}\n")
                self._file.flush()
                yield
            finally:
                self._file = None

    def check(self) -> None:
        """Raises Taken where another process holds the lock; writes nothing."""
        if self._file is None and (self.directory / LOCK).exists():
            with open(self.directory / LOCK) as file:
                if not take_lock(file, fcntl.LOCK_SH):
                    raise self._taken(file)

    def _taken(self, file: IO[str]) -> Taken:
        file.seek(0)
        host, _, process = file.read().strip().partition(" ")
        who = f"process {process} on {host}" if process else "another process"
        return Taken(
            f"{str(self.directory)!r} is being trained by {who}; wait for it to end, or stop it"
        )


def take_lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Takes the lock of a file, until it is closed by all processes that inherited it.

    Returns:
        False where another process holds it. Where the file system keeps no locks, a warning says
        so and the lock counts as taken.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        warnings.warn(
            f"the file system of {file.name!r} keeps no locks ({error.strerror}); see to it that "
            "only one process trains there",
            stacklevel=2,
        )
    return True


# ------------------------------------------------------------------------------------------- writes


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that at any moment it is either the old one or the whole new one."""
    with atomic(path) as file:
        file.write(data)


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes its place when the block ends well, as of ``write_atomic``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(folder: Path, names: Iterable[str] = (r".*",)) -> list[Path]:
    """Returns what killed processes left of ``write_atomic``, of files whose names match."""
    of = re.compile(rf"\.({'|'.join(names)})\.\d+\.tmp")
    return [path for path in folder.iterdir() if of.fullmatch(path.name)]


# ------------------------------------------------------------------------------------------- errors

# Errors that writing alone meets, which may come without a file's name: reason, and what to do.
FULL = {
    errno.ENOSPC: ("no space is left", "free some"),
    errno.EDQUOT: ("the disk quota is used up", "free some of it"),
    errno.EFBIG: ("a file would be larger than the system allows (ulimit -f)", "raise the limit"),
    errno.EROFS: ("the file system is read-only", "make it writable"),
}
# Those that are explained only where they name a file.
DENIED = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


@contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turns errors of writing to a run directory into a sentence.

    Raises:
        UserError: the disk is full, a quota or a limit is used up, or nothing can be written there.
    """
    try:
        yield
    except OSError as error:
        if not (reason := _reason(error, directory)):
            raise
        begun = (directory / "config.json").exists()
        again = f"'marl resume {directory}'" if begun else "start again"
        raise UserError(
            f"cannot write to {str(directory)!r}: {reason[0]}; {reason[1]}, then {again}"
        ) from None


def sentence(error: OSError) -> str:
    """Returns what there is to say of an error of writing anywhere; empty for other errors."""
    if reason := _reason(error):
        return f"cannot write: {reason[0]}; {reason[1]}"
    return ""


def _reason(error: OSError, directory: Path | None = None) -> tuple[str, str] | None:
    """Why nothing can be written, and what to do; None for an error of another kind, or of a file
    that is neither within ``directory`` nor one of the folders it is in."""
    number, name = error.errno or 0, error.filename
    if not isinstance(name, str | os.PathLike):
        return FULL.get(number)
    file, folder = Path(name).absolute(), (directory or Path(name)).absolute()
    if not (file.is_relative_to(folder) or folder.is_relative_to(file)):
        return None
    denied = f"{os.strerror(number).lower()} ({name})", "make it writable or choose another place"
    return denied if number in DENIED else FULL.get(number)
