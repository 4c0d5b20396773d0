"""Sweeps: files in the format of ``wandb sweep``, and their points in a grid or a random search.
Loads no torch.

Values reach ``marl train`` through the file's ``command``, whose ``${args_no_hyphens}`` stands for
``NAME=VALUE`` of every parameter.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

from marl.errors import UserError, unknown
from marl.launch.hyperband import Hyperband
from marl.launch.search_space import Parameter, parameter
from marl.utils.jsonl import read_jsonl, scalars

Point = dict[str, Any]  # parameter -> value

KEYS = ("apiVersion", "command", "controller", "description", "early_terminate", "entity", "kind",
        "method", "metric", "name", "parameters", "program", "project", "run_cap")  # fmt: skip
METHODS = ("grid", "random", "bayes")
GOALS = ("maximize", "minimize")
ARGUMENTS = "${args_no_hyphens}"
COMMAND = ("${env}", "marl", "train", ARGUMENTS)
MACROS = ("${interpreter}", "${program}", "${env}", ARGUMENTS)
ENVIRONMENT = re.compile(r"\$\{envvar:(\w+)\}")
TIMING = ("collect", "update", "evaluate", "frames_per_second")  # of a run, as ``timing/NAME``

# What evaluations log besides returns: metrics, sampled episodes, and win rates of self-play.
EVALUATED = re.compile(r"evaluation/(info|sampled/(return|info)|pool/(win_rate|draws))/.")

# First words of evaluations' names in other libraries; no statistic of ours begins with them.
OTHERS = ("eval", "evaluations", "test", "val", "validation")


@dataclass(frozen=True)
class Sweep:
    """A valid sweep file."""

    #: How points are chosen, one of ``METHODS``; ``bayes`` is random here.
    method: str
    #: Name under which runs log what is compared.
    metric: str
    #: ``maximize`` or ``minimize``, which W&B takes where the file says nothing.
    goal: str
    #: Settings that the sweep gives to its runs.
    parameters: tuple[Parameter, ...]
    #: Words of the command that starts a run.
    command: tuple[str, ...]
    #: Most runs of the sweep; None for no limit.
    run_cap: int | None = None
    #: Rule that stops runs that fall behind; None for none.
    early_terminate: Hyperband | None = None
    #: Value of the metric from which no more runs are started; None for none.
    target: float | None = None
    #: What ``${program}`` stands for in the command.
    program: str = ""

    def points(self, count: int | None = None, seed: int = 0) -> list[Point]:
        """Returns the points to run: of a grid the first ones, else different random ones.

        Args:
            count: number of points; None for ``run_cap``, or for all of a grid.
            seed: of the random points. With the same seed, fewer points are the first of more.

        Raises:
            UserError: no count where one is needed.
        """
        count = self.run_cap if count is None else count
        if self.method == "grid":
            return list(itertools.islice(self._grid(), count))
        if count is None:
            raise UserError(f"a {self.method} sweep without run_cap has no end; add --count K")
        return self._sampled(count, Random(seed))

    def _grid(self) -> Iterator[Point]:
        names = [one.name for one in self.parameters]
        for values in itertools.product(*(one.all() for one in self.parameters)):
            yield dict(zip(names, values, strict=True))

    def _sampled(self, count: int, source: Random) -> list[Point]:
        points: list[Point] = []
        for _ in range(100 * count):  # a small space may have fewer points than ``count``
            point = {one.name: one.sample(source) for one in self.parameters}
            if point not in points:
                points.append(point)
            if len(points) == count:
                break
        return points

    def settings(self, point: Point) -> list[str]:
        """Returns the words after ``marl train`` in the command of this point."""
        words = render(self.command, point, self.program)
        return words[words.index("train") + 1 :]

    def all_settings(self) -> Iterator[tuple[str, Any]]:
        """Yields every setting of the file, with each of its values."""
        for one in self.parameters:
            yield from ((one.name, value) for value in one.spec.values())
        for word in self.command[self.command.index("train") + 1 :]:
            if word != ARGUMENTS:
                key, _, value = word.partition("=")
                yield key, value

    @property
    def varied(self) -> list[str]:
        """Names of the parameters with more than one value."""
        return [one.name for one in self.parameters if one.varies]

    def space(self) -> dict[str, dict[str, Any]]:
        """Returns the searched parameters as JSON values."""
        return {p.name: {"distribution": p.distribution, **p.spec} for p in self.parameters}

    def reached(self, value: float) -> bool:
        """Returns whether a value of the metric is as good as the target."""
        return self.target is not None and self.upward(value) >= self.upward(self.target)

    def upward(self, value: float) -> float:
        """Returns a value of the metric, negated where lower is better."""
        return value if self.goal == "maximize" else -value


def render(command: Sequence[str], point: Point, program: str = "") -> list[str]:
    """Returns the words of the command that ``wandb agent`` would run for a point.

    Args:
        command: the file's command, with macros such as ``${env}``.
        point: values of the parameters.
        program: what ``${program}`` stands for.
    """
    macros = {
        "${program}": [program],
        "${env}": ["/usr/bin/env"],
        "${interpreter}": ["python"],
        ARGUMENTS: [f"{name}={value}" for name, value in point.items()],
    }
    return [word for part in command for word in macros.get(part, [_environment(part)])]


def _environment(word: str) -> str:
    """Returns a word with ``${envvar:NAME}`` replaced by that variable's value."""
    return ENVIRONMENT.sub(lambda match: os.environ.get(match[1], ""), word)


# ------------------------------------------------------------------------------------------- files


def load(path: Path) -> Sweep:
    """Reads a sweep file.

    Raises:
        UserError: the file does not exist, is not YAML, or lacks something that a sweep needs.
    """
    try:
        return _sweep(_read(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError("there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"is not YAML, in line {line}: {error.problem}") from None
    if not isinstance(content, dict):
        raise UserError(f"is not a sweep; expected the keys {', '.join(KEYS)}")
    return content


def _sweep(content: Mapping[str, Any]) -> Sweep:
    for key in content:
        if key not in KEYS:
            raise unknown("key", key, KEYS)
    for key in ("method", "metric", "parameters", "command"):
        if not content.get(key):
            raise UserError(f"there is no {key}; {EXPECTED[key]}")
    if content["method"] not in METHODS:
        raise unknown("method", content["method"], METHODS)
    cap = content.get("run_cap")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise UserError(f"run_cap is {cap!r}; expected a whole number of at least 1")
    parameters = _parameters(content["parameters"])
    if content["method"] == "grid":
        for one in parameters:
            one.all()
    name, goal, target = _metric(content["metric"])
    program = str(content.get("program", ""))
    return Sweep(
        content["method"], name, goal, parameters, _command(content["command"], program),
        cap, _early_terminate(content.get("early_terminate")), target, program,
    )  # fmt: skip


EXPECTED = {
    "method": "choose from " + ", ".join(METHODS),
    "metric": "expected {name: evaluation/return/team, goal: maximize}, for instance",
    "parameters": "expected the settings to search, by name",
    "command": "expected a list: " + ", ".join(COMMAND),
}


def _metric(value: Any) -> tuple[str, str, float | None]:
    """Returns name, goal and target of what is compared."""
    if not isinstance(value, dict) or "name" not in value:
        raise UserError(f"metric is {value!r}; {EXPECTED['metric']}")
    for key in value:
        if key not in ("name", "goal", "target"):
            raise unknown("key", key, ("name", "goal", "target"), where=" of the metric")
    goal, target = value.get("goal", "minimize"), value.get("target")
    if goal not in GOALS:
        raise unknown("goal", goal, GOALS, where=" of the metric")
    if target is not None and type(target) not in (int, float):
        raise UserError(f"target of the metric is {target!r}, not a number")
    return str(value["name"]), goal, target


def _parameters(specs: Any) -> tuple[Parameter, ...]:
    if not isinstance(specs, dict):
        raise UserError(f"parameters are {specs!r}; {EXPECTED['parameters']}")
    if "directory" in specs:
        raise UserError("the sweep chooses the runs' directories; leave out 'directory'")
    return tuple(parameter(str(name), spec) for name, spec in specs.items())


def _command(value: Any, program: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UserError(f"command is {value!r}; {EXPECTED['command']}")
    words = [str(word) for word in value]
    if "train" not in words or ARGUMENTS not in words[words.index("train") :]:
        raise UserError(f"command is {words}, which does not train; {EXPECTED['command']}")
    for word in words:
        if word.startswith("${") and word not in MACROS and not ENVIRONMENT.match(word):
            raise unknown("macro", word, [*MACROS, "${envvar:NAME}"], where=" in command")
    if "${program}" in words and not program:
        raise UserError("command holds ${program}, and there is no program; add program: marl")
    return tuple(words)


def _early_terminate(rule: Any) -> Hyperband | None:
    if rule is None:
        return None
    if not isinstance(rule, dict) or rule.get("type") != "hyperband":
        raise UserError(
            f"early_terminate is {rule!r}; expected {{type: hyperband, min_iter: N}}, for instance"
        )
    rest = {key: value for key, value in rule.items() if key != "type"}
    known = [one.name for one in fields(Hyperband)]
    for key, value in rest.items():
        if key not in known:
            raise unknown("key", key, known, where=" of early_terminate")
        if not isinstance(value, int | float):
            raise UserError(f"early_terminate: {key} is {value!r}, not a number")
    return Hyperband(**rest)


# ------------------------------------------------------------------------------------------ results


def history(directory: Path, metric: str) -> list[tuple[int, float]]:
    """Returns ``(frames, value)`` for each time that a run logged the metric so far.

    Args:
        directory: of the run.
        metric: name under which it is logged.
    """
    kind = _kind(metric)
    rows = [(r["frames"], scalars(kind, r)) for r in read_jsonl(directory / f"{kind}.jsonl")]
    return [(frames, numbers[metric]) for frames, numbers in rows if metric in numbers]


def check_metric(metric: str, teams: Iterable[str]) -> None:
    """Checks the name of a metric before any run has logged it.

    Args:
        metric: its name.
        teams: the teams of the runs.

    Raises:
        UserError: no run logs a metric of that name.
    """
    teams = list(teams)
    returns = [f"{kind}/{team}" for team in teams for kind in ("evaluation/return", "return")]
    kind, _, name = metric.rpartition("/")
    if kind == "timing":
        known = name in TIMING
    elif metric.startswith(("evaluation/", "return/")):
        known = metric in returns or bool(EVALUATED.match(metric))
    elif kind in OTHERS:
        known = False
    else:  # statistics of learning end in their team's name
        known = kind == "info" or name in teams or metric in ("iteration", "episodes")
    if not known:
        examples = [*returns, *(f"timing/{name}" for name in TIMING), "evaluation/info/NAME"]
        raise _unknown_metric(metric, examples, ", which no run logs")


def missing(directory: Path, metric: str, done: bool) -> UserError | None:
    """Returns the error that a run does not log the metric; None where it does or may yet.

    Args:
        directory: of the run.
        metric: name of a metric. Those of evaluations are known after the first one, all others
            when the run is done.
        done: whether the run has ended.
    """
    records = read_jsonl(directory / f"{_kind(metric)}.jsonl")
    known = {name for record in records for name in scalars(_kind(metric), record)}
    if metric in known or not records or not (done or _kind(metric) == "evaluations"):
        return None
    return _unknown_metric(metric, known, f", which {directory} does not log")


def _unknown_metric(metric: str, known: Iterable[str], where: str) -> UserError:
    """Returns the error for a metric of another name. Where none is like it, and none begins with
    the same word, it suggests those of evaluations, which are what a sweep usually compares."""
    known = sorted(known)
    close = difflib.get_close_matches(metric, known, n=1, cutoff=0.8)
    beside = [name for name in known if name.partition("/")[0] == metric.partition("/")[0]]
    evaluations = [name for name in known if name.startswith("evaluation/")]
    return unknown("metric", metric, close or beside or evaluations or known, where=where)


def _kind(metric: str) -> str:
    first = metric.partition("/")[0]
    return {"evaluation": "evaluations", "timing": "timing"}.get(first, "metrics")
