"""Games by the name of a task, and their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from marl.envs.checks import check_options
from marl.envs.games.aloha import Aloha
from marl.envs.games.byzantine import Byzantine
from marl.envs.games.coordination import Coordination
from marl.envs.games.cue import Cue
from marl.envs.games.env import GameEnv
from marl.envs.games.game import Game
from marl.envs.games.matrix import Climbing, Matrix, Penalty, Qplex, Qtran, Random
from marl.envs.games.mmdp import TwoStateMdp
from marl.envs.games.spectrum import Spectrum
from marl.envs.games.two_step import TwoStep
from marl.errors import unknown
from marl.utils.argument_docs import argument_options
from marl.utils.field_docs import Option

#: The class of every game, by its name after ``games/``.
GAMES: dict[str, type[Game[Any]]] = {
    "aloha": Aloha,
    "byzantine": Byzantine,
    "climbing": Climbing,
    "coordination": Coordination,
    "cue": Cue,
    "matrix": Matrix,
    "mmdp": TwoStateMdp,
    "penalty": Penalty,
    "qplex": Qplex,
    "qtran": Qtran,
    "random": Random,
    "spectrum": Spectrum,
    "two_step": TwoStep,
}


def make(
    name: str,
    num_envs: int,
    device: torch.device | str = "cpu",
    max_steps: int | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> GameEnv:
    """Returns copies of ``games/<game>``.

    Args:
        name: the task.
        num_envs: B, the number of copies.
        device: where the game runs.
        max_steps: steps of an episode; None for the game's own.
        groups: group -> agents, in place of groups by name.
        options: the game's own.

    Raises:
        UserError: an unknown name or option, or a value out of range.
    """
    game = GAMES.get(name.removeprefix("games/"))
    if game is None:
        raise unknown("task", name, names())
    check_options(name, options, game)
    return GameEnv(name, game(**options), num_envs, device, max_steps, groups)


def task_options(name: str) -> Iterator[Option]:
    """Yields the options of a game that can be set by ``task.kwargs``.

    Args:
        name: the task.

    Raises:
        UserError: an unknown name.
    """
    game = GAMES.get(name.removeprefix("games/"))
    if game is None:
        raise unknown("task", name, names())
    yield from argument_options(game)


def names() -> list[str]:
    """Returns the names of all tasks of this provider."""
    return [f"games/{name}" for name in GAMES]
