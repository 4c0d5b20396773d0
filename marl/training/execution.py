"""How a run executes: eager, compiled on the way to the processor, or captured as CUDA graphs.

``execution`` of the settings is a word; ``resolve`` turns ``auto`` into one of the others by a rule
of device and task, never by a timing, so that a run can be repeated and resumed. Eager is the
reference: the others compute the same up to rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from marl.algorithm import Algorithm, PureActor, is_pure_actor
from marl.env import PureEnv, VectorEnv, is_pure
from marl.errors import UserError
from marl.training.rollout_program import RolloutProgram
from marl.utils import distributed, programs
from marl.utils.capture import fall_back
from marl.utils.programs import Prepare

PREPARE: dict[str, Prepare] = {"compiled": programs.compiled, "captured": programs.captured}


def resolve(word: str, env: VectorEnv) -> str:
    """Returns the word that a setting stands for, which is not ``auto``.

    ``auto`` is captured on a CUDA device for an environment with a pure step, and else eager.

    Args:
        word: the setting ``execution``.
        env: the environment of the run, on its device.

    Raises:
        UserError: the run cannot be captured.
    """
    cuda = torch.device(env.device).type == "cuda"
    if word == "auto":
        return "captured" if cuda and is_pure(env) and distributed.size() == 1 else "eager"
    if word != "captured":
        return word
    if not cuda:
        raise UserError(
            "execution=captured records CUDA graphs and needs device=cuda, and this run has "
            f"device={env.device}; set execution=compiled, or eager"
        )
    if getattr(env, "steps_on_host", False):
        raise UserError(
            "execution=captured records CUDA graphs, and this environment is stepped in Python; "
            "set execution=eager, or take a batched task (marl list tasks)"
        )
    if distributed.size() > 1:
        raise UserError(
            f"execution=captured is for one process, and this run has {distributed.size()}; set "
            "execution=eager"
        )
    return word


def check_same(directory: Path, word: str) -> None:
    """Checks that a run is resumed with the execution that it began with.

    Args:
        directory: directory of the run.
        word: the resolved execution.

    Raises:
        UserError: it was another.
    """
    before = execution_of(directory)
    if before != word:
        raise UserError(
            f"{str(directory)!r} began with execution={before} and would go on with "
            f"execution={word}, whose numbers differ in their last digits; resume it with "
            f"execution={before}, or train a new run with start_from={directory}"
        )


def execution_of(directory: Path) -> str:
    """Returns the execution that a run's configuration records; ``eager`` for older runs."""
    try:
        return json.loads((directory / "config.json").read_text()).get("execution", "eager")
    except (OSError, ValueError, AttributeError, RecursionError):  # reported where it is loaded
        return "eager"


def rollout_program(
    word: str, env: VectorEnv, teams: Mapping[str, Algorithm], steps: int
) -> RolloutProgram | None:
    """Returns the program that plays rollouts; None to play them step by step.

    Where a program is asked for and cannot be made, a line on stderr names the cause.

    Args:
        word: the resolved execution.
        env: the environment.
        teams: algorithms by team.
        steps: T, steps of a rollout.
    """
    if word == "eager":
        return None
    impure = [name for name, team in teams.items() if not is_pure_actor(team)]
    if not is_pure(env):
        cause = f"{type(env).__name__} has no pure step (marl.env.PureEnv)"
        fall_back(word, "the rollout", cause)
    elif impure:
        cause = f"team {impure[0]!r} has no pure act (marl.algorithm.PureActor)"
        fall_back(word, "the rollout", cause)
    else:
        pure: dict[str, Any] = dict(teams)
        return RolloutProgram(
            cast(PureEnv, env), cast(Mapping[str, PureActor], pure), steps, PREPARE[word],
            lambda error: fall_back(word, "the rollout", error),
        )  # fmt: skip
    return None
