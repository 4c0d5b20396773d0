"""Callbacks: code of users that a run calls at three moments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from marl.errors import UserError
from marl.training.logging import drop_nonfinite
from marl.types import Metrics, Rollout
from marl.utils import distributed
from marl.utils.process_state import ProcessState
from marl.utils.seeding import seed_everything


class Callback:
    """Base class of callbacks; override the methods of the moments that you need.

    All ranks call their callbacks at the same moments; only rank 0 has evaluations. An error in a
    callback ends the run with a traceback; the run can be resumed from its last checkpoint.

    The tensors of a rollout are the storage of the run: do not change them, and copy those that
    must outlive the call. Random numbers from the global generators of torch, numpy and Python come
    from separate streams here, so that they change nothing of the run. These streams begin with
    the run's seed and continue from call to call, but not from a checkpoint.
    """

    def on_rollout(self, run: Any, rollout: Rollout) -> None:
        """Runs after a rollout was collected, before any team learns from it.

        Args:
            run: the ``Experiment``.
            rollout: the rollout of this rank, ``[T, B, N, ...]``; valid until the next one.
        """

    def on_update(self, run: Any, stats: Mapping[str, Metrics]) -> None:
        """Runs after all teams have learned from a rollout.

        Args:
            run: the ``Experiment``; its ``frames`` and ``iteration`` include this rollout.
            stats: statistics of each team's update, by team: scalars on the device, of this rank.
        """

    def on_evaluation(self, run: Any, record: Mapping[str, Any]) -> None:
        """Runs on rank 0 after an evaluation was logged, before the checkpoint at that frame.

        Args:
            run: the ``Experiment``.
            record: the record in ``evaluations.jsonl``: ``frames``, and one number for each episode
                in ``returns`` (by team) and ``metrics`` (by name).
        """


class Callbacks(Callback):
    """Several callbacks as one, called in order, with global random states of their own.

    Args:
        callbacks: callbacks of the user.
        device: device of the run, on which they may draw random numbers.
        seed: seed of the run.
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

    def _call(self, method: Callable[[Callback], None]) -> None:
        if self.callbacks:
            with self.process.use():
                for callback in self.callbacks:
                    method(callback)


def numbers_to_log(numbers: Mapping[str, float], taken: Collection[str]) -> dict[str, float]:
    """Returns the numbers of a callback as they are logged, without those that are not finite.

    Args:
        numbers: by name; also scalar tensors and arrays.
        taken: names that every line of ``metrics.jsonl`` has of its own.

    Raises:
        UserError: a name is taken.
    """
    for name in numbers:
        if name in taken:
            raise UserError(
                f"callbacks: {name!r} is logged by the run itself; take another name for a "
                f"callback's number, such as 'mine/{name}'"
            )
    return drop_nonfinite({name: float(number) for name, number in numbers.items()})
