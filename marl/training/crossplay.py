"""Who beats whom: the teams of several runs against each other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from marl.algorithm import Algorithm
from marl.env import VectorEnv
from marl.errors import UserError, unknown
from marl.training import build, loading, run_directory
from marl.training.agent_order import Ordered, arranged
from marl.training.evaluation import Limit, evaluate
from marl.utils.versions import learning


@dataclass(frozen=True)
class Entrant:
    """A run that sends its teams."""

    name: str
    path: Path  # of its checkpoint
    frames: int  # that it had seen
    teams: dict[str, Algorithm]


@dataclass(frozen=True)
class Crossplay:
    """What every pairing of ``entrants`` reached: the row plays ``side``, the column all other
    teams. ``cells[row][column]`` is as ``marl.training.evaluation.evaluate`` returns it."""

    side: str
    entrants: Sequence[Entrant]
    cells: list[list[dict[str, dict[str, list[float]]]]]

    def quantities(self) -> list[tuple[str, str]]:
        """Every team's return and every metric: (``returns`` or ``metrics``, name)."""
        first = self.cells[0][0]
        return [(kind, name) for kind in ("returns", "metrics") for name in first[kind]]

    def matrix(self, kind: str, name: str) -> list[list[tuple[float, float]]]:
        """Mean and standard error of one quantity, by row and column."""
        return [[mean_error(cell[kind][name]) for cell in row] for row in self.cells]

    def to_plain(self) -> dict[str, Any]:
        """For JSON: every episode of every cell."""
        who = [
            {"name": e.name, "checkpoint": str(e.path), "frames": e.frames} for e in self.entrants
        ]
        cells = [
            {"row": row.name, "column": column.name, **self.cells[i][j]}
            for i, row in enumerate(self.entrants)
            for j, column in enumerate(self.entrants)
        ]
        return {"side": self.side, "runs": who, "cells": cells}


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.fmean(values), error


def enter(
    paths: Sequence[Path],
    episodes: int,
    device: torch.device,
    best: str | None = None,
    side: str = "",
) -> tuple[VectorEnv, list[Entrant]]:
    """The environment that all were trained in, and what each run sends.

    Raises:
        UserError: runs of different tasks, teams or agents, one that is named twice, or no team of
            the name ``side``.
    """
    found = [loading.newest(path, device, best) for path in paths]
    configs = [run_directory.read_config(directory) for directory, _, _ in found]
    _check_alike(paths, configs)
    if side and side not in configs[0]["teams"]:
        raise unknown("team", side, configs[0]["teams"])
    names = _names(paths, [file for _, file, _ in found])
    make = Ordered(configs[0]["task"], partial(arranged, saved=configs[0].get("agents")))
    env = make(min(32, episodes), device)
    entrants = []
    for name, (_, file, state), config in zip(names, found, configs, strict=True):
        agents, version = config.get("agents"), learning(config)
        teams = build.load_teams(env, config["teams"], state["teams"], file, agents, version)
        entrants.append(Entrant(name, file, state["frames"], teams))
    return env, entrants


def _check_alike(paths: Sequence[Path], configs: Sequence[dict[str, Any]]) -> None:
    first, *others = configs
    if len(first["teams"]) < 2:
        raise UserError(
            f"{str(paths[0])!r} has one team, {next(iter(first['teams']))!r}; cross-play needs "
            "a task with at least two, such as mpe/simple_tag"
        )
    for path, config in zip(paths[1:], others, strict=True):
        if config["task"] != first["task"]:
            raise UserError(
                f"{str(path)!r} was trained in another task than {str(paths[0])!r}: "
                f"{config['task']}, not {first['task']}"
            )
        groups = [{n: t.groups for n, t in c["teams"].items()} for c in (config, first)]
        if groups[0] != groups[1]:
            raise UserError(
                f"{str(path)!r} has other teams than {str(paths[0])!r}: {groups[0]}, "
                f"not {groups[1]}"
            )


def _names(paths: Sequence[Path], files: Sequence[Path]) -> list[str]:
    """Short, and each its own."""
    for words in (1, 2, 3, 99):
        parts = [(path.with_suffix("") if path.suffix == ".pt" else path).parts for path in paths]
        names = ["/".join(p for p in part[-words:] if p != "checkpoints") for part in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"{str(paths[0])!r} and the others must be different runs: one is named twice")


def crossplay(
    env: VectorEnv,
    entrants: Sequence[Entrant],
    episodes: int,
    seed: int,
    explore: bool = False,
    side: str = "",
    advance: Callable[[], None] = lambda: None,
    limit: Limit | None = None,
) -> Crossplay:
    """Plays every pairing over the same ``episodes``, the rows on ``side`` (empty for the first
    team); ``advance`` is called after each."""
    teams = entrants[0].teams
    side = side or next(iter(teams))
    cells = []
    for row in entrants:
        cells.append([])
        for column in entrants:
            playing = {n: (row if n == side else column).teams[n] for n in teams}
            cells[-1].append(evaluate(env, playing, episodes, seed, explore, limit))
            advance()
    return Crossplay(side, entrants, cells)
