"""Which runs of a suite may stand beside each other, and why the others may not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from marl.benchmark import records
from marl.benchmark.records import BadRecord, Cell
from marl.benchmark.suite import Suite
from marl.tables.record import BUDGET, Run, newest, read
from marl.utils.moved import current
from marl.utils.serialization import TYPE

# Settings in which the seeds of one algorithm may differ: where and with what display they ran.
FREE = ("seed", "device", "threads", "progress", "video", "tensorboard")
FREE += ("wandb", "wandb_project", "wandb_group", "wandb_tags", "wandb_name")
FREE += ("checkpoints_kept", "replay_gib", "replay_checkpoint")


@dataclass(frozen=True)
class Selection:
    """The runs of a suite that count, and what is to be said of the rest."""

    name: str
    about: str
    runs: tuple[Run, ...]  # by task, algorithm and seed
    left_out: tuple[tuple[Cell, str], ...]  # with the reason
    notes: tuple[tuple[Cell, str], ...]  # a part of a record that does not count, or is no part
    missing: tuple[Cell, ...]  # of the grid
    older: tuple[tuple[Cell, str], ...] = ()  # left out for their version of learning, and why

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(run.cell.task for run in self.runs))

    @property
    def algorithms(self) -> list[str]:
        return list(dict.fromkeys(run.cell.algorithm for run in self.runs))

    @property
    def versions(self) -> list[int]:
        """Those of learning that the runs are of."""
        return sorted({run.learning for run in self.runs})

    def teams(self) -> list[str]:
        return sorted({team for run in self.runs for team in run.teams})


def select(folder: Path, suite: Suite | None = None) -> Selection:
    """The suite in ``folder``; without ``suite`` its grid is what is there."""
    places = sorted(records.find(folder))
    runs: list[Run] = []
    left: list[tuple[Cell, str]] = []
    for cell, path in places:
        try:
            runs.append(read(cell, path))
        except BadRecord as error:
            left.append((cell, str(error)))
    runs, older = _newest_learning(runs)
    for rule in (_same_task, _same_budget(suite), _same_teams, _same_configuration):
        runs, bad = rule(runs)
        left += bad
    found = [cell for cell, _ in places]
    grid = suite.cells() if suite else _grid(found)
    runs = _ordered([_whole_metrics(run, runs) for run in runs], grid)
    strangers = [(cell, "it is not in the suite's grid") for cell in found if cell not in set(grid)]
    return Selection(
        folder.name, suite.about if suite else "", tuple(runs), tuple(sorted(left)),
        (*((run.cell, note) for run in runs for note in run.notes), *strangers),
        tuple(records.missing(found, grid)), tuple(sorted(older)),
    )  # fmt: skip


def _grid(found: Iterable[Cell]) -> list[Cell]:
    """Every seed that there is, of every algorithm on every task that there is."""
    pairs = sorted({(cell.task, cell.algorithm) for cell in found})
    seeds = sorted({cell.seed for cell in found})
    return [Cell(task, algorithm, seed) for seed in seeds for task, algorithm in pairs]


def _ordered(runs: Iterable[Run], grid: list[Cell]) -> list[Run]:
    """Tasks and algorithms in the order of the grid."""
    tasks = {task: i for i, task in enumerate(dict.fromkeys(cell.task for cell in grid))}
    algorithms = {name: i for i, name in enumerate(dict.fromkeys(cell.algorithm for cell in grid))}
    last = len(grid)

    def place(run: Run) -> tuple[Any, ...]:
        cell = run.cell
        return (tasks.get(cell.task, last), algorithms.get(cell.algorithm, last), cell)

    return sorted(runs, key=place)


# ------------------------------------------------------------------------- the majority's company

Rule = tuple[list[Run], list[tuple[Cell, str]]]


def _newest_learning(runs: list[Run]) -> Rule:
    """Of every algorithm on every task the newest version of learning that has records."""
    pairs: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        pairs.setdefault((run.cell.task, run.cell.algorithm), []).append(run)
    kept, bad = [], []
    for members in pairs.values():
        kept += (best := newest(members))
        bad += [
            (run.cell, f"learning version {run.learning}, beside version {best[0].learning}")
            for run in members
            if run.learning < best[0].learning
        ]
    return kept, bad


def _same_task(runs: list[Run]) -> Rule:
    return _majority(
        runs, lambda run: run.cell.task, lambda run: run.task,
        lambda mine, most: f"its task is {mine}; the others' in this folder is {most}",
    )  # fmt: skip


def _same_teams(runs: list[Run]) -> Rule:
    return _majority(
        runs, lambda run: run.cell.task, lambda run: tuple(run.teams),
        lambda mine, most: f"teams that learn: {_list(mine)}; in the others: {_list(most)}",
    )  # fmt: skip


def _same_budget(suite: Suite | None) -> Callable[[list[Run]], Rule]:
    def reason(mine: tuple[int, ...], most: tuple[int, ...]) -> str:
        other = [
            f"{name} {a} (the others of this task: {b})"
            for name, a, b in zip(BUDGET, mine, most, strict=True)
            if a != b
        ]
        return "another budget: " + ", ".join(other)

    def wanted(run: Run) -> int:
        """In how many settings the run's budget is the suite's."""
        return sum(_asked(suite, run.cell.task).get(k) == v for k, v in _budget(run).items())

    def rule(runs: list[Run]) -> Rule:
        return _majority(runs, lambda run: run.cell.task, lambda run: run.budget, reason, wanted)

    return rule


def _budget(run: Run) -> dict[str, int]:
    return dict(zip(BUDGET, run.budget, strict=True))


def _asked(suite: Suite | None, task: str) -> Mapping[str, Any]:
    return {**suite.settings, **suite.tasks.get(task, {})} if suite else {}


def _majority(
    runs: list[Run],
    group: Callable[[Run], Hashable],
    trait: Callable[[Run], Any],
    reason: Callable[[Any, Any], str],
    wanted: Callable[[Run], int] = lambda run: 0,
) -> Rule:
    """Keeps of every group the runs with the most frequent trait among those of its newest version
    of learning; where two are as frequent, the more ``wanted``, and then the greater, so that the
    order of the runs does not matter."""
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(group(run), []).append(run)
    votes: dict[Hashable, Counter[Any]] = {}
    wishes: dict[Any, int] = {}
    for place, members in groups.items():
        for run in newest(members):
            votes.setdefault(place, Counter())[trait(run)] += 1
            wishes[place, trait(run)] = wanted(run)
    most = {
        place: max(count, key=lambda key: (count[key], wishes[place, key], key))
        for place, count in votes.items()
    }
    kept = [run for run in runs if trait(run) == most[group(run)]]
    bad = [
        (run.cell, reason(trait(run), most[group(run)]))
        for run in runs
        if trait(run) != most[group(run)]
    ]
    return kept, bad


def _same_configuration(runs: list[Run]) -> Rule:
    """Seeds of one algorithm on one task are set up alike; a setting that some records do not know
    yet is no difference."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.cell.task, run.cell.algorithm), []).append(run)
    kept: list[Run] = []
    bad: list[tuple[Cell, str]] = []
    for group in groups.values():
        flat = {run.cell: dict(_flat(run.config)) for run in group}
        shared = set.intersection(*(set(settings) for settings in flat.values()))
        most = {key: _most(flat[run.cell][key] for run in group) for key in shared}
        for run in group:
            mine = flat[run.cell]
            other = [key for key in sorted(shared) if mine[key] != most[key]]
            if other:
                bad.append((run.cell, _differs(other, mine, most)))
            else:
                kept.append(run)
    return kept, bad


def _differs(keys: list[str], mine: Mapping[str, Any], most: Mapping[str, Any]) -> str:
    first = keys[0]
    more = f", and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{first} is {mine[first]}, in the other seeds {most[first]}{more}"


def _most(values: Iterable[str]) -> str:
    count = Counter(values)
    return max(count, key=lambda value: (count[value], value))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and their values as text, without those in which seeds may differ. Of objects,
    which name their type, each field; what else maps names to values counts as a whole."""
    if isinstance(value, Mapping) and (TYPE in value or path in ("", "settings", "teams")):
        for key, inner in value.items():
            if path != "settings" or key not in FREE:
                yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif path.endswith(TYPE):
        yield path, json.dumps(current(str(value)))
    else:
        yield path, json.dumps(value, sort_keys=True)


# ------------------------------------------------------------------------------------- metrics


def _whole_metrics(run: Run, runs: Iterable[Run]) -> Run:
    """The run, with a note on each metric that others of its task have and it has not."""
    others = {
        (team, name)
        for other in runs
        if other.cell.task == run.cell.task
        for team, metrics in other.teams.items()
        for name in metrics
        if name not in ("cut", "density")  # only some policies have them
    }
    absent = sorted({name for team, name in others if name not in run.teams[team]})
    told = " ".join(run.notes)
    notes = [f"{name} is missing: left out" for name in absent if f"{name} is missing" not in told]
    return replace(run, notes=(*dict.fromkeys(run.notes), *notes))


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
