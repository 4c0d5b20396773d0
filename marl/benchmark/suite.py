"""A benchmark's grid, from ``configs/benchmark/<name>.yaml``: tasks × algorithms × seeds, and the
settings of every run. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from marl.benchmark.records import Cell
from marl.errors import UserError, unknown

Settings = Mapping[str, Any]  # dotted key, as on the command line -> value
KEYS = ("about", "settings", "tasks", "algorithms", "cells", "seeds", "best")
FILTERS = ("task", "algorithm", "seed")
# Of every run whose file says nothing else: a record holds the absolute metric.
DEFAULTS: Settings = {"absolute_episodes": 320}


@dataclass(frozen=True)
class Best:
    """The best return that is known of a task, in its unit: the mean over a team's agents."""

    #: Return of an episode.
    value: float
    #: Where it is from, such as ``exact`` or ``a planner that knows the goals``.
    source: str
    #: Absolute metric from which a seed counts as having reached it; None where none is counted.
    reached: float | None = None


@dataclass(frozen=True)
class Suite:
    """A grid of runs."""

    #: Name of the file, without its ending.
    name: str
    #: Description, one sentence.
    about: str
    #: Settings of every run.
    settings: Settings
    #: Settings of each task, by its name in the suite; they override those of every run.
    tasks: Mapping[str, Settings]
    #: Settings of each algorithm, by its name in the suite; they override the task's.
    algorithms: Mapping[str, Settings]
    #: Settings of single pairs ``task/algorithm``, which override all others; None leaves the pair
    #: out.
    pairs: Mapping[str, Settings | None]
    #: Seeds of every pair; usual 5.
    seeds: tuple[int, ...]
    #: Best known returns of some tasks, by the task's name in the suite.
    best: Mapping[str, Best] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """Returns all runs, seed by seed, so that an interrupted suite has complete seeds."""
        return [
            Cell(task, algorithm, seed)
            for seed in self.seeds
            for task in self.tasks
            for algorithm in self.algorithms
            if self.pairs.get(f"{task}/{algorithm}", {}) is not None
        ]

    def all_settings(self) -> Iterator[tuple[str, Any]]:
        """Yields every setting of the file, with its value."""
        yield from self.settings.items()
        for table in (self.tasks, self.algorithms, self.pairs):
            for settings in table.values():
                yield from (settings or {}).items()

    def words(self, cell: Cell) -> list[str]:
        """Returns the settings of a run as words of the command line; the most specific wins."""
        pair = self.pairs.get(f"{cell.task}/{cell.algorithm}") or {}
        settings = {
            **self.settings,
            **self.tasks[cell.task],
            **self.algorithms[cell.algorithm],
            **pair,
            "seed": cell.seed,
        }
        return [f"{key}={_word(value)}" for key, value in settings.items()]


def _word(value: Any) -> str:
    """Returns a YAML value as Hydra reads it on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{_word(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_word, value)) + "]"
    if isinstance(value, str) and value and not isinstance(yaml.safe_load(value), str | list):
        return f"'{value}'"  # text that would read as a number, null or a truth value
    return str(value)


def read(path: Path) -> Suite:
    """Returns the suite of a file.

    Raises:
        UserError: the file does not exist, is not YAML, or does not describe a grid.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError:
        raise UserError(f"the benchmark file {str(path)!r} does not exist") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{str(path)!r} is not YAML, in line {line}: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{str(path)!r} must have the keys {', '.join(KEYS)}")
    for key in content:
        if key not in KEYS:
            raise unknown("key", key, KEYS, where=f" in {str(path)!r}")
    try:
        return parse(path.stem, content)
    except UserError as error:
        raise UserError(f"{str(path)!r}: {error}") from None


def parse(name: str, content: Mapping[str, Any]) -> Suite:
    """Returns the suite that a file's content describes.

    Args:
        name: of the suite.
        content: the keys of the file, ``KEYS``.

    Raises:
        UserError: it does not describe a grid.
    """
    tasks, algorithms = _table(content, "tasks"), _table(content, "algorithms")
    if not tasks or not algorithms:
        raise UserError("a suite needs at least one task and one algorithm")
    for word in (*tasks, *algorithms):
        if not re.fullmatch(r"[a-z0-9_]+", str(word)):
            raise UserError(f"the name {word!r} must be of lower-case letters, digits and _")
    pairs = _table(content, "cells", optional=True)
    for pair in pairs:
        task, _, algorithm = str(pair).partition("/")
        if task not in tasks or algorithm not in algorithms:
            known = [f"{t}/{a}" for t in tasks for a in algorithms]
            raise unknown("cell", pair, known)
    settings = {**DEFAULTS, **_settings("settings", content.get("settings") or {})}
    return Suite(
        name, str(content.get("about", "")), settings, tasks, algorithms, pairs, _seeds(content),
        _best(content, tasks),
    )  # fmt: skip


def _best(content: Mapping[str, Any], tasks: Iterable[str]) -> dict[str, Best]:
    """Returns the best known returns.

    Raises:
        UserError: one is of an unknown task, or does not have a value and a source.
    """
    best = content.get("best") or {}
    if not isinstance(best, dict):
        raise UserError(f"best must map tasks to their best known return, not {best!r}")
    for task, words in best.items():
        if task not in tasks:
            raise unknown("task", task, list(tasks), where=" in best")
        numbers = {k: v for k, v in words.items() if k != "source"} if _is_best(words) else {}
        if not all(type(value) in (int, float) for value in numbers.values()) or not numbers:
            raise UserError(
                f"best.{task} must have value (a number) and source (a text), and may have "
                f"reached (a number), not {words!r}"
            )
    return {task: Best(**words) for task, words in best.items()}


def _is_best(words: Any) -> bool:
    keys = {"value", "source", "reached"}
    return isinstance(words, dict) and {"value", "source"} <= set(words) <= keys


def _table(content: Mapping[str, Any], key: str, optional: bool = False) -> dict[str, Any]:
    table = content.get(key) or {}
    if not isinstance(table, dict):
        raise UserError(f"{key} must map names to settings, not {table!r}")
    return {
        name: None if optional and value is None else _settings(f"{key}.{name}", value or {})
        for name, value in table.items()
    }


def _settings(where: str, settings: Any) -> Settings:
    if not isinstance(settings, dict):
        raise UserError(f"{where} must map settings to values, not {settings!r}")
    for key in settings:
        if key in ("seed", "directory"):
            raise UserError(f"{where} sets {key}, which the benchmark chooses itself; leave it out")
    if not settings.get("absolute_episodes", 1):
        raise UserError(
            f"{where} sets absolute_episodes={settings['absolute_episodes']}, but a record holds "
            "the absolute metric; set it to at least 1, or leave it out for "
            f"{DEFAULTS['absolute_episodes']}"
        )
    return settings


def _seeds(content: Mapping[str, Any]) -> tuple[int, ...]:
    seeds = content.get("seeds", 5)
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0:
        return tuple(range(seeds))
    if isinstance(seeds, list) and seeds and all(type(s) is int and s >= 0 for s in seeds):
        return tuple(dict.fromkeys(seeds))
    raise UserError(f"seeds must be their number or a list of them, not {seeds!r}")


def chosen(suite: Suite, only: Iterable[str]) -> list[Cell]:
    """Returns the cells that match every filter.

    Args:
        suite: the suite.
        only: filters such as ``task=a,algorithm=b,c``.

    Raises:
        UserError: an unknown key, or a value that the suite does not have.
    """
    cells = suite.cells()
    for key, values in _filters(only).items():
        known = list(dict.fromkeys(str(getattr(cell, key)) for cell in suite.cells()))
        for value in values:
            if value not in known:
                raise unknown(key, value, known, where=f" in suite {suite.name!r}")
        cells = [cell for cell in cells if str(getattr(cell, key)) in values]
    if not cells:
        raise UserError(f"suite {suite.name!r} has no run with {' and '.join(only)}")
    return cells


def _filters(only: Iterable[str]) -> dict[str, list[str]]:
    """Returns the accepted values of each key."""
    filters: dict[str, list[str]] = {}
    for text in only:
        key = ""
        for part in text.split(","):
            before, equals, value = part.partition("=")
            key = before if equals else key
            if key not in FILTERS:
                raise unknown("filter", key or part, FILTERS, where=" in --only")
            filters.setdefault(key, []).append(value if equals else before)
    return filters
