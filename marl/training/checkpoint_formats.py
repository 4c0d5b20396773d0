"""Formats of checkpoints. A checkpoint names the format that it is written in; one reader for every
older format makes the next one of it, so that no other code knows any but the newest.

A key that a state dict renames, drops or adds is a new format from the first release that writes
it: raise ``FORMAT`` and add a reader. Lists of tensors (the replay's storage, the collector's
observations) are in the order of their classes' fields, and the words that name random streams
never change: no reader could mend either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from marl.errors import UserError

State = dict[str, Any]

# 1  No number. Written up to commit cfe369c.
# 2  The statistics of off-policy actors' last step are called so, and so are models of opponents;
#    what the first versions did not write (the version of learning, self-play, the names of
#    metrics) is there always.
FORMAT = 2


def read(state: State, path: Path) -> State:
    """Returns a checkpoint's state in the newest format.

    Args:
        state: as it was written; changed in place.
        path: of its file, for the error.

    Raises:
        UserError: it is of a newer format.
    """
    number = state.get("format", 1)
    if number > FORMAT:
        raise UserError(
            f"checkpoint {str(path)!r} has format {number}, and this version of marl reads formats "
            f"up to {FORMAT}: update marl"
        )
    for older in range(number, FORMAT):
        READERS[older](state)
    state["format"] = FORMAT
    return state


def _read_1(state: State) -> None:
    """Makes format 2 of format 1."""
    state.setdefault("learning", 1)
    # Where it is missing there was no self-play, whose random stream begins when it is first used.
    random = torch.Generator().get_state()
    state.setdefault("selfplay", {"pools": {}, "turn": 0, "next": 0, "random": random})
    state.get("collector", {}).setdefault("info", [])
    state.get("evaluations", {}).setdefault("metrics", [])
    for team in state.get("teams", {}).values():
        rename(
            team,
            told="actor_stats",
            believed="opponent_models",
            believed_target="target_opponent_models",
            inference_optimizer="opponent_models_optimizer",
        )
        if "value_norm" in team:  # on-policy
            team.setdefault("auxiliaries", {})


def rename(state: State, **names: str) -> None:
    """Renames keys, old to new, of those that are there."""
    for old, new in names.items():
        if old in state:
            state[new] = state.pop(old)


READERS: dict[int, Callable[[State], None]] = {1: _read_1}  # format -> makes the next one of it
