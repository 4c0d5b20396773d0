"""Filters of runs: ``task=vmas/* algorithm=mappo,ippo``, settings, states, or any text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from marl.comparison.overview import Overview
from marl.errors import UserError, unknown
from marl.training.run_outcome import STATES

Row = tuple[Overview, Mapping[str, str]]  # a run and its settings


def matching(rows: Sequence[Row], words: Iterable[str]) -> list[Row]:
    """Returns the runs that match every word.

    ``KEY=VALUE,VALUE`` compares the task, the algorithm, the state or a setting, whose values may
    be patterns such as ``vmas/*``; any other word is to be part of the directory's name, the task,
    the algorithm or the state.

    Args:
        rows: the runs with their settings.
        words: the filters.

    Raises:
        UserError: no run has the setting, or there is no such state.
    """
    for word in words:
        key, equals, value = word.partition("=")
        is_setting = equals and re.fullmatch(r"[\w.]+", key)
        rows = _with_value(rows, key, value) if is_setting else _with_text(rows, word)
    return list(rows)


def _with_text(rows: Sequence[Row], text: str) -> list[Row]:
    return [
        row
        for row in rows
        if any(text in part for part in (str(row[0].directory), *_words(row[0])))
    ]


def _words(run: Overview) -> tuple[str, ...]:
    return run.task, run.algorithm, run.state


def _with_value(rows: Sequence[Row], key: str, value: str) -> list[Row]:
    if not rows:
        return []
    if key == "state" and (wrong := set(value.split(",")) - {*STATES}):
        raise unknown("state", wrong.pop(), STATES)
    known = {"task", "algorithm", "state"} | {k for _, settings in rows for k in settings}
    full = _full_key(key, known)
    return [row for row in rows if any(_equal(v, value) for v in _values(row, full))]


def _full_key(key: str, known: set[str]) -> str:
    """Returns the key that a filter means, which may name its last part only."""
    if key in known:
        return key
    ends = sorted(name for name in known if name.endswith(f".{key}"))
    if len(ends) > 1:
        raise UserError(f"{key}= may mean {' or '.join(ends[:4])}; write the whole key")
    if not ends:
        last = {name.rpartition(".")[2] for name in known}
        raise unknown("setting", key, known | last, where=" of these runs")
    return ends[0]


def _values(row: Row, key: str) -> list[str]:
    """Returns the values that a run has for a key: several algorithms where teams differ."""
    run, settings = row
    if key == "algorithm":
        return list(run.algorithms.values())
    own = {"task": run.task, "state": run.state}
    return [own[key]] if key in own else [settings[key]] if key in settings else []


def _equal(actual: str, wanted: str) -> bool:
    """Returns whether a value is one of ``a,b`` or matches one as a pattern, numbers by value."""
    return any(
        part == actual or fnmatchcase(actual, part) or _is_same_number(part, actual)
        for part in (wanted, *wanted.split(","))
    )


def _is_same_number(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False
