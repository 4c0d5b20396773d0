"""A run's files: what the one process that trains in a directory keeps there."""

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
    """The checkpoints and the records of a run. Nothing is written before ``begin``.

    Args:
        directory: the run's, which is there.
        settings: the run's.
    """

    def __init__(self, directory: Path, settings: Settings):
        self.directory, self.settings = directory, settings
        self.lock = Lock(directory)
        self.checkpoints = Checkpoints(directory / "checkpoints", settings.checkpoints_kept)
        self.jsonl = JsonlSink(directory, KINDS if distributed.rank() == 0 else ())
        self.jsonl.rewind(dict.fromkeys(self.jsonl.paths, 0))
        self.stamp, self.saved = "", False  # of the newest checkpoint; whether all is in it

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in the directory; what cannot be written there ends
        in a sentence. May be nested."""
        with explain_errors(self.directory):
            if distributed.rank():
                yield
                return
            with self.lock.hold():
                yield

    def begin(self, ended: bool, changes: Mapping[str, Any]) -> None:
        """Makes the directory what it was at the checkpoint that was loaded: all that only the
        process that trains there may do.

        Args:
            ended: whether the run has no frames left to play.
            changes: of its settings, to be written.

        Raises:
            Taken: another process trained there since.
        """
        if self.checkpoints.stamp() != self.stamp:
            raise Taken(
                f"{str(self.directory)!r} was trained on since it was loaded here; load it again"
            )
        run_claim.begin(self.directory, self.checkpoints, ended, changes)
        self.jsonl.open()

    def save(self, frames: int, state: State, best: Sequence[str], replay: State | None) -> None:
        """Writes a checkpoint, also as the best of the teams ``best``."""
        self.checkpoints.save(frames, state, best, replay)
        if distributed.rank() == 0:
            run_claim.mark_checkpointed(self.directory)
        self.stamp, self.saved = self.checkpoints.stamp(), True

    def load(self, device: torch.device) -> State | None:
        """Returns the state of the last checkpoint; None of a run that was killed before the first.

        Raises:
            UserError: its checkpoints are lost, or of another number of ranks.
        """
        if self.checkpoints.last() is None:
            run_claim.check_unstarted(self.directory, self.settings)
            return None
        self.checkpoints.check_ranks()
        self.stamp, self.saved = self.checkpoints.stamp(), True
        return self.checkpoints.load_last(device)[1]
