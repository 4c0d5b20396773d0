"""Files of a run: checkpoints and records of the one process that trains in a directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from marl.training import run_claim
from marl.training.checkpoint import Checkpoints
from marl.training.checkpoint_formats import State
from marl.training.logging import KINDS, JsonlSink
from marl.training.settings import Settings
from marl.utils import distributed
from marl.utils.files import Lock, Taken, explain_errors


class RunFiles:
    """The checkpoints and records of a run; nothing is written before ``begin``.

    Args:
        directory: directory of the run, which exists.
        settings: the run's settings.
    """

    def __init__(self, directory: Path, settings: Settings):
        self.directory, self.settings = directory, settings
        self.lock = Lock(directory)
        self.checkpoints = Checkpoints(directory / "checkpoints", settings.checkpoints_kept)
        self.jsonl = JsonlSink(directory, KINDS if distributed.rank() == 0 else ())
        self.jsonl.rewind(dict.fromkeys(self.jsonl.paths, 0))
        self.stamp = ""  # of the newest checkpoint
        self.is_saved = False  # whether the newest checkpoint holds the present state

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in the directory, within a ``with`` block.

        Errors of writing there become a ``UserError``. Blocks may be nested.
        """
        with explain_errors(self.directory):
            if distributed.rank():
                yield
                return
            with self.lock.hold():
                yield

    def begin(self, finished: bool, changes: Mapping[str, Any]) -> None:
        """Restores the directory to what it was at the checkpoint that was loaded.

        Only the process that trains there may call it.

        Args:
            finished: True if the run has no frames left to play.
            changes: new values of its settings, to be written to its configuration.

        Raises:
            Taken: another process has trained there since.
        """
        if self.checkpoints.stamp() != self.stamp:
            raise Taken(
                f"{str(self.directory)!r} was trained on since it was loaded here; load it again"
            )
        run_claim.begin(self.directory, self.checkpoints, finished, changes)
        self.jsonl.open()

    def save(self, frames: int, state: State, best: Sequence[str], replay: State | None) -> None:
        """Writes a checkpoint.

        Args:
            frames: frames that the run has played.
            state: the state of the run.
            best: teams whose best checkpoint this is.
            replay: state of the replay, if checkpoints are to hold it.
        """
        self.checkpoints.save(frames, state, best, replay)
        if distributed.rank() == 0:
            run_claim.mark_checkpointed(self.directory)
        self.stamp, self.is_saved = self.checkpoints.stamp(), True

    def load(self, device: torch.device) -> State | None:
        """Loads the newest checkpoint.

        Args:
            device: where the tensors are to be.

        Returns:
            The state of the run; None for a run that was killed before its first checkpoint.

        Raises:
            UserError: the checkpoints are lost, or another number of ranks wrote them.
        """
        if self.checkpoints.last() is None:
            run_claim.check_unstarted(self.directory, self.settings)
            return None
        self.checkpoints.check_ranks()
        self.stamp, self.is_saved = self.checkpoints.stamp(), True
        return self.checkpoints.load_last(device)[1]
