"""Foraging beside lbforaging, and episodes of the package that were recorded."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marl.envs.foraging.board import find_board
from marl.envs.foraging.env import ForagingEnv
from marl.envs.foraging.state import State

#: What ``tests.helpers.record_foraging`` wrote, and the steps of an episode there.
EPISODES, STEPS = Path(__file__).with_name("foraging_episodes.npz"), 30

#: The task and its options, by the name of a recorded episode's board.
BOARDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("foraging/8x8-2p-2f", {}),
    "coop": ("foraging/8x8-2p-2f-coop", {}),
    "sight": ("foraging/2s-8x8-3p-3f", {}),
    "crowded": ("foraging/5x5-6p-2f", {"penalty": 0.1}),
    "own": ("foraging/3s-9x9-4p-5f", {
        "min_player_level": [1, 2, 2, 1], "max_player_level": [3, 2, 4, 1],
        "min_food_level": 2, "max_food_level": [2, 3, 3, 4, 5], "normalize_reward": False,
        "observe_agent_levels": False,
    }),
    "plain-rewards": ("foraging/7x7-3p-3f", {"normalize_reward": False, "penalty": 0.5}),
}  # fmt: skip


def raw_env(name: str, options: dict[str, Any], max_steps: int = 50) -> Any:
    """The package's environment of the same board and options."""
    package = importlib.import_module("lbforaging.foraging")
    board = find_board(name)
    assert board is not None
    sight = board.sight or max(board.rows, board.columns)
    given = {
        "min_player_level": 1, "max_player_level": 2, "min_food_level": 1, "max_food_level": None,
        **options,
    }  # fmt: skip
    return package.ForagingEnv(
        players=board.players, field_size=(board.rows, board.columns), max_num_food=board.foods,
        sight=sight, max_episode_steps=max_steps, force_coop=board.coop, **given,
    )  # fmt: skip


def begin(env: ForagingEnv, players: Any, levels: Any, foods: Any) -> State:
    """Episodes of ``env`` from the same beginnings.

    Args:
        env: the environment; its state is replaced.
        players: rows and columns, ``[B, N, 2]``.
        levels: of the players, ``[B, N]``.
        foods: for each episode a list of (row, column, level); fewer than F if there was no room.
    """
    board = env.board
    filled = [[*food, *[[0, 0, 0]] * (board.foods - len(food))] for food in foods]
    food = torch.tensor(np.array(filled), dtype=torch.int32).permute(2, 1, 0)  # [3, F, B]
    env.reset(0)
    old = env.state
    env.state = env.last_state = State.of(
        torch.tensor(np.array(players), dtype=torch.int32).permute(2, 1, 0),
        torch.tensor(np.array(levels), dtype=torch.int32).t(),
        food[:2], food[2], food[2].sum(0, dtype=torch.int32),
        old.steps, old.failed, old.action, old.loaded,
    )  # fmt: skip
    return env.state


def foods_of(field: Any) -> list[list[int]]:
    """(row, column, level) of each food on the package's field."""
    return [[int(r), int(c), int(field[r, c])] for r, c in zip(*np.nonzero(field), strict=True)]


def forager(inner: Any, random: np.random.Generator) -> list[int]:
    """Actions for the package's players: to the nearest food and load, or anything."""
    actions = []
    foods = np.argwhere(inner.field)
    for player in inner.players:
        row, column = player.position
        choice = int(random.integers(6))
        if len(foods) and random.random() < 0.7:
            ways = foods - [row, column]
            way = ways[np.abs(ways).sum(1).argmin()]
            if np.abs(way).sum() == 1:
                choice = 5
            elif random.random() < 0.5 and way[0]:
                choice = 1 if way[0] < 0 else 2
            elif way[1]:
                choice = 3 if way[1] < 0 else 4
        actions.append(choice)
    return actions
