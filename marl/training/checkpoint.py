"""Checkpoints: exact, written atomically, with checksums.

Loading reads tensors and plain values only; it executes no code of the file.
"""

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
    """The checkpoints of one run: the newest, and the best one of each learning team.

    The newest are ``frames-000000120000.pt`` and so on, the best ``best-<team>-….pt``.

    A file appears under its name only when it is complete and on the disk, after the ``.sha256``
    file beside it. The best checkpoint of a frame appears before that frame's own, and older ones
    are removed after both, so that a process killed in between loses neither. Ranks other than 0
    write their own files (``rank1-….pt``) before rank 0 writes its file.

    Args:
        folder: the folder ``checkpoints`` of the run.
        keep: how many of the newest checkpoints stay; 0 for all.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep

    def save(
        self, frames: int, state: State, best: Iterable[str] = (), replay: State | None = None
    ) -> Path:
        """Writes a checkpoint of this rank, and removes those that are superseded.

        Args:
            frames: frames that the run has played.
            state: the state of the run, tensors and plain values.
            best: teams whose best checkpoint this is; it is written for each of them.
            replay: state of the replay; not part of best checkpoints, for only resuming needs it.

        Returns:
            The path of rank 0's file.
        """
        path = self.folder / f"frames-{frames:012d}.pt"
        state = {"format": FORMAT, **state}
        full_state = state if replay is None else {**state, "replay": replay}
        with distributed.first_rank_last():
            for team in best:
                self._write(self.folder / f"best-{_escaped(team)}-{frames:012d}.pt", state)
            self._write(of_rank(path, distributed.rank()), full_state)
            if distributed.rank() == 0:
                self._prune()
        if distributed.rank():
            current = [of_rank(main, distributed.rank()) for main in self.all()]
            files = self._of_kind(f"rank{distributed.rank()}")
            self._remove([path for path in files if path not in current])
        return path

    def clean(self) -> None:
        """Removes what killed processes left; only the process that trains here may call it.

        These are temporary files, checksums without a file, superseded checkpoints, and best
        checkpoints of frames that have no checkpoint of their own.
        """
        if not self.folder.is_dir():
            return
        orphans = [p for p in self.folder.glob("*.pt.sha256") if not p.with_suffix("").exists()]
        for path in [*unfinished_writes(self.folder), *orphans]:
            path.unlink(missing_ok=True)
        last = self.last()
        newest = frames_of(last) if last else -1
        self._remove([best for best in self._all_best() if frames_of(best) > newest])
        self._prune()

    def _prune(self) -> None:
        """Removes all but the newest ``keep`` checkpoints and the newest best one of each team."""
        self._remove(self.all()[: -self.keep])
        self._remove([p for p in self._all_best() if p != self.best(_team(p))])

    def stamp(self) -> str:
        """Returns name and checksum of the newest checkpoint; empty if no checkpoint exists."""
        last = self.last()
        return " ".join([last.name, *_checksums(last)]) if last else ""

    def all(self) -> list[Path]:
        """Returns the checkpoints that were written at intervals, the oldest first."""
        return self._of_kind("frames")

    def last(self) -> Path | None:
        """Returns the newest checkpoint; None if no checkpoint exists."""
        return next(reversed(self.all()), None)

    def best(self, team: str) -> Path | None:
        """Returns the best checkpoint of a team; None if it has none."""
        return next(reversed(self._of_kind(f"best-{_escaped(team)}")), None)

    def load_last(self, device: torch.device) -> tuple[Path, State]:
        """Loads the newest checkpoint that is intact on all ranks, as this rank wrote it.

        A corrupt checkpoint is skipped with a warning.

        Args:
            device: where the tensors are to be.

        Returns:
            The path of rank 0's file, and the state.

        Raises:
            UserError: no intact checkpoint exists.
        """
        for path in reversed(self.all()):
            state = _load_intact(of_rank(path, distributed.rank()), device)
            if not distributed.maximum(int(state is None)) and state is not None:
                return path, state
        raise self._none_usable()

    def load_newest(self, device: torch.device) -> tuple[Path, State]:
        """Loads the newest checkpoint that is intact, as rank 0 wrote it, on any rank.

        Arguments, results and errors are those of ``load_last``.
        """
        for path in reversed(self.all()):
            if (state := _load_intact(path, device)) is not None:
                return path, state
        raise self._none_usable()

    def _none_usable(self) -> UserError:
        if (self.folder.parent / "SHA256SUMS").exists():
            return UserError(
                f"{str(self.folder.parent)!r} is a record without a policy; 'marl list zoo' names "
                "those with one, or give the run that was recorded"
            )
        best = any(self.folder.glob("best-*.pt"))
        hint = "; it holds best policies, which --best plays" if best else ""
        return UserError(f"{str(self.folder)!r} holds no usable checkpoint{hint}")

    def check_ranks(self) -> None:
        """Raises UserError if another number of ranks wrote the newest checkpoint."""
        if (path := self.last()) is None:
            return
        ranks = next(n for n in count(1) if not of_rank(path, n).exists())
        if ranks != distributed.size():
            command = f"torchrun --nproc-per-node {ranks} -m marl" if ranks > 1 else "marl alone"
            raise UserError(
                f"{str(self.folder.parent)!r} has checkpoints of {ranks} ranks, and here "
                f"{'are' if distributed.size() > 1 else 'is'} {distributed.size()}; "
                f"resume it with {command}"
            )

    def all_best(self) -> dict[str, Path]:
        """Returns the best checkpoint of every team that has one, by team."""
        return {_team(path): path for path in self._all_best()}  # the newest of a team is last

    def _all_best(self) -> list[Path]:
        """Returns the best checkpoints of all teams."""
        return self._matching("best-.+")

    def _of_kind(self, kind: str) -> list[Path]:
        return self._matching(re.escape(kind))

    def _matching(self, kind: str) -> list[Path]:
        if not self.folder.is_dir():
            return []
        name = re.compile(rf"{kind}-\d+\.pt")
        return sorted(path for path in self.folder.iterdir() if name.fullmatch(path.name))

    def _write(self, path: Path, state: State) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(path) as file:
            hashing = _HashingFile(file)
            torch.save(state, hashing)  # type: ignore[arg-type]  # it only writes and flushes
            hashing.check()
            # If a file is overwritten, a process killed here leaves the old one, still intact.
            old = _checksums(path) if path.exists() else []
            sums = dict.fromkeys([hashing.hash.hexdigest(), *old])
            write_atomic(checksum_of(path), "".join(f"{x}\n" for x in sums).encode())

    @staticmethod
    def _remove(paths: list[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
            checksum_of(path).unlink(missing_ok=True)


class CorruptCheckpoint(UserError):
    """A checkpoint file that differs from what was written."""


def frames_of(path: Path) -> int:
    """Returns the frame at which a checkpoint file was written, from its name."""
    return int(path.stem.rpartition("-")[2])


def of_rank(path: Path, rank: int) -> Path:
    """Returns a rank's own file of a checkpoint.

    Args:
        path: rank 0's file, ``frames-….pt``.
        rank: number of the rank.
    """
    return path.with_name(path.name.replace("frames", f"rank{rank}")) if rank else path


def checksum_of(path: Path) -> Path:
    """Returns the path of a checkpoint's checksum file."""
    return path.with_suffix(".pt.sha256")


def _checksums(path: Path) -> list[str]:
    """Returns the valid checksums of a file: its own, and those of files that it overwrote.

    The list is empty if the checksum file is missing.
    """
    file = checksum_of(path)
    return file.read_text().split() if file.exists() else []


def _team(best: Path) -> str:
    """Returns the team of a best checkpoint, from its name."""
    name = best.stem.removeprefix("best-").rpartition("-")[0]
    return name.replace("%2F", "/").replace("%25", "%")


def _escaped(team: str) -> str:
    """Returns a team's name as a part of a file's name; ``_team`` reads it."""
    return team.replace("%", "%25").replace("/", "%2F")


class _HashingFile:
    """A file that hashes what is written to it.

    It stores the error of a write until ``check``, for ``torch.save`` would hide it behind an error
    of its own.
    """

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
    """Loads one checkpoint file, in the newest format.

    Its ``replay`` stays in the file and is read when it is used.

    Args:
        path: the file.
        device: where the tensors are to be.

    Raises:
        CorruptCheckpoint: the checksum is missing or does not match, or the file holds more than
            tensors and plain values.
        UserError: a newer version of marl wrote the file.
    """
    try:
        checksums = _checksums(path)
        with open(path, "rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorruptCheckpoint(
            f"checkpoint {str(path)!r} cannot be read: {error.strerror}"
        ) from None
    if checksum not in checksums:
        raise CorruptCheckpoint(f"checkpoint {str(path)!r} is corrupt: its checksum does not match")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise CorruptCheckpoint(f"{str(path)!r} is not a checkpoint of this program") from None
    if not isinstance(state, dict) or not isinstance(state.get("format", 1), int):
        raise CorruptCheckpoint(f"{str(path)!r} is not a checkpoint of this program")
    state = {k: part if k == "replay" else _copy_to(part, device) for k, part in state.items()}
    return checkpoint_formats.read(state, path)


def _load_intact(path: Path, device: torch.device) -> State | None:
    """Returns the state in a checkpoint file; None, with a warning, if it is corrupt."""
    try:
        return load(path, device)
    except CorruptCheckpoint as error:
        warnings.warn(f"{error}; falling back to the one before it", stacklevel=3)
        return None


def _copy_to(part: Any, device: torch.device) -> Any:
    """Copies the tensors in nested dicts and lists to a device; dicts are changed in place."""
    if isinstance(part, torch.Tensor):
        return part.to(device, copy=True)
    if isinstance(part, dict):
        part.update({key: _copy_to(value, device) for key, value in part.items()})
    elif isinstance(part, (list, tuple)):
        return type(part)(_copy_to(value, device) for value in part)
    return part
