"""A check of a suite's runs before any of them starts: their settings, and the options of tasks."""

from __future__ import annotations

from collections.abc import Iterable

from marl.benchmark.records import Cell
from marl.benchmark.suite import Suite
from marl.errors import UserError


def check(suite: Suite, cells: Iterable[Cell]) -> None:
    """Composes the settings of each pair of task and algorithm once, and makes each task once.

    Args:
        suite: the suite.
        cells: the runs that are to start.

    Raises:
        UserError: ``marl train`` would refuse a run; names the first, and why.
    """
    tasks: set[str] = set()
    for cell in {(c.task, c.algorithm): c for c in reversed(list(cells))}.values():
        try:
            _check(suite.words(cell), tasks)
        except UserError as error:
            raise UserError(
                f"suite {suite.name!r}, {cell.task} with {cell.algorithm}: {error}"
            ) from None


def _check(words: list[str], tasks: set[str]) -> None:
    import torch

    from marl.cli import compose

    run = compose.composed(words)
    compose.check_choices(run)
    if repr(run.task) in tasks:
        return
    tasks.add(repr(run.task))
    try:
        run.task(1, torch.device("cpu")).close()
    except UserError:
        raise
    except Exception:  # a fault of the environment's own, which each run's log shows whole
        return
