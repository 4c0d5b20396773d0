"""Cross-play: the teams of several runs against each other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from marl.algorithm import Algorithm
from marl.env import VectorEnv
from marl.errors import UserError, unknown
from marl.training import build, loading, run_directory
from marl.training.agent_order import OrderedTask, arrange
from marl.training.evaluation import Limit, evaluate
from marl.training.origin import naming_origin
from marl.utils.versions import learning


@dataclass(frozen=True)
class Entrant:
    """A run that takes part in cross-play."""

    #: Short name of the run.
    name: str
    #: File of its checkpoint.
    path: Path
    #: Frames that it had played at the checkpoint.
    frames: int
    #: Its algorithms, by team.
    teams: dict[str, Algorithm]


@dataclass(frozen=True)
class Crossplay:
    """Results of all pairings of runs: rows play ``side``, columns play all other teams."""

    #: Team that the rows play.
    side: str
    #: The runs, in the order of rows and of columns.
    entrants: Sequence[Entrant]
    #: Results by row and column, as ``marl.training.evaluation.evaluate`` returns them.
    cells: list[list[dict[str, dict[str, list[float]]]]]

    def quantities(self) -> list[tuple[str, str]]:
        """Returns all quantities as (``returns`` or ``metrics``, name of the team or metric)."""
        cell = self.cells[0][0]
        return [(kind, name) for kind in ("returns", "metrics") for name in cell[kind]]

    def matrix(self, kind: str, name: str) -> list[list[tuple[float, float]]]:
        """Returns mean and standard error of one quantity, by row and column.

        Args:
            kind: ``returns`` or ``metrics``.
            name: name of the team or metric.
        """
        return [[mean_error(cell[kind][name]) for cell in row] for row in self.cells]

    def to_plain(self) -> dict[str, Any]:
        """Returns plain values for JSON, with each episode of each cell."""
        runs = [
            {"name": e.name, "checkpoint": str(e.path), "frames": e.frames} for e in self.entrants
        ]
        cells = [
            {"row": row.name, "column": column.name, **self.cells[i][j]}
            for i, row in enumerate(self.entrants)
            for j, column in enumerate(self.entrants)
        ]
        return {"side": self.side, "runs": runs, "cells": cells}


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Returns mean and standard error of values; the error of a single value is 0."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.fmean(values), error


def enter(
    paths: Sequence[Path],
    episodes: int,
    device: torch.device,
    best: str | None = None,
    side: str = "",
) -> tuple[VectorEnv, list[Entrant]]:
    """Loads runs for cross-play, and makes the environment that they were trained in.

    Args:
        paths: run directories or checkpoint files.
        episodes: episodes of each pairing; the environment has at most 32 copies.
        device: where to play.
        best: team at whose best checkpoint each run plays, empty for its only team; None for the
            newest checkpoint.
        side: team that is to be the rows'; empty for the first.

    Raises:
        UserError: the runs have different tasks, teams or agents, one is named twice, or no team is
            named ``side``.
    """
    loaded = [loading.load_checkpoint(path, device, best) for path in paths]
    configs = [run_directory.read_config(directory) for directory, _, _ in loaded]
    _check_comparable(paths, configs)
    if side and side not in configs[0]["teams"]:
        raise unknown("team", side, configs[0]["teams"])
    names = _names(paths, [file for _, file, _ in loaded])
    task = build.for_evaluation(configs[0]["task"])
    make = OrderedTask(task, partial(arrange, saved=configs[0].get("agents")))
    with naming_origin(loaded[0][0]):
        env = make(min(32, episodes), device)
    entrants = []
    for name, (_, file, state), config in zip(names, loaded, configs, strict=True):
        agents, version = config.get("agents"), learning(config)
        teams = build.load_teams(env, config["teams"], state["teams"], file, agents, version)
        entrants.append(Entrant(name, file, state["frames"], teams))
    return env, entrants


def _difference(own: Any, first: Any) -> str:
    """Returns in what two tasks differ, as ``vmas/balance, not mpe/simple_tag``."""
    if type(own) is not type(first) or not is_dataclass(own):
        return f"{own}, not {first}"
    pairs = {f.name: (getattr(own, f.name), getattr(first, f.name)) for f in fields(own)}
    names = pairs.pop("name", ("", ""))
    if names[0] != names[1]:
        return f"{names[0]}, not {names[1]}"
    return "; ".join(f"task.{name} is {a}, not {b}" for name, (a, b) in pairs.items() if a != b)


def _check_comparable(paths: Sequence[Path], configs: Sequence[dict[str, Any]]) -> None:
    first, *others = configs
    if len(first["teams"]) < 2:
        raise UserError(
            f"{str(paths[0])!r} has one team, {next(iter(first['teams']))!r}; cross-play needs "
            "a task with at least two, such as mpe/simple_tag"
        )
    for path, config in zip(paths[1:], others, strict=True):
        tasks = [build.for_evaluation(c["task"]) for c in (config, first)]
        if tasks[0] != tasks[1]:
            raise UserError(
                f"{str(path)!r} was trained in another task than {str(paths[0])!r}: "
                f"{_difference(*tasks)}"
            )
        groups = [{n: t.groups for n, t in c["teams"].items()} for c in (config, first)]
        if groups[0] != groups[1]:
            raise UserError(
                f"{str(path)!r} has other teams than {str(paths[0])!r}: {groups[0]}, "
                f"not {groups[1]}"
            )


def _names(paths: Sequence[Path], files: Sequence[Path]) -> list[str]:
    """Returns short names of runs, all different."""
    for length in (1, 2, 3, 99):
        parts = [(path.with_suffix("") if path.suffix == ".pt" else path).parts for path in paths]
        names = ["/".join(p for p in part[-length:] if p != "checkpoints") for part in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(
        f"{str(paths[0])!r} and the others must be different runs, and one is named twice; leave "
        "one out"
    )


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
    """Plays all pairings of runs over the same episodes.

    Args:
        env: environment of the runs.
        entrants: the runs.
        episodes: episodes of each pairing.
        seed: seed of the episodes.
        explore: False for greedy actions.
        side: team that the rows play; empty for the first.
        advance: called after each pairing, to show progress.
        limit: longest episode.

    Raises:
        EndlessEpisode: an episode is longer than ``limit`` allows.
    """
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
