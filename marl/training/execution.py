"""How a run executes: eager, compiled on the way to the processor, or captured as CUDA graphs.

``execution`` of the settings is a word; ``resolve`` turns ``auto`` into one of the others by a rule
of device and task, never by a timing, so that a run can be repeated and resumed. Eager is the
reference: the others compute the same up to rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch

from marl.algorithm import Algorithm, PureActor, is_pure_actor
from marl.env import VectorEnv, pure_env
from marl.errors import UserError
from marl.training.rollout_program import RolloutProgram
from marl.utils import distributed, programs
from marl.utils.capture import fall_back
from marl.utils.programs import Prepare

PREPARE: dict[str, Prepare] = {"compiled": programs.compiled, "captured": programs.captured}


def resolve(word: str, env: VectorEnv) -> str:
    """Returns the word that a setting stands for, which is not ``auto``.

    ``auto`` is eager. On a CUDA device it is to be captured for environments with a pure step, once
    recorded graphs have run on a GPU: they were tested on recordings that call the function again.

    Args:
        word: the setting ``execution``.
        env: the environment of the run, on its device.

    Raises:
        UserError: the run cannot be captured.
    """
    cuda = torch.device(env.device).type == "cuda"
    if word == "auto":
        return "eager"
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


def resolve_resumed(word: str, env: VectorEnv, directory: Path) -> str:
    """Returns the execution that a run goes on with, which is the one that it began with.

    With ``auto``, a captured run that is resumed where nothing can be captured goes on eager, and a
    line on stderr says so.

    Args:
        word: the setting ``execution``.
        env: the environment of the run, on its device.
        directory: directory of the run.

    Raises:
        UserError: the setting is another than the run began with, or the run cannot be captured.
    """
    before = execution_of(directory)
    if word != "auto":
        if resolve(word, env) != before:
            raise UserError(
                f"{str(directory)!r} began with execution={before}, and with execution={word} its "
                f"numbers would differ in their last digits; resume it with execution={before}, or "
                f"train a new run with start_from={directory}"
            )
        return before
    try:
        return resolve(before, env)
    except UserError as error:
        fall_back(before, "the rest of the run", str(error))
        return "eager"


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
    if (pure := pure_env(env)) is None:
        cause = f"{type(env).__name__} has no pure step (marl.env.PureEnv)"
        fall_back(word, "the rollout", cause)
    elif impure:
        cause = f"team {impure[0]!r} has no pure act (marl.algorithm.PureActor)"
        fall_back(word, "the rollout", cause)
    else:
        return RolloutProgram(
            pure, cast(Mapping[str, PureActor], teams), steps, PREPARE[word],
            lambda error: fall_back(word, "the rollout", error),
        )  # fmt: skip
    return None
