"""What users do in the midst of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from marl.types import Metrics, Rollout
from marl.utils import distributed
from marl.utils.process_state import ProcessState
from marl.utils.seeding import seed_everything


class Callback:
    """Is called by a run at three moments; override those that you need.

    All ranks call it alike, at the same moments, and only the first has evaluations. An error in it
    ends the run with a traceback, as the last checkpoint left it: it is the user's.

    A callback changes what it is given only where it means to: the tensors of the rollout are the
    run's own storage, and to be copied where they are kept beyond the call. What it draws from
    torch's, numpy's and Python's global generators comes from streams of the callbacks' own, which
    begin with the run's seed and go on from call to call, but not from a checkpoint: it moves
    nothing of the run.
    """

    def on_rollout(self, run: Any, rollout: Rollout) -> None:
        """Called when a rollout has been collected, before any team learns from it.

        Args:
            run: the ``Experiment``.
            rollout: of this rank, ``[T, B, N, ...]``; valid until the next one.
        """

    def on_update(self, run: Any, stats: Mapping[str, Metrics]) -> None:
        """Called when every team has learned from the rollout.

        Args:
            run: the ``Experiment``; its ``frames`` and ``iteration`` count this one.
            stats: what each team's update returned, by team: scalars on the device, of this rank.
        """

    def on_evaluation(self, run: Any, record: Mapping[str, Any]) -> None:
        """Called on the first rank when an evaluation has been played and logged, before the
        checkpoint at the same frames.

        Args:
            run: the ``Experiment``.
            record: as in ``evaluations.jsonl``: ``frames``, ``returns`` of each team and
                ``metrics``, one number for every episode.
        """


class Callbacks(Callback):
    """Calls several in order, with global random states of their own.

    Args:
        callbacks: of the user.
        device: the run's, on which they may draw.
        seed: the run's.
    """

    def __init__(self, callbacks: Sequence[Callback], device: torch.device, seed: int):
        self.callbacks = list(callbacks)
        self.process = ProcessState(device, threads=0)
        with self.process.use():
            seed_everything(device, seed, "callbacks", *distributed.seed_suffix())

    def on_rollout(self, run: Any, rollout: Rollout) -> None:
        self._call(lambda callback: callback.on_rollout(run, rollout))

    def on_update(self, run: Any, stats: Mapping[str, Metrics]) -> None:
        self._call(lambda callback: callback.on_update(run, stats))

    def on_evaluation(self, run: Any, record: Mapping[str, Any]) -> None:
        self._call(lambda callback: callback.on_evaluation(run, record))

    def _call(self, moment: Callable[[Callback], None]) -> None:
        if self.callbacks:
            with self.process.use():
                for callback in self.callbacks:
                    moment(callback)
