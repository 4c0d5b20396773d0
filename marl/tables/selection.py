"""The runs of a suite that are comparable, and why the others are not."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from marl.benchmark import records, references
from marl.benchmark.records import BadRecord, Cell
from marl.benchmark.references import References
from marl.benchmark.suite import Suite
from marl.tables.record import BUDGET, Run, newest, read
from marl.utils.moved import current
from marl.utils.serialization import TYPE

# Settings in which the seeds of one algorithm may differ: where they ran and what they displayed.
FREE = ("seed", "device", "threads", "execution", "progress", "video", "tensorboard")
FREE += ("wandb", "wandb_project", "wandb_group", "wandb_tags", "wandb_name")
FREE += ("checkpoints_kept", "replay_gib", "replay_checkpoint")

MANY = 300  # records, from which on processes are worth their start
OPTIONAL = ("cut", "density")  # metrics that only some policies have


@dataclass(frozen=True)
class Selection:
    """The runs of a suite that count, and notes on the others."""

    #: Name of the suite.
    name: str
    #: Description of the suite, one sentence.
    about: str
    #: Runs that count, by task, algorithm and seed.
    runs: tuple[Run, ...]
    #: Records that do not count, with the reason.
    left_out: tuple[tuple[Cell, str], ...]
    #: Records with a note: a metric that does not count, or a place outside the grid.
    notes: tuple[tuple[Cell, str], ...]
    #: Cells of the grid without a record.
    missing: tuple[Cell, ...]
    #: Records of an older version of learning than others, with the reason.
    older: tuple[tuple[Cell, str], ...] = ()
    #: What the suite's returns are compared with, by task.
    references: Mapping[str, References] = field(default_factory=dict)
    #: What is wrong with their file; empty if nothing is.
    fault: str = ""

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the grid's order."""
        return list(dict.fromkeys(run.cell.task for run in self.runs))

    @property
    def algorithms(self) -> list[str]:
        """Names of the algorithms, in the grid's order."""
        return list(dict.fromkeys(run.cell.algorithm for run in self.runs))

    @property
    def versions(self) -> list[int]:
        """Versions of learning of the runs, in ascending order."""
        return sorted({run.learning for run in self.runs})

    def teams(self) -> list[str]:
        """Returns the names of the teams that learn."""
        return sorted({team for run in self.runs for team in run.teams})


def select(folder: Path, suite: Suite | None = None) -> Selection:
    """Returns the selection of a suite.

    Args:
        folder: of its records.
        suite: its grid; None for all seeds of all pairs that have records.
    """
    places = sorted(records.find(folder))
    runs: list[Run] = []
    left_out: list[tuple[Cell, str]] = []
    for (cell, _), result in zip(places, _read_all(places), strict=True):
        if isinstance(result, Run):
            runs.append(result)
        else:
            left_out.append((cell, result))
    runs, older = _newest_learning(runs)
    for rule in (_same_task, _same_budget(suite), _same_teams, _same_configuration):
        runs, bad = rule(runs)
        left_out += bad
    existing = [cell for cell, _ in places]
    grid = suite.cells() if suite else _grid(existing)
    runs = _ordered(_whole_metrics(runs), grid)
    inside = set(grid)
    outside = [(cell, "it is not in the suite's grid") for cell in existing if cell not in inside]
    return Selection(
        folder.name, suite.about if suite else "", tuple(runs), tuple(sorted(left_out)),
        (*((run.cell, note) for run in runs for note in run.notes), *outside),
        tuple(records.missing(existing, grid)), tuple(sorted(older)),
        *references.read(folder, suite.best if suite else {}),
    )  # fmt: skip


def _read_all(places: Sequence[tuple[Cell, Path]]) -> Iterator[Run | str]:
    """Yields every run, or why its record cannot be read; many are read by several processes."""
    if len(places) < MANY or (cores := _cores()) == 1:
        yield from map(_attempt, places)
        return
    with ProcessPoolExecutor(min(8, cores)) as pool:
        yield from pool.map(_attempt, places, chunksize=50)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _attempt(place: tuple[Cell, Path]) -> Run | str:
    try:
        return read(*place)
    except BadRecord as error:
        return str(error)


def _grid(existing: Iterable[Cell]) -> list[Cell]:
    """Returns every existing seed of every existing pair of task and algorithm."""
    existing = list(existing)
    pairs = sorted({(cell.task, cell.algorithm) for cell in existing})
    seeds = sorted({cell.seed for cell in existing})
    return [Cell(task, algorithm, seed) for seed in seeds for task, algorithm in pairs]


def _ordered(runs: Iterable[Run], grid: list[Cell]) -> list[Run]:
    """Returns the runs with tasks and algorithms in the order of the grid."""
    tasks = {task: i for i, task in enumerate(dict.fromkeys(cell.task for cell in grid))}
    algorithms = {name: i for i, name in enumerate(dict.fromkeys(cell.algorithm for cell in grid))}
    last = len(grid)

    def place(run: Run) -> tuple[Any, ...]:
        cell = run.cell
        return (tasks.get(cell.task, last), algorithms.get(cell.algorithm, last), cell)

    return sorted(runs, key=place)


# --------------------------------------------------------------------------- comparable with others

Verdict = tuple[list[Run], list[tuple[Cell, str]]]  # runs that count; others with the reason


def _newest_learning(runs: list[Run]) -> Verdict:
    """Keeps, of every algorithm on every task, the newest version of learning with records."""
    pairs: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        pairs.setdefault((run.cell.task, run.cell.algorithm), []).append(run)
    counted, bad = [], []
    for pair in pairs.values():
        counted += (latest := newest(pair))
        bad += [
            (run.cell, f"learning version {run.learning}, beside version {latest[0].learning}")
            for run in pair
            if run.learning < latest[0].learning
        ]
    return counted, bad


def _same_task(runs: list[Run]) -> Verdict:
    return _majority(
        runs, lambda run: run.cell.task, lambda run: run.task,
        lambda task, usual: f"its task is {task}; the others' in this folder is {usual}",
    )  # fmt: skip


def _same_teams(runs: list[Run]) -> Verdict:
    return _majority(
        runs, lambda run: run.cell.task, lambda run: tuple(run.teams),
        lambda teams, usual: f"teams that learn: {_list(teams)}; in the others: {_list(usual)}",
    )  # fmt: skip


def _same_budget(suite: Suite | None) -> Callable[[list[Run]], Verdict]:
    def reason(budget: tuple[int, ...], usual: tuple[int, ...]) -> str:
        other = [
            f"{name} {a} (the others of this task: {b})"
            for name, a, b in zip(BUDGET, budget, usual, strict=True)
            if a != b
        ]
        return "another budget: " + ", ".join(other)

    def agreement(run: Run) -> int:
        """Returns in how many settings the run's budget is the suite's."""
        settings = _task_settings(suite, run.cell.task)
        return sum(settings.get(k) == v for k, v in _budget(run).items())

    def rule(runs: list[Run]) -> Verdict:
        return _majority(runs, lambda run: run.cell.task, lambda run: run.budget, reason, agreement)

    return rule


def _budget(run: Run) -> dict[str, int]:
    return dict(zip(BUDGET, run.budget, strict=True))


def _task_settings(suite: Suite | None, task: str) -> Mapping[str, Any]:
    return {**suite.settings, **suite.tasks.get(task, {})} if suite else {}


def _majority(
    runs: list[Run],
    group: Callable[[Run], Hashable],
    trait: Callable[[Run], Any],
    reason: Callable[[Any, Any], str],
    preference: Callable[[Run], int] = lambda run: 0,
) -> Verdict:
    """Keeps of every group the runs with the most frequent trait among those of its newest version
    of learning. Of equally frequent traits the one with the higher ``preference`` counts, then the
    greater one, so that the order of the runs does not matter."""
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(group(run), []).append(run)
    votes: dict[Hashable, Counter[Any]] = {}
    preferences: dict[Any, int] = {}
    for name, same_group in groups.items():
        for run in newest(same_group):
            votes.setdefault(name, Counter())[trait(run)] += 1
            preferences[name, trait(run)] = preference(run)
    usual = {
        name: max(count, key=lambda key: (count[key], preferences[name, key], key))
        for name, count in votes.items()
    }
    counted = [run for run in runs if trait(run) == usual[group(run)]]
    bad = [
        (run.cell, reason(trait(run), usual[group(run)]))
        for run in runs
        if trait(run) != usual[group(run)]
    ]
    return counted, bad


def _flattener() -> Callable[[Mapping[str, Any]], Mapping[str, str]]:
    """Returns ``_flat`` of a configuration, computed once for those that are equal but for ``FREE``
    settings, as those of an algorithm's seeds are."""
    cache: dict[str, Mapping[str, str]] = {}

    def flattened(config: Mapping[str, Any]) -> Mapping[str, str]:
        settings = {k: v for k, v in config["settings"].items() if k not in FREE}
        text = json.dumps({**config, "settings": settings})
        if text not in cache:
            cache[text] = dict(_flat(config))
        return cache[text]

    return flattened


def _same_configuration(runs: list[Run]) -> Verdict:
    """Keeps the seeds of one algorithm on one task whose settings are the usual ones. A setting
    that some records do not have yet is no difference."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.cell.task, run.cell.algorithm), []).append(run)
    counted: list[Run] = []
    bad: list[tuple[Cell, str]] = []
    flattened = _flattener()
    for group in groups.values():
        flat = {run.cell: flattened(run.config) for run in group}
        shared = set.intersection(*(set(settings) for settings in flat.values()))
        usual = {key: _most_frequent(flat[run.cell][key] for run in group) for key in shared}
        for run in group:
            settings = flat[run.cell]
            other = [key for key in sorted(shared) if settings[key] != usual[key]]
            if other:
                bad.append((run.cell, _difference(other, settings, usual)))
            else:
                counted.append(run)
    return counted, bad


def _difference(keys: list[str], settings: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    first = keys[0]
    more = f", and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{first} is {settings[first]}, in the other seeds {usual[first]}{more}"


def _most_frequent(values: Iterable[str]) -> str:
    count = Counter(values)
    return max(count, key=lambda value: (count[value], value))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields dotted keys and their values as text, without those in which seeds may differ.
    Objects, which name their type, give each field; other mappings count as one value."""
    if isinstance(value, Mapping) and (TYPE in value or path in ("", "settings", "teams")):
        for key, inner in value.items():
            if path != "settings" or key not in FREE:
                yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif path.endswith(TYPE):
        yield path, json.dumps(current(str(value)))
    else:
        yield path, json.dumps(value, sort_keys=True)


# ------------------------------------------------------------------------------------- metrics


def _whole_metrics(runs: Iterable[Run]) -> Iterator[Run]:
    """Yields the runs, with a note on each metric that others of its task have and it has not."""
    names: dict[str, set[tuple[str, str]]] = {}
    for run in runs:
        metrics = {(team, name) for team, metrics in run.teams.items() for name in metrics}
        names.setdefault(run.cell.task, set()).update(metrics)
    for run in runs:
        absent = sorted(
            name
            for team, name in names[run.cell.task]
            if name not in run.teams[team] and name not in OPTIONAL
        )
        known = " ".join(run.notes)
        notes = [
            f"{name} is missing: left out" for name in absent if f"{name} is missing" not in known
        ]
        yield replace(run, notes=(*dict.fromkeys(run.notes), *dict.fromkeys(notes)))


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
