"""Foraging by the name of a task, and its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from marl.envs.checks import check_options
from marl.envs.foraging.board import Board, Options, find_board
from marl.envs.foraging.env import MAX_STEPS, ForagingEnv
from marl.errors import UserError, unknown
from marl.utils.field_docs import Option, options

#: Names that are listed; any other size, and numbers of players and foods, will do too.
NAMES = (
    "8x8-2p-2f", "8x8-2p-2f-coop", "2s-8x8-2p-2f-coop", "10x10-3p-3f", "2s-10x10-3p-3f",
    "15x15-3p-5f", "15x15-4p-3f", "15x15-4p-5f",
)  # fmt: skip


def make(
    name: str,
    num_envs: int,
    device: torch.device | str = "cpu",
    max_steps: int | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    **values: Any,
) -> ForagingEnv:
    """Returns copies of ``foraging/[2s-]<size>-<players>p-<foods>f[-coop]``.

    Args:
        name: the task.
        num_envs: B, the number of copies.
        device: where they run.
        max_steps: steps of an episode; None for 50.
        groups: group -> agents, in place of one group of all.
        values: of ``Options``.

    Raises:
        UserError: an unknown name or option, or a value out of range.
    """
    board = _board(name)
    if (package_name := "max_episode_steps") in values:
        raise UserError(f"{package_name} is no option of {name}; set task.max_steps instead")
    check_options(name, values, Options)
    chosen = Options(**values)
    if None not in (board.sight, chosen.sight) and board.sight != chosen.sight:
        raise UserError(
            f"sight={chosen.sight} contradicts the task {name!r}; leave one of them out"
        )
    steps = MAX_STEPS if max_steps is None else max_steps
    return ForagingEnv(name, board, num_envs, device, steps, chosen, groups)


def task_options(name: str) -> Iterator[Option]:
    """Yields the options of a task that can be set by ``task.kwargs``.

    Args:
        name: the task.

    Raises:
        UserError: an unknown name.
    """
    _board(name)
    yield from options(Options())


def names() -> list[str]:
    """Returns the usual names of this provider."""
    return [f"foraging/{name}" for name in NAMES]


def _board(name: str) -> Board:
    board = find_board(name)
    if board is None:
        raise unknown("task", name, names())
    return board
