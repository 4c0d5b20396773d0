"""Where a run's numbers go: JSONL always; W&B, TensorBoard and the progress display where asked
for."""

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
from typing import TYPE_CHECKING, Any, Protocol

from marl.errors import UserError
from marl.utils.files import write_atomic
from marl.utils.jsonl import scalars

if TYPE_CHECKING:
    from marl.training.settings import Settings

# What is logged: training metrics, evaluations (results only, no clocks), and the clocks.
KINDS = ("metrics", "evaluations", "timing")
IDENTITY = "wandb_id"  # the file that keeps a run's name at W&B


class Sink(Protocol):
    """Takes records ``{"frames": int, ...}`` of one of the ``KINDS``."""

    def log(self, kind: str, record: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class JsonlSink:
    """``metrics.jsonl``, ``evaluations.jsonl`` and ``timing.jsonl``: a line per record, flushed at
    once.

    The files are opened by ``open`` or the first record; before that nothing is touched.
    ``position`` and ``rewind`` cut what was written after a checkpoint, so that a resumed run
    continues the very files of the uninterrupted one.
    """

    def __init__(self, directory: Path, kinds: Sequence[str] = KINDS):
        self.paths = {kind: directory / f"{kind}.jsonl" for kind in kinds}
        self.files: dict[str, FileIO] = {}
        self.start: Mapping[str, int] = {}  # bytes to keep of each when they are opened

    def rewind(self, position: Mapping[str, int]) -> None:
        """Cuts all files to their sizes at ``position``, as soon as they are open.

        Raises:
            UserError: a file is shorter than that: some of its records were lost.
        """
        for kind, path in self.paths.items():
            size = path.stat().st_size if path.exists() else 0
            if size < position[kind]:
                raise UserError(
                    f"{str(path)!r} holds {size:,} bytes, and its run's checkpoint was made when "
                    f"there were {position[kind]:,}: records were lost; put the whole file back to "
                    "resume the run"
                )
        self.start = {kind: position[kind] for kind in self.paths}
        if self.files:
            self._cut()

    def open(self) -> None:
        """Opens the files to append, unless they are open."""
        if not self.files:
            for kind, path in self.paths.items():
                self.files[kind] = open(path, "ab", buffering=0)  # noqa: SIM115  # as long as it logs
            self._cut()

    def _cut(self) -> None:
        for kind, size in self.start.items():
            self.files[kind].truncate(size)
            self.files[kind].seek(0, os.SEEK_END)
        self.start = {}

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        self.open()
        line = memoryview((json.dumps(record) + "\n").encode())
        while line:  # where a write is cut short, the next one tells why
            line = line[self.files[kind].write(line) or 0 :]

    def position(self) -> dict[str, int]:
        self.open()
        for file in self.files.values():
            os.fsync(file.fileno())
        return {kind: file.tell() for kind, file in self.files.items()}

    def close(self) -> None:
        for file in self.files.values():
            file.close()
        self.files = {}


class WandbSink:
    """Weights & Biases; offline where there is no key, and never a prompt.

    Under ``wandb agent`` the run is the one that the sweep announced, in the sweep's project.
    """

    def __init__(
        self, directory: Path, config: Mapping[str, Any], settings: Settings, resume: bool
    ):
        import wandb

        mode = os.environ.get("WANDB_MODE") or ("online" if _wandb_key() else "offline")
        own: dict[str, Any] = {}  # what the sweep decides, where there is one
        if not os.environ.get("WANDB_SWEEP_ID"):
            own = {"project": settings.wandb_project, "id": _identity(directory, resume)}
        self.run = wandb.init(
            dir=str(directory),
            name=settings.wandb_name or directory.name,
            group=settings.wandb_group or None,
            tags=settings.wandb_tags or None,
            config=dict(config),
            mode=mode,  # type: ignore[arg-type]  # wandb checks the word
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(silent=True, console="off"),
            **own,
        )
        write_atomic(directory / IDENTITY, self.run.id.encode())
        self.run.define_metric("*", step_metric="frames")

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        self.run.log({"frames": record["frames"], **scalars(kind, record)})

    def close(self) -> None:
        self.run.finish()


def _identity(directory: Path, resume: bool) -> str:
    """A new one, or that of the run to be resumed."""
    kept = directory / IDENTITY
    return kept.read_text() if resume and kept.exists() else uuid.uuid4().hex[:8]


def _wandb_key() -> str | None:
    """The key of the environment or of ~/.netrc, without asking for one."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    import netrc

    try:
        found = netrc.netrc().authenticators("api.wandb.ai")
    except (OSError, netrc.NetrcParseError):
        return None
    return found[2] if found else None


def require_tensorboard() -> None:
    """Raises UserError where the extra is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "tensorboard is not installed; install it with pip install 'marl-groups[tensorboard]', "
            "or leave out tensorboard=true"
        )


class TensorBoardSink:
    """TensorBoard event files under ``tensorboard/``.

    Raises:
        UserError: the extra is not installed.
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
    """A live bar on a terminal (return, frames/s, time left), a plain line every ten seconds off
    it."""

    def __init__(self, total_frames: int, frames: int = 0, every: float = 10.0):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console()
        self.total, self.every, self.printed = total_frames, every, 0.0
        self.start: tuple[float, int] | None = None  # time and frames of the first record
        self.shown: Any = {"return": "", "speed": ""}
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
                "training", total=total_frames, completed=frames, **self.shown
            )
            self.bar.start()

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        numbers = scalars(kind, record)
        if kind == "timing" and "timing/frames_per_second" in numbers:
            self.shown["speed"] = f"{numbers['timing/frames_per_second']:,.0f} frames/s"
        returns = [k for k in numbers if "return/" in k]
        if kind == "evaluations" or (returns and not self.shown["return"]):
            words = [f"{k.rsplit('/', 1)[-1]} {numbers[k]:.2f}" for k in returns]
            self.shown["return"] = "return " + ", ".join(words)
        self._show(record["frames"])

    def _show(self, frames: int) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=min(frames, self.total), **self.shown)
        elif time.monotonic() - self.printed > self.every:
            self.printed = time.monotonic()
            print(
                f"{frames:,}/{self.total:,} frames  {self.shown['speed']}  {self.shown['return']}"
                f"{self._time_left(frames)}",
                flush=True,
            )

    def _time_left(self, frames: int) -> str:
        """Returns ``  left 0:12:30``, at the mean speed since the first record."""
        now = time.monotonic()
        if self.start is None:
            self.start = now, frames
        began, first = self.start
        if not first < frames < self.total:
            return ""
        seconds = (self.total - frames) * (now - began) / (frames - first)
        return f"  left {timedelta(seconds=round(seconds))}"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def wanted_sinks(
    settings: Settings, directory: Path, config: Mapping[str, Any], frames: int, resume: bool
) -> Iterator[Sink]:
    """The sinks that the settings ask for, of a run with this configuration after ``frames``."""
    if settings.wandb:
        yield WandbSink(directory, config, settings, resume)
    if settings.tensorboard:
        yield TensorBoardSink(directory)
    if settings.progress:
        yield ProgressSink(settings.whole_frames, frames)


class Log:
    """All sinks of a run as one."""

    def __init__(self, sinks: Sequence[Sink]):
        self.sinks = list(sinks)

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        for sink in self.sinks:
            sink.log(kind, record)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


def finite(record: Mapping[str, float]) -> dict[str, float]:
    """Without what is not a number: a mean over episodes where none ended."""
    return {name: value for name, value in record.items() if math.isfinite(value)}
