"""The user's cache, locks, atomic writes, and explanations of errors. Importable without torch."""

from __future__ import annotations

import errno
import os
import re
import socket
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from marl.errors import UserError

#: The file in a run directory whose lock the process that trains there holds.
LOCK = ".lock"


class Taken(UserError):
    """A directory is in use by another process, or holds another run."""


def cache_directory() -> Path | None:
    """Returns ``$XDG_CACHE_HOME/marl``, by default in ``~/.cache``; None without a home."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "marl"
    except RuntimeError:
        return None


# -------------------------------------------------------------------------------------------- locks


class Lock:
    """The right to train in a directory.

    One process has it at a time, on all machines that share the file system. It ends with its
    process, however that ends.

    Args:
        directory: the run directory.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._file: IO[str] | None = None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the lock within a block. May be nested.

        Raises:
            Taken: another process holds it, or another ``Lock`` of this process.
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
        """Checks that no other process holds the lock; writes nothing.

        Raises:
            Taken: another process holds it.
        """
        if self._file is None and (self.directory / LOCK).exists():
            with open(self.directory / LOCK) as file:
                if not take_lock(file, shared=True):
                    raise self._taken(file)

    def _taken(self, file: IO[str]) -> Taken:
        file.seek(0)
        host, _, process = file.read().strip().partition(" ")
        holder = f"process {process} on {host}" if process else "another process"
        return Taken(
            f"{str(self.directory)!r} is being trained by {holder}; wait for it to end, or stop it"
        )


def take_lock(file: IO[str], shared: bool = False) -> bool:
    """Takes the lock of a file, until all processes that inherited the file have closed it.

    Args:
        file: an open file.
        shared: True if others may take the lock too, if they share it as well.

    Returns:
        False if another process holds the lock. On a file system without locks the answer is True,
        with a warning.
    """
    try:
        _lock(file, shared)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        warnings.warn(
            f"the file system of {file.name!r} keeps no locks ({error.strerror}); make sure that "
            "only one process trains there",
            stacklevel=2,
        )
    return True


def _lock(file: IO[str], shared: bool) -> None:
    try:
        import fcntl
    except ImportError:
        raise OSError(errno.ENOSYS, "Windows has no locks of this kind") from None
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


# ------------------------------------------------------------------------------------------- writes


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that at any moment it has either its old or its new contents, complete.

    Args:
        path: the file.
        data: its new contents.
    """
    with atomic(path) as file:
        file.write(data)


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces ``path`` when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished_writes(folder: Path, names: Iterable[str] = (r".*",)) -> list[Path]:
    """Returns the temporary files of ``atomic`` that killed processes left in a folder.

    Args:
        folder: where to look.
        names: regular expressions of the names of the files that were to be written.
    """
    pattern = re.compile(rf"\.({'|'.join(names)})\.\d+\.tmp")
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]


# ------------------------------------------------------------------------------------------- errors

# Errors that only writing raises, perhaps without the name of a file: the reason, and what to do.
FULL = {
    errno.ENOSPC: ("no space is left", "free some"),
    errno.EDQUOT: ("the disk quota is used up", "free some of it"),
    errno.EFBIG: ("a file would be larger than the system allows (ulimit -f)", "raise the limit"),
    errno.EROFS: ("the file system is read-only", "make it writable"),
}
# Errors that are explained only if they name a file.
DENIED = (
    errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG,
    errno.ELOOP,
)  # fmt: skip


@contextmanager
def explain_errors(directory: Path) -> Iterator[None]:
    """Turns errors of writing to a run directory into a ``UserError`` that explains them.

    Args:
        directory: the run directory.

    Raises:
        UserError: the disk is full, a quota or a limit is used up, or nothing can be written there.
    """
    try:
        yield
    except OSError as error:
        if not (reason := _reason(error, directory)):
            raise
        resumable = (directory / "config.json").exists()
        again = f"'marl resume {directory}'" if resumable else "start again"
        raise UserError(
            f"cannot write to {str(directory)!r}: {reason[0]}; {reason[1]}, then {again}"
        ) from None


def explanation(error: OSError) -> str:
    """Returns one sentence about an error of writing; empty for other errors."""
    if reason := _reason(error):
        return f"cannot write: {reason[0]}; {reason[1]}"
    return ""


def _reason(error: OSError, directory: Path | None = None) -> tuple[str, str] | None:
    """Returns why nothing can be written, and what to do.

    None for an error of another kind, or of a file that is neither within ``directory`` nor one of
    the folders above it."""
    number, name = error.errno or 0, error.filename
    if not isinstance(name, str | os.PathLike):
        return FULL.get(number)
    file, folder = Path(name).absolute(), (directory or Path(name)).absolute()
    if not (file.is_relative_to(folder) or folder.is_relative_to(file)):
        return None
    denied = f"{os.strerror(number).lower()} ({name})", "make it writable or choose another place"
    return denied if number in DENIED else FULL.get(number)
