"""Returns to compare those of a suite with: of doing nothing, and the best that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marl.benchmark.records import BadRecord, read_json
from marl.benchmark.suite import Best

FILE = "references.json"  # in a suite's folder of records
DO_NOTHING = "do nothing"
LARGEST = 1e100  # of a return, as of those in records


@dataclass(frozen=True)
class References:
    """What is known of one task."""

    #: Mean return of every team that does nothing; empty where it was not measured.
    idle: Mapping[str, float]
    #: Best known return; None where none is known.
    best: Best | None = None


def read(folder: Path, best: Mapping[str, Best]) -> tuple[dict[str, References], str]:
    """Returns the references of a suite's tasks, by task, and what is wrong with their file.

    Args:
        folder: the suite's, with ``references.json`` where ``marl benchmark --references`` ran.
        best: best known returns, by task.
    """
    try:
        idle, fault = _idle(folder / FILE), ""
    except BadRecord as error:
        idle, fault = {}, f"{error}; measure again by marl benchmark {folder.name} --references"
    tasks = dict.fromkeys([*idle, *best])
    return {task: References(idle.get(task, {}), best.get(task)) for task in tasks}, fault


def _idle(path: Path) -> dict[str, dict[str, float]]:
    """Returns the mean return of every team that does nothing, by task."""
    measured = read_json(path) if path.exists() else {}
    try:
        idle = {task: _means(played[DO_NOTHING]) for task, played in measured.items()}
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        reason = f"{path.name} is not as it was written: {type(error).__name__} {error}"
        raise BadRecord(reason) from None
    if not all(abs(value) < LARGEST for means in idle.values() for value in means.values()):
        raise BadRecord(f"{path.name} holds a number that is not finite, or too large")
    return idle


def _means(returns: Mapping[str, Any]) -> dict[str, float]:
    return {team: sum(map(float, values)) / len(values) for team, values in returns.items()}
