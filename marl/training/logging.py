"""Sinks of a run's records: JSONL always; W&B, TensorBoard and a progress display on request."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from io import FileIO
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Protocol

from marl.errors import UserError
from marl.utils.files import write_atomic
from marl.utils.jsonl import scalars

if TYPE_CHECKING:
    from marl.training.settings import Settings

# Kinds of records: training metrics, evaluations (results without clocks), and clocks.
KINDS = ("metrics", "evaluations", "timing")
IDENTITY = "wandb_id"  # the file with a run's identity at W&B


class Sink(Protocol):
    """A destination of records."""

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        """Logs one record.

        Args:
            kind: one of ``KINDS``.
            record: ``{"frames": int, ...}``.
        """
        ...

    def close(self) -> None:
        """Writes what is pending and closes the destination."""
        ...


class JsonlSink:
    """The files ``metrics.jsonl``, ``evaluations.jsonl`` and ``timing.jsonl``, a line per record.

    Each record is written at once. The files are opened by ``open`` or the first record, and not
    touched before. ``position`` and ``rewind`` remove what was written after a checkpoint, so that
    a resumed run leaves the same files as an uninterrupted one.

    Args:
        directory: directory of the run.
        kinds: kinds of records to write.
    """

    def __init__(self, directory: Path, kinds: Sequence[str] = KINDS):
        self.paths = {kind: directory / f"{kind}.jsonl" for kind in kinds}
        self.files: dict[str, FileIO] = {}
        self.start: Mapping[str, int] = {}  # bytes of each file to keep when it is opened

    def rewind(self, position: Mapping[str, int]) -> None:
        """Truncates all files to their sizes at ``position``, as soon as they are open.

        Raises:
            UserError: a file is shorter, for records were lost.
        """
        for kind, path in self.paths.items():
            size = path.stat().st_size if path.exists() else 0
            if size < position[kind]:
                raise UserError(
                    f"{str(path)!r} holds {size:,} bytes, and held {position[kind]:,} at its run's "
                    "checkpoint: records were lost; restore the whole file to resume the run"
                )
        self.start = {kind: position[kind] for kind in self.paths}
        if self.files:
            self._truncate()

    def open(self) -> None:
        """Opens the files to append, unless they are open."""
        if not self.files:
            for kind, path in self.paths.items():
                self.files[kind] = open(path, "ab", buffering=0)  # noqa: SIM115  # as long as it logs
            self._truncate()

    def _truncate(self) -> None:
        for kind, size in self.start.items():
            self.files[kind].truncate(size)
            self.files[kind].seek(0, os.SEEK_END)
        self.start = {}

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        self.open()
        line = memoryview((json.dumps(record) + "\n").encode())
        while line:  # after an incomplete write the next one raises the reason
            line = line[self.files[kind].write(line) or 0 :]

    def position(self) -> dict[str, int]:
        """Returns the sizes of all files in bytes, after writing them to the disk."""
        self.open()
        for file in self.files.values():
            os.fsync(file.fileno())
        return {kind: file.tell() for kind, file in self.files.items()}

    def close(self) -> None:
        for file in self.files.values():
            file.close()
        self.files = {}


class WandbSink:
    """Weights & Biases: offline if no key is configured, and never with a prompt.

    Under ``wandb agent`` the sweep determines project and identity of the run.

    Args:
        directory: directory of the run.
        config: the run's configuration as plain values.
        settings: the run's settings.
        resume: True to continue the run that the directory names.
    """

    def __init__(
        self, directory: Path, config: Mapping[str, Any], settings: Settings, resume: bool
    ):
        import wandb

        self.mode = os.environ.get("WANDB_MODE") or ("online" if _wandb_key() else "offline")
        identity: dict[str, Any] = {}  # decided by the sweep, if there is one
        if not os.environ.get("WANDB_SWEEP_ID"):
            identity = {"project": settings.wandb_project, "id": _identity(directory, resume)}
        self.run = wandb.init(
            dir=str(directory),
            name=settings.wandb_name or directory.name,
            group=settings.wandb_group or None,
            tags=settings.wandb_tags or None,
            config=dict(config),
            mode=self.mode,  # type: ignore[arg-type]  # wandb checks the word
            resume="allow" if self.mode == "online" else None,
            settings=wandb.Settings(silent=True, console="off"),
            **identity,
        )
        write_atomic(directory / IDENTITY, self.run.id.encode())
        self.run.define_metric("*", step_metric="frames")

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        self.run.log({"frames": record["frames"], **scalars(kind, record)})

    def close(self) -> None:
        self.run.finish()
        if self.mode == "offline":
            folder = os.path.relpath(Path(self.run.dir).parent)
            print(f"wandb    offline, in {folder}; upload it with: wandb sync {quote(folder)}")


def _identity(directory: Path, resume: bool) -> str:
    """Returns the identity of the run to be resumed, or a new one."""
    path = directory / IDENTITY
    return path.read_text() if resume and path.exists() else uuid.uuid4().hex[:8]


def _wandb_key() -> str | None:
    """Returns the key of the environment or of ~/.netrc; None if no key is configured."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    import netrc

    try:
        login = netrc.netrc().authenticators("api.wandb.ai")
    except (OSError, netrc.NetrcParseError):
        return None
    return login[2] if login else None


def require_tensorboard() -> None:
    """Raises UserError if the extra ``tensorboard`` is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "tensorboard is not installed; install it with pip install 'marl-groups[tensorboard]', "
            "or leave out tensorboard=true"
        )


class TensorBoardSink:
    """TensorBoard event files in the folder ``tensorboard`` of a run.

    Args:
        directory: directory of the run.

    Raises:
        UserError: the extra ``tensorboard`` is not installed.
    """

    def __init__(self, directory: Path):
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(directory / "tensorboard"))

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        for name, value in scalars(kind, record).items():
            self.writer.add_scalar(name, value, record["frames"])

    def close(self) -> None:
        self.writer.close()


class ProgressSink:
    """A progress display: a live bar on a terminal, otherwise a line every ten seconds.

    It shows frames, frames per second, the last return with the frames at which it was measured,
    and the time left.

    Args:
        total_frames: frames that the run plays.
        frames: frames that it has played before.
        interval: seconds between two lines.
    """

    def __init__(self, total_frames: int, frames: int = 0, interval: float = 10.0):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console()
        self.total, self.interval, self.last_print = total_frames, interval, 0.0
        self.start: tuple[float, int] | None = None  # time and frames of the first record
        self.fields: Any = {"return": "", "speed": ""}
        self.bar = None
        if console.is_terminal:
            columns = (
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} frames"),
                TextColumn("{task.fields[speed]}"),
                TextColumn("[green]{task.fields[return]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
            )
            self.bar = Progress(*columns, console=console)
            self.task = self.bar.add_task(
                "training", total=total_frames, completed=frames, **self.fields
            )
            self.bar.start()

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        numbers = scalars(kind, record)
        if kind == "timing" and "timing/frames_per_second" in numbers:
            self.fields["speed"] = f"{numbers['timing/frames_per_second']:,.0f} frames/s"
        returns = [k for k in numbers if "return/" in k and "/sampled/" not in k]
        if kind == "evaluations" or (returns and not self.fields["return"]):
            parts = [f"{k.rsplit('/', 1)[-1]} {numbers[k]:.2f}" for k in returns]
            self.fields["return"] = f"return {', '.join(parts)} (at {record['frames']:,})"
        self._show(record["frames"])

    def _show(self, frames: int) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=min(frames, self.total), **self.fields)
        elif time.monotonic() - self.last_print > self.interval:
            self.last_print = time.monotonic()
            speed, returns = self.fields["speed"], self.fields["return"]
            left = self._time_left(frames)
            print(f"{frames:,}/{self.total:,} frames  {speed}  {returns}{left}", flush=True)

    def _time_left(self, frames: int) -> str:
        """Returns ``  left 0:12:30``, at the mean speed since the first record."""
        now = time.monotonic()
        if self.start is None:
            self.start = now, frames
        start_time, start_frames = self.start
        if not start_frames < frames < self.total:
            return ""
        seconds = (self.total - frames) * (now - start_time) / (frames - start_frames)
        return f"  left {timedelta(seconds=round(seconds))}"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def build_sinks(
    settings: Settings, directory: Path, config: Mapping[str, Any], frames: int, resume: bool
) -> Iterator[Sink]:
    """Yields the sinks that the settings require, besides JSONL.

    Args:
        settings: the run's settings.
        directory: directory of the run.
        config: the run's configuration as plain values.
        frames: frames that the run has played before.
        resume: True if the run is resumed.
    """
    if settings.wandb:
        yield WandbSink(directory, config, settings, resume)
    if settings.tensorboard:
        yield TensorBoardSink(directory)
    if settings.progress:
        yield ProgressSink(settings.whole_frames, frames)


class Log:
    """A sink that passes records to all sinks of a run.

    Args:
        sinks: the sinks; more may be added to the attribute ``sinks``.
    """

    def __init__(self, sinks: Sequence[Sink]):
        self.sinks = list(sinks)

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        for sink in self.sinks:
            sink.log(kind, record)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


def drop_nonfinite(record: Mapping[str, float]) -> dict[str, float]:
    """Returns a record without values that are not finite, such as means over no episode."""
    return {name: value for name, value in record.items() if math.isfinite(value)}
