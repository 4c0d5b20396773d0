"""Sweeps: files as ``wandb sweep`` takes them, and the points that a grid or a random search makes
of them. Importable without torch.

Values reach ``marl train`` through the file's ``command``, whose ``${args_no_hyphens}`` stands for
``NAME=VALUE`` of every parameter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

from marl.errors import UserError, unknown
from marl.launch.hyperband import Hyperband
from marl.launch.search_space import Parameter, parameter
from marl.utils.jsonl import read_jsonl, scalars

Point = dict[str, Any]  # a value for every parameter

KEYS = ("apiVersion", "command", "controller", "description", "early_terminate", "entity", "kind",
        "method", "metric", "name", "parameters", "program", "project", "run_cap")  # fmt: skip
METHODS = ("grid", "random", "bayes")
GOALS = ("maximize", "minimize")
ARGUMENTS = "${args_no_hyphens}"
COMMAND = ("${env}", "marl", "train", ARGUMENTS)


@dataclass(frozen=True)
class Sweep:
    """A file that was read and found right."""

    method: str  # of METHODS
    metric: str  # as it is logged
    goal: str  # of GOALS
    parameters: tuple[Parameter, ...]
    command: tuple[str, ...]
    run_cap: int | None = None  # runs, at most
    early_terminate: Hyperband | None = None

    def points(self, count: int | None = None, seed: int = 0) -> list[Point]:
        """A grid's first ``count`` or all; so many different draws of the others, the same for the
        same seed and the first of any larger number. ``run_cap`` stands for no count.

        Raises:
            UserError: no count where one is needed.
        """
        count = self.run_cap if count is None else count
        if self.method == "grid":
            return list(itertools.islice(self._grid(), count))
        if count is None:
            raise UserError(f"a {self.method} sweep without run_cap needs --count K")
        return self._drawn(count, Random(seed))

    def _grid(self) -> Iterator[Point]:
        names = [one.name for one in self.parameters]
        for values in itertools.product(*(one.all() for one in self.parameters)):
            yield dict(zip(names, values, strict=True))

    def _drawn(self, count: int, source: Random) -> list[Point]:
        found: list[Point] = []
        for _ in range(100 * count):  # fewer, where there are not as many
            point = {one.name: one.draw(source) for one in self.parameters}
            if point not in found:
                found.append(point)
            if len(found) == count:
                break
        return found

    def settings(self, point: Point) -> list[str]:
        """What stands behind ``marl train`` in the command of this point."""
        words = render(self.command, point)
        return words[words.index("train") + 1 :]

    def given(self) -> Iterator[tuple[str, Any]]:
        """Yields every setting that the file gives, with all of its values."""
        for one in self.parameters:
            yield from ((one.name, value) for value in one.given.values())
        for word in self.command[self.command.index("train") + 1 :]:
            if word != ARGUMENTS:
                key, _, value = word.partition("=")
                yield key, value

    @property
    def varied(self) -> list[str]:
        return [one.name for one in self.parameters if one.varies]

    def space(self) -> dict[str, dict[str, Any]]:
        """What is searched, as JSON."""
        return {p.name: {"distribution": p.distribution, **p.given} for p in self.parameters}

    def upward(self, value: float) -> float:
        """The metric so that more is better."""
        return value if self.goal == "maximize" else -value


def render(command: Sequence[str], point: Point) -> list[str]:
    """The words that ``wandb agent`` starts for a point."""
    macros = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": ["python"],
        ARGUMENTS: [f"{name}={value}" for name, value in point.items()],
    }
    return [word for part in command for word in macros.get(part, [part])]


# ------------------------------------------------------------------------------------------- files


def load(path: Path) -> Sweep:
    """Reads a sweep file.

    Raises:
        UserError: it is not there, is no YAML, or does not say what a sweep needs.
    """
    try:
        return _sweep(_read(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        given = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError("there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"is no YAML, in line {line}: {error.problem}") from None
    if not isinstance(given, dict):
        raise UserError(f"is no sweep; expected the keys {', '.join(KEYS)}")
    return given


def _sweep(given: Mapping[str, Any]) -> Sweep:
    for key in given:
        if key not in KEYS:
            raise unknown("key", key, KEYS)
    for key in ("method", "metric", "parameters", "command"):
        if not given.get(key):
            raise UserError(f"there is no {key}; {EXPECTED[key]}")
    if given["method"] not in METHODS:
        raise unknown("method", given["method"], METHODS)
    cap = given.get("run_cap")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise UserError(f"run_cap is {cap!r}; expected a whole number of at least 1")
    parameters = _parameters(given["parameters"])
    if given["method"] == "grid":
        for one in parameters:
            one.all()
    return Sweep(
        given["method"], *_metric(given["metric"]), parameters, _command(given["command"]), cap,
        _early_terminate(given.get("early_terminate")),
    )  # fmt: skip


EXPECTED = {
    "method": "choose from " + ", ".join(METHODS),
    "metric": "expected {name: evaluation/return/team, goal: maximize}, for instance",
    "parameters": "expected the settings to search, by name",
    "command": "expected a list: " + ", ".join(COMMAND),
}


def _metric(given: Any) -> tuple[str, str]:
    if not isinstance(given, dict) or not {"name", "goal"} == given.keys():
        raise UserError(f"metric is {given!r}; {EXPECTED['metric']}")
    if given["goal"] not in GOALS:
        raise unknown("goal", given["goal"], GOALS, where=" of the metric")
    return str(given["name"]), given["goal"]


def _parameters(given: Any) -> tuple[Parameter, ...]:
    if not isinstance(given, dict):
        raise UserError(f"parameters are {given!r}; {EXPECTED['parameters']}")
    if "directory" in given:
        raise UserError("every run has a directory of its own; leave out the parameter 'directory'")
    return tuple(parameter(str(name), value) for name, value in given.items())


def _command(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise UserError(f"command is {given!r}; {EXPECTED['command']}")
    words = [str(word) for word in given]
    if "train" not in words or ARGUMENTS not in words[words.index("train") :]:
        raise UserError(f"command is {words}, which trains nothing; {EXPECTED['command']}")
    for word in words:
        if word.startswith("${") and word not in ("${interpreter}", *COMMAND):
            raise unknown(
                "macro", word, ["${interpreter}", "${env}", ARGUMENTS], where=" in command"
            )
    return tuple(words)


def _early_terminate(given: Any) -> Hyperband | None:
    if given is None:
        return None
    if not isinstance(given, dict) or given.get("type") != "hyperband":
        raise UserError(
            f"early_terminate is {given!r}; expected {{type: hyperband, min_iter: N}}, for instance"
        )
    rest = {key: value for key, value in given.items() if key != "type"}
    known = [one.name for one in fields(Hyperband)]
    for key, value in rest.items():
        if key not in known:
            raise unknown("key", key, known, where=" of early_terminate")
        if not isinstance(value, int | float):
            raise UserError(f"early_terminate: {key} is {value!r}, not a number")
    return Hyperband(**rest)


# ------------------------------------------------------------------------------------------ results


def history(directory: Path, metric: str) -> list[tuple[int, float]]:
    """``(frames, value)`` of every time that a run, done or not, logged the metric."""
    kind = _kind(metric)
    rows = [(r["frames"], scalars(kind, r)) for r in read_jsonl(directory / f"{kind}.jsonl")]
    return [(frames, numbers[metric]) for frames, numbers in rows if metric in numbers]


def missing(directory: Path, metric: str, done: bool) -> UserError | None:
    """What to say of a metric that a run does not log: known of evaluations after the first one, of
    all else when it is done."""
    records = read_jsonl(directory / f"{_kind(metric)}.jsonl")
    known = {name for record in records for name in scalars(_kind(metric), record)}
    if metric in known or not records or not (done or _kind(metric) == "evaluations"):
        return None
    return unknown("metric", metric, known, where=f", which {directory} does not log")


def _kind(metric: str) -> str:
    first = metric.partition("/")[0]
    return {"evaluation": "evaluations", "timing": "timing"}.get(first, "metrics")
