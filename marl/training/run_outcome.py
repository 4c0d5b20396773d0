"""How a run ended, in the file ``state.json`` of its directory. Importable without torch.

The process that trains writes ``running`` when it begins and its end when it ends. Where the file
still says ``running`` and no process holds the directory's lock, the run was killed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from marl.errors import Diverged
from marl.utils.files import Taken, write_atomic
from marl.utils.jsonl import read_json

FILE = "state.json"
RUNNING, FINISHED, STOPPED, DIVERGED, FAILED = (
    "running", "finished", "stopped", "diverged", "failed",
)  # fmt: skip
KILLED = "killed"  # concluded by readers, never written
# What is said of a run that has not played all its frames.
PHRASES = {
    FINISHED: "ended early", RUNNING: "is running", STOPPED: "was stopped", KILLED: "was killed",
    DIVERGED: "diverged", FAILED: "failed",
}  # fmt: skip
STATES = (FINISHED, RUNNING, STOPPED, KILLED, DIVERGED, FAILED)


def write(directory: Path, state: str, why: str = "") -> None:
    """Writes the state of a run.

    Args:
        directory: the run's directory.
        state: one of ``STATES`` but ``killed``.
        why: the error in one line, of a run that diverged or failed; or why it finished early.
    """
    content = {"state": state, **({"why": why} if why else {})}
    write_atomic(directory / FILE, (json.dumps(content) + "\n").encode())


def read(directory: Path) -> tuple[str, str]:
    """Returns the state that a run wrote last, and why; empty texts where it wrote none."""
    content = read_json(directory / FILE)
    if not isinstance(content, dict) or content.get("state") not in STATES:
        return "", ""
    return content["state"], str(content.get("why", ""))


@contextmanager
def recorded(directory: Path, stop: Any) -> Iterator[None]:
    """Writes how the run that is trained within a block ended, on the first rank.

    An error of writing is suppressed where another one ends the run.

    Args:
        directory: the run's directory.
        stop: its ``signal`` is the number of the signal that stopped the run, or None; ``why`` says
            why the run finished early.
    """
    from marl.utils import distributed  # loads torch, which readers do without

    if distributed.rank():
        yield
        return
    try:
        yield
    except Taken:  # another process's run
        raise
    except Exception as error:
        line = " ".join(str(error).split()) or type(error).__name__
        with suppress(OSError):
            write(directory, DIVERGED if isinstance(error, Diverged) else FAILED, line)
        raise
    if stop.signal is None:
        write(directory, FINISHED, stop.why)
    else:
        write(directory, STOPPED)
