"""A benchmark's grid as ``configs/benchmark/<name>.yaml`` tells it: tasks × algorithms × seeds, and
the settings of every run. Importable without torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from marl.benchmark.records import Cell
from marl.errors import UserError, unknown

Words = Mapping[str, Any]  # settings by their dotted keys, as on the command line
KEYS = ("about", "settings", "tasks", "algorithms", "cells", "seeds")
FILTERS = ("task", "algorithm", "seed")
# Of every run, where the file says nothing else: a record holds the absolute metric.
DEFAULTS: Words = {"absolute_episodes": 320}


@dataclass(frozen=True)
class Suite:
    """A grid of runs."""

    name: str
    about: str  # a sentence
    settings: Words  # of every run
    tasks: Mapping[str, Words]
    algorithms: Mapping[str, Words]
    pairs: Mapping[str, Words | None]  # of one "task/algorithm"; None leaves it out
    seeds: tuple[int, ...]

    def cells(self) -> list[Cell]:
        """All runs, seed by seed, so that a suite cut short has whole seeds."""
        return [
            Cell(task, algorithm, seed)
            for seed in self.seeds
            for task in self.tasks
            for algorithm in self.algorithms
            if self.pairs.get(f"{task}/{algorithm}", {}) is not None
        ]

    def given(self) -> Iterator[tuple[str, Any]]:
        """Yields every setting of the file."""
        yield from self.settings.items()
        for table in (self.tasks, self.algorithms, self.pairs):
            for words in table.values():
                yield from (words or {}).items()

    def words(self, cell: Cell) -> list[str]:
        """The settings of a run as words of the command line; the more special wins."""
        pair = self.pairs.get(f"{cell.task}/{cell.algorithm}") or {}
        given = {
            **self.settings,
            **self.tasks[cell.task],
            **self.algorithms[cell.algorithm],
            **pair,
            "seed": cell.seed,
        }
        return [f"{key}={_word(value)}" for key, value in given.items()]


def _word(value: Any) -> str:
    """A YAML value as Hydra's command line reads it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{_word(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_word, value)) + "]"
    return str(value)


def read(path: Path) -> Suite:
    """The suite of a file.

    Raises:
        UserError: what the file says is no grid.
    """
    try:
        given = yaml.safe_load(path.read_text())
    except OSError:
        raise UserError(f"there is no benchmark file {str(path)!r}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{str(path)!r} is no YAML: {error}") from None
    if not isinstance(given, dict):
        raise UserError(f"{str(path)!r} must hold {', '.join(KEYS)}")
    for key in given:
        if key not in KEYS:
            raise unknown("key", key, KEYS, where=f" in {str(path)!r}")
    try:
        return _suite(path.stem, given)
    except UserError as error:
        raise UserError(f"{str(path)!r}: {error}") from None


def _suite(name: str, given: Mapping[str, Any]) -> Suite:
    tasks, algorithms = _table(given, "tasks"), _table(given, "algorithms")
    if not tasks or not algorithms:
        raise UserError("there must be at least one of tasks and of algorithms")
    for word in (*tasks, *algorithms):
        if not re.fullmatch(r"[a-z0-9_]+", str(word)):
            raise UserError(f"the name {word!r} must be lower case letters, digits and _")
    pairs = _table(given, "cells", optional=True)
    for pair in pairs:
        task, _, algorithm = str(pair).partition("/")
        if task not in tasks or algorithm not in algorithms:
            known = [f"{t}/{a}" for t in tasks for a in algorithms]
            raise unknown("cell", pair, known)
    settings = {**DEFAULTS, **_words("settings", given.get("settings") or {})}
    return Suite(
        name, str(given.get("about", "")), settings, tasks, algorithms, pairs, _seeds(given)
    )


def _table(given: Mapping[str, Any], key: str, optional: bool = False) -> dict[str, Any]:
    table = given.get(key) or {}
    if not isinstance(table, dict):
        raise UserError(f"{key} must map names to settings, not {table!r}")
    return {
        name: None if optional and words is None else _words(f"{key}.{name}", words or {})
        for name, words in table.items()
    }


def _words(where: str, words: Any) -> Words:
    if not isinstance(words, dict):
        raise UserError(f"{where} must map settings to values, not {words!r}")
    for key in words:
        if key in ("seed", "directory"):
            raise UserError(f"{where} sets {key}, which the benchmark chooses itself")
    if not words.get("absolute_episodes", 1):
        raise UserError(
            f"{where} sets absolute_episodes={words['absolute_episodes']}, but a record holds the "
            "absolute metric; set it to at least 1, or leave it out for "
            f"{DEFAULTS['absolute_episodes']}"
        )
    return words


def _seeds(given: Mapping[str, Any]) -> tuple[int, ...]:
    seeds = given.get("seeds", 5)
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0:
        return tuple(range(seeds))
    if isinstance(seeds, list) and seeds and all(type(s) is int and s >= 0 for s in seeds):
        return tuple(dict.fromkeys(seeds))
    raise UserError(f"seeds must be a number of them or a list, not {seeds!r}")


def chosen(suite: Suite, only: Iterable[str]) -> list[Cell]:
    """The cells that ``only`` leaves: ``task=a,algorithm=b,c`` and so on, all of which must hold.

    Raises:
        UserError: an unknown key, or a value that the suite does not have.
    """
    cells = suite.cells()
    for key, values in _wanted(only).items():
        known = list(dict.fromkeys(str(getattr(cell, key)) for cell in suite.cells()))
        for value in values:
            if value not in known:
                raise unknown(key, value, known, where=f" in suite {suite.name!r}")
        cells = [cell for cell in cells if str(getattr(cell, key)) in values]
    if not cells:
        raise UserError(f"suite {suite.name!r} has no run that is {' and '.join(only)}")
    return cells


def _wanted(only: Iterable[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for text in only:
        key = ""
        for part in text.split(","):
            before, equals, value = part.partition("=")
            key = before if equals else key
            if key not in FILTERS:
                raise unknown("filter", key or part, FILTERS, where=" in --only")
            wanted.setdefault(key, []).append(value if equals else before)
    return wanted
