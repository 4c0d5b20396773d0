"""The state of a run in a checkpoint: everything that determines how the run continues."""

from __future__ import annotations

import copy
from typing import Any, Protocol

from torch import Tensor

from marl.training import stage_borders
from marl.training.checkpoint_formats import State
from marl.training.logging import JsonlSink
from marl.utils import distributed, seeding
from marl.utils.process_state import ProcessState


class Run(stage_borders.Run, Protocol):
    """The parts of an ``Experiment`` that have a state."""

    learning: int
    iteration: int
    jsonl: JsonlSink
    process: ProcessState


def state_of(run: Run) -> State:
    """Returns the state of a run without its replay, as tensors and plain values.

    No tensor shares memory with more than itself: a file would hold all of it, such as the weights
    of all stacked seeds.
    """
    return _apart({
        "learning": run.learning,
        "frames": run.frames,
        "iteration": run.iteration,
        "evaluations": run.evaluations.state_dict(),
        "stage": run.stages.state_dict(),
        "early_stop": run.early_stop.state_dict(),
        "teams": {name: team.state_dict() for name, team in run.teams.items()},
        "selfplay": run.selfplay.state_dict(),
        "collector": run.collector.state_dict(),
        "random": dict(run.process.random),
        "log": run.jsonl.position(),
    })  # fmt: skip


def _apart(part: Any) -> Any:
    """Returns nested dicts and lists with copies of the tensors that are parts of larger ones."""
    if isinstance(part, Tensor):
        return part.clone() if part.untyped_storage().nbytes() > part.nbytes else part
    if isinstance(part, dict):
        copied = copy.copy(part)
        copied.update({key: _apart(value) for key, value in part.items()})
        return copied
    if isinstance(part, list | tuple):
        return type(part)(_apart(value) for value in part)
    return part


def restore(run: Run, state: dict[str, Any]) -> None:
    """Restores a run to the state of a checkpoint.

    If the state of the environment could not be saved, new episodes begin. The random states and
    threads of the run must be in use (``ProcessState.use``).

    Args:
        run: the run.
        state: the state of the checkpoint.
    """
    stage_borders.load_state(run, state)
    run.frames, run.iteration = state["frames"], state["iteration"]
    run.evaluations.load_state_dict(state["evaluations"])
    if "early_stop" in state:  # older runs have none
        run.early_stop.load_state_dict(state["early_stop"])
    for name, team in run.teams.items():
        team.load_state_dict(state["teams"][name])
    run.selfplay.load_state_dict(state["selfplay"])
    if run.replay is not None and "replay" in state:
        run.replay.load_state_dict(state["replay"])
    if not run.collector.load_state_dict(state["collector"]):
        seed = seeding.training_seed(run.settings.seed, run.frames, *distributed.seed_suffix())
        run.collector.restart(seed)
    run.jsonl.rewind(state["log"])
    seeding.set_random_state(state["random"], run.process.device)
