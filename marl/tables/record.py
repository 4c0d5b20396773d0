"""Reading and checking the numbers of a record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from marl.benchmark import records
from marl.benchmark.records import BadRecord, Cell
from marl.utils.usual import with_usual
from marl.utils.versions import LEARNING, learning

Episodes = NDArray[np.float64]
RETURN = "return"
BUDGET = ("total_frames", "evaluation_interval", "evaluation_episodes", "absolute_episodes")
LARGEST = 1e100  # magnitude of a number that can be averaged, squared and plotted
VIDEOS = (".mp4", ".gif")


@dataclass(frozen=True)
class Series:
    """One quantity of one team in one run; None where it was not measured."""

    #: ``[episodes]`` of the best checkpoint, in new episodes.
    absolute: Episodes
    #: ``[evaluations, episodes]``.
    evaluations: Episodes | None = None
    #: ``[episodes]`` of the best checkpoint with sampled actions.
    sampled: Episodes | None = None
    #: ``[episodes]`` of random play.
    random: Episodes | None = None


@dataclass(frozen=True)
class Run:
    """The content of a record."""

    #: Its place in the suite.
    cell: Cell
    #: Its folder.
    folder: Path
    #: Configuration of the run: task, settings and teams.
    config: Mapping[str, Any]
    #: Frames at each evaluation.
    frames: tuple[int, ...]
    #: Team that learns -> metric -> numbers.
    teams: Mapping[str, Mapping[str, Series]]
    #: Team -> frames of its best checkpoint.
    best_frames: Mapping[str, int]
    #: Seconds and speed of the run.
    clock: Mapping[str, float]
    #: Where and by which code it ran.
    provenance: Mapping[str, Any]
    #: Version of learning (``marl.utils.versions``).
    learning: int
    #: Sentences on what was left out of it.
    notes: Sequence[str] = ()

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.config["task"]["name"])

    @property
    def budget(self) -> tuple[int, ...]:
        """Values of the settings in ``BUDGET``."""
        return tuple(self.config["settings"].get(name, 0) for name in BUDGET)

    @property
    def videos(self) -> list[Path]:
        """Its video files."""
        return sorted(path for path in self.folder.glob("video.*") if path.suffix in VIDEOS)


def read(cell: Cell, folder: Path) -> Run:
    """Returns the content of a record.

    Args:
        cell: its place in the suite.
        folder: its folder.

    Raises:
        BadRecord: it is incomplete, changed, or contradicts itself.
    """
    if folder.name != cell.folder.name:  # seed_01 beside seed_1 would count twice
        raise BadRecord(f"its folder is {folder.name}, not {cell.folder.name}")
    _check_names(cell.task, cell.algorithm)
    records.check(folder)
    try:
        return _read(cell, folder)
    except WRONG as error:
        raise BadRecord(f"it is not what a run writes: {type(error).__name__} {error}") from None


# Errors that values of other types, sizes and shapes than a run's may cause.
WRONG = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError,
         MemoryError)  # fmt: skip


def _read(cell: Cell, folder: Path) -> Run:
    config = with_usual(records.read_json(folder / "config.json"))
    lines = records.read_lines(folder / "evaluations.jsonl")
    absolute = records.read_json(folder / "absolute.json")
    random = records.read_json(folder / "random.json")
    provenance = records.read_json(folder / "provenance.json")
    _check_config(config)
    _check_settings(cell, config["settings"])
    frames = tuple(_whole("frames", line["frames"]) for line in lines)
    _check_frames(frames, config["settings"])
    notes: list[str] = []
    teams = {
        team: dict(_series(team, lines, best, random, config["settings"], notes))
        for team, best in sorted(absolute.items())
    }
    _check_names(*teams, *(name for metrics in teams.values() for name in metrics))
    _check_names(str(provenance.get("commit")))
    return Run(
        cell, folder, {key: config[key] for key in ("task", "settings", "teams")}, frames,
        teams, {team: _whole("frames", best["frames"]) for team, best in absolute.items()},
        _clock(records.read_json(folder / "clock.json")), provenance, _learning(config),
        tuple(notes),
    )  # fmt: skip


def _check_config(config: Mapping[str, Any]) -> None:
    """Checks the types of what the tables read of a configuration."""
    task, settings = config["task"], config["settings"]
    if not (isinstance(task["name"], str) and isinstance(task.get("kwargs", {}), dict)):
        raise BadRecord("config.json: its task has no name, or its options are not a mapping")
    for name in (*BUDGET, "num_envs", "steps"):
        _whole(name, settings.get(name, 1))
    if not isinstance(config["teams"], dict):
        raise BadRecord("config.json: its teams are not a mapping")


def _check_names(*names: str) -> None:
    for name in names:
        if not name.isprintable():
            raise BadRecord(f"{name!a} is a name that cannot be printed")


def _whole(name: str, value: Any) -> int:
    """Returns a value that must be a whole number."""
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise BadRecord(f"{name} is {value!r:.40}, not a whole number")
    return int(value)


def _learning(config: Mapping[str, Any]) -> int:
    """Returns the version of learning. One newer than this program's is refused: it would displace
    all other records."""
    if not 1 <= (version := learning(config)) <= LEARNING:
        raise BadRecord(f"its version of learning is {version}; this program knows 1 to {LEARNING}")
    return version


def _clock(content: Mapping[str, Any]) -> dict[str, float]:
    clock = {name: float(content[name]) for name in ("wall_clock", "frames_per_second")}
    if not all(0 <= value < LARGEST for value in clock.values()):
        raise BadRecord(f"clock.json has no valid times: {clock}")
    return clock


def _check_settings(cell: Cell, settings: Mapping[str, Any]) -> None:
    if settings["seed"] != cell.seed:
        raise BadRecord(f"config.json has seed {settings['seed']}, its folder seed {cell.seed}")


def _check_frames(frames: Sequence[int], settings: Mapping[str, Any]) -> None:
    """Checks that no evaluation is missing: they are due at the first iteration after every
    multiple of the interval, and at the end."""
    total = settings["total_frames"]
    interval = settings["evaluation_interval"]
    if not frames or frames[-1] < total:
        last = frames[-1] if frames else "none"
        raise BadRecord(f"its last evaluation is at frame {last} of {total}: it was cut short")
    if not interval:
        return
    if frames[0] != 0:
        raise BadRecord("its evaluation at frame 0 is missing")
    for before, after in pairwise(frames):
        due = (before // interval + 1) * interval
        if after < min(due, total):
            raise BadRecord(f"it was evaluated at frame {after}, where no evaluation was due")
        if after >= due + max(interval, _iteration(settings)):
            raise BadRecord(f"its evaluation at frame {due} is missing")


def _iteration(settings: Mapping[str, Any]) -> int:
    return settings.get("num_envs", 1) * settings.get("steps", 1)


def _series(
    team: str, lines: Sequence[Any], best: Any, random: Any, settings: Any, notes: list[str]
) -> Iterator[tuple[str, Series]]:
    """Yields every metric of a team, its return first. ``best`` is the best checkpoint's part of
    ``absolute.json``."""
    many, few = settings["absolute_episodes"], settings["evaluation_episodes"]
    yield (
        RETURN,
        Series(
            _episodes(best["returns"][team], f"absolute.json, return of {team}", many),
            _evaluations([line["returns"][team] for line in lines], f"return of {team}", few),
            _episodes(best["sampled"][team], f"absolute.json, sampled return of {team}", many),
            _episodes(random["returns"][team], f"random.json, return of {team}"),
        ),
    )
    for name in _names(lines, best):
        values = [line["metrics"].get(name) for line in lines]
        absolute = best["metrics"].get(name)
        if absolute is None or None in values:
            notes.append(f"{name} is missing in {_place(values, absolute)}: left out")
            continue
        baseline = random["metrics"].get(name)
        yield (
            _word(name),
            Series(
                _episodes(absolute, f"absolute.json, {name}", many),
                _evaluations(values, name, few),
                random=None if baseline is None else _episodes(baseline, f"random.json, {name}"),
            ),
        )
    if team in best.get("cut", {}):
        yield "cut", Series(_episodes(best["cut"][team], f"absolute.json, cut of {team}", many))
    if team in best.get("density", {}):
        yield "density", Series(_episodes(best["density"][team], f"absolute.json, density {team}"))


def _names(lines: Sequence[Any], best: Any) -> list[str]:
    """Returns the names of all metrics."""
    names = {name for line in lines for name in line["metrics"]} | set(best["metrics"])
    return sorted(names)


def _word(name: str) -> str:
    """Returns a metric's name in the tables, which differs from the names of our own metrics."""
    return f"{name}_metric" if name in (RETURN, "cut", "density") else name


def _place(values: Sequence[Any], absolute: Any) -> str:
    """Returns the files in which a metric is missing."""
    missing = sum(value is None for value in values)
    places = [f"{missing} of {len(values)} evaluations"] if missing else []
    return " and ".join([*places, *(["absolute.json"] if absolute is None else [])])


def _evaluations(lines: Sequence[Any], what: str, count: int) -> Episodes:
    return np.stack([_episodes(line, f"evaluations.jsonl, {what}", count) for line in lines])


def _episodes(values: Any, where: str, count: int | None = None) -> Episodes:
    episodes = np.asarray(values, dtype=np.float64)
    if episodes.ndim != 1 or not len(episodes):
        raise BadRecord(f"{where}: no list of numbers")
    if count is not None and len(episodes) != count:
        raise BadRecord(f"{where}: {len(episodes)} episodes, not {count}")
    if not np.abs(episodes).max() <= LARGEST:  # not so for nan either
        finite = np.isfinite(episodes).all()
        reason = "too large to be averaged" if finite else "not finite"
        raise BadRecord(f"{where}: a number is {reason}")
    return episodes


class Versioned(Protocol):
    """A row or run of one version of learning."""

    @property
    def learning(self) -> int:
        """The version of learning."""
        ...


V = TypeVar("V", bound=Versioned)


def newest(items: Iterable[V]) -> list[V]:
    """Returns the items of the newest version of learning among them."""
    items = list(items)
    latest = max((item.learning for item in items), default=0)
    return [item for item in items if item.learning == latest]


def slug(text: str) -> str:
    """Returns a text as one lower-case word of letters and digits."""
    return re.sub(r"[^a-z0-9]", "", text.lower())
