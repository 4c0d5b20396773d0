"""Exact, atomic, checksummed checkpoints. Loading reads tensors and plain values; it executes
nothing."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import torch

from marl.errors import UserError
from marl.training import checkpoint_formats
from marl.training.checkpoint_formats import FORMAT, State
from marl.utils import distributed
from marl.utils.files import atomic, unfinished_writes, write_atomic


class Checkpoints:
    """The checkpoints of one run: the last ``keep`` (``frames-000000120000.pt``; 0 for all) and the
    one at which each learning team was best (``best-<team>-….pt``).

    A file appears under its name only when it is whole and on the disk, after the ``.sha256``
    beside it. What is best at some frame appears before that frame's checkpoint, and older ones go
    after it, so that a process killed in between loses neither. Other ranks than the first have
    files of their own beside it (``rank1-….pt``), which are there before it is.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep

    def save(
        self, frames: int, state: State, best: Iterable[str] = (), replay: State | None = None
    ) -> Path:
        """Writes the state, also as the one at which the teams of ``best`` were best; ``replay``,
        which only continuing needs, is not for those."""
        path = self.folder / f"frames-{frames:012d}.pt"
        state = {"format": FORMAT, **state}
        whole = state if replay is None else {**state, "replay": replay}
        with distributed.first_rank_last():
            for team in best:
                self._write(self.folder / f"best-{team}-{frames:012d}.pt", state)
            self._write(of_rank(path, distributed.rank()), whole)
            if distributed.rank() == 0:
                self._prune()
        if distributed.rank():
            mine = [of_rank(main, distributed.rank()) for main in self.all()]
            self._forget([p for p in self._named(f"rank{distributed.rank()}") if p not in mine])
        return path

    def clean(self) -> None:
        """Removes what killed writes left: temporary files, checksums without a file, older
        checkpoints, and the best of frames that never became a checkpoint. Only for the process
        that trains here."""
        if not self.folder.is_dir():
            return
        alone = [p for p in self.folder.glob("*.pt.sha256") if not p.with_suffix("").exists()]
        for path in [*unfinished_writes(self.folder), *alone]:
            path.unlink(missing_ok=True)
        last = self.last()
        newest = _frames(last) if last else -1
        self._forget([best for best in self._bests() if _frames(best) > newest])
        self._prune()

    def _prune(self) -> None:
        """Removes all but the newest ``keep`` and every team's newest best."""
        self._forget(self.all()[: -self.keep])
        self._forget([p for p in self._bests() if p != self.best(_team(p))])

    def stamp(self) -> str:
        """Returns the name and the checksum of the newest checkpoint; empty where there is none."""
        last = self.last()
        return " ".join([last.name, *_checksums(last)]) if last else ""

    def all(self) -> list[Path]:
        """Those that were written in time, the oldest first."""
        return self._named("frames")

    def last(self) -> Path | None:
        return next(reversed(self.all()), None)

    def best(self, team: str) -> Path | None:
        return next(reversed(self._named(f"best-{team}")), None)

    def load_last(self, device: torch.device) -> tuple[Path, State]:
        """The newest checkpoint that is whole on all ranks, as this one wrote it; a corrupt one is
        passed over with a warning.

        Raises:
            UserError: there is none.
        """
        for path in reversed(self.all()):
            state = None
            try:
                state = load(of_rank(path, distributed.rank()), device)
            except CorruptCheckpoint as error:
                warnings.warn(f"{error}; falling back to the one before", stacklevel=2)
            if not distributed.maximum(int(state is None)) and state is not None:
                return path, state
        best = any(self.folder.glob("best-*.pt"))
        hint = "; it holds best policies, which --best plays" if best else ""
        raise UserError(f"{str(self.folder)!r} holds no usable checkpoint{hint}")

    def check_ranks(self) -> None:
        """Raises UserError where the last checkpoint is of another number of ranks."""
        if (path := self.last()) is None:
            return
        wrote = next(n for n in count(1) if not of_rank(path, n).exists())
        if wrote != distributed.size():
            how = f"torchrun --nproc-per-node {wrote} -m marl" if wrote > 1 else "marl alone"
            raise UserError(
                f"{str(self.folder.parent)!r} has checkpoints of {wrote} ranks, and here "
                f"{'are' if distributed.size() > 1 else 'is'} {distributed.size()}; "
                f"resume it with {how}"
            )

    def _bests(self) -> list[Path]:
        """All files of the best of any team."""
        return self._matching("best-.+")

    def _named(self, kind: str) -> list[Path]:
        return self._matching(re.escape(kind))

    def _matching(self, kind: str) -> list[Path]:
        if not self.folder.is_dir():
            return []
        name = re.compile(rf"{kind}-\d+\.pt")
        return sorted(path for path in self.folder.iterdir() if name.fullmatch(path.name))

    def _write(self, path: Path, state: State) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            hashed = _Hashed(file)
            torch.save(state, hashed)  # type: ignore[arg-type]  # it writes and flushes only
            hashed.check()
            # Where a file is written over, a process killed here leaves the old one, still whole.
            old = _checksums(path) if path.exists() else []
            sums = dict.fromkeys([hashed.hash.hexdigest(), *old])
            write_atomic(checksum_of(path), "".join(f"{x}\n" for x in sums).encode())

    @staticmethod
    def _forget(paths: list[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
            checksum_of(path).unlink(missing_ok=True)


class CorruptCheckpoint(UserError):
    """A checkpoint file that is not what was written."""


def frames_of(path: Path) -> int:
    """The frames at which a checkpoint file was written, as its name tells."""
    return int(path.stem.rpartition("-")[2])


def of_rank(path: Path, rank: int) -> Path:
    """The file of that rank beside the first one's ``frames-….pt``."""
    return path.with_name(path.name.replace("frames", f"rank{rank}")) if rank else path


def checksum_of(path: Path) -> Path:
    return path.with_suffix(".pt.sha256")


def _checksums(path: Path) -> list[str]:
    """The checksums that a file may have: its own, and those of files that it was written over;
    none where they are lost."""
    file = checksum_of(path)
    return file.read_text().split() if file.exists() else []


def _frames(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _team(best: Path) -> str:
    return best.stem.removeprefix("best-").rpartition("-")[0]


class _Hashed:
    """A file that hashes what is written to it. It keeps the error of a write until asked, for
    ``torch.save`` would hide it behind one of its own."""

    def __init__(self, file: BinaryIO):
        self.file, self.hash = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        if self.error is None:
            try:
                self.file.write(data)
                self.hash.update(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes

    def flush(self) -> None: ...

    def check(self) -> None:
        if self.error is not None:
            raise self.error


def load(path: Path, device: torch.device) -> State:
    """Reads one checkpoint file onto a device, in the newest format; but its ``replay`` stays in
    the file, to be read when it is used.

    Raises:
        CorruptCheckpoint: its checksum is missing or does not match, or it holds more than
            tensors and plain values.
        UserError: a newer version of marl wrote it.
    """
    try:
        checksums = _checksums(path)
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorruptCheckpoint(
            f"checkpoint {str(path)!r} cannot be read: {error.strerror}"
        ) from None
    if found not in checksums:
        raise CorruptCheckpoint(f"checkpoint {str(path)!r} is corrupt: its checksum does not match")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise CorruptCheckpoint(f"{str(path)!r} is not a checkpoint of this program") from None
    if not isinstance(state, dict) or not isinstance(state.get("format", 1), int):
        raise CorruptCheckpoint(f"{str(path)!r} is not a checkpoint of this program")
    state = {k: part if k == "replay" else _copied(part, device) for k, part in state.items()}
    return checkpoint_formats.read(state, path)


def _copied(part: Any, device: torch.device) -> Any:
    """Nested dicts and lists with their tensors copied to a device."""
    if isinstance(part, torch.Tensor):
        return part.to(device, copy=True)
    if isinstance(part, dict):
        part.update({key: _copied(value, device) for key, value in part.items()})
    elif isinstance(part, (list, tuple)):
        return type(part)(_copied(value, device) for value in part)
    return part
