"""Records of benchmark runs: what of a run directory is kept under ``results/``, and whether it is
still what was written. Importable without torch.

A record is the folder ``results/<suite>/<task>/<algorithm>/seed_<seed>/``. ``RESULTS`` are the same
byte for byte in equal runs; ``ABOUT`` says where, when and how fast. ``SHA256SUMS``, written last,
makes a folder a record, and ``sha256sum --check SHA256SUMS`` tells whether it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marl.errors import UserError
from marl.utils.places import without_places
from marl.utils.versions import learning_of

ABSOLUTE = "absolute.json"
RESULTS = ("config.json", "evaluations.jsonl", "random.json", ABSOLUTE)
ABOUT = ("provenance.json", "clock.json")
PLACED = ("config.json", "provenance.json")  # which in a run directory tell where things are
SUMS = "SHA256SUMS"
DEEPEST = 50  # lists and mappings within each other in a record's JSON


@dataclass(frozen=True, order=True)
class Cell:
    """One run's place in a suite."""

    task: str
    algorithm: str
    seed: int

    @property
    def folder(self) -> Path:
        return Path(self.task) / self.algorithm / f"seed_{self.seed}"

    def __str__(self) -> str:
        return f"{self.task} {self.algorithm} seed {self.seed}"


class BadRecord(UserError):
    """A record that is not what a run wrote."""


def write(run: Path, suite: Path, cell: Cell) -> Path:
    """Keeps a finished run directory as a record of ``suite``; it appears whole or not at all.

    A film of the run comes along. Paths are reduced to names, so that a record tells nothing of the
    machine's folders. A record that is there already is never written over, but by one
    of a newer version of learning.

    Raises:
        UserError: there is a record, or the run lacks a file of one.
    """
    to = suite / cell.folder
    if exists(to) and learning_of(to) >= learning_of(run):
        raise UserError(f"{str(to)!r} holds a record already; remove it to have it anew")
    for name in (*RESULTS, "provenance.json"):
        if not (run / name).exists():
            hint = "; 'marl resume RUN absolute_episodes=320' measures it" * (name == ABSOLUTE)
            raise UserError(f"{str(run)!r} has no {name}, which a record needs{hint}")
    temporary = to.with_name(f".{to.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / "clock.json").write_text(json.dumps(clock(run), indent=2) + "\n")
    videos = [path.name for path in run.glob("video.*")]
    for name in (*RESULTS, *videos):
        shutil.copyfile(run / name, temporary / name)
    for name in PLACED:
        told = without_places(json.loads((run / name).read_text()))
        (temporary / name).write_text(json.dumps(told, indent=2) + "\n")
    sums = [f"{_sum(path)}  {path.name}\n" for path in sorted(temporary.iterdir())]
    (temporary / SUMS).write_text("".join(sums))
    older = to.with_name(f".{to.name}.older")  # or what is no record, for its sums are missing
    shutil.rmtree(older, ignore_errors=True)
    if to.exists():
        os.replace(to, older)
    os.replace(temporary, to)
    shutil.rmtree(older, ignore_errors=True)
    return to


def exists(record: Path) -> bool:
    """Whether the folder is a record, though perhaps not whole any more."""
    return (record / SUMS).exists()


def clock(run: Path) -> dict[str, float]:
    """Where a run's seconds went, all its sittings together, and its frames per second of
    collecting and learning."""
    seconds = dict.fromkeys(("collect", "update", "evaluate"), 0.0)
    frames = 0
    for line in read_lines(run / "timing.jsonl"):
        frames = max(frames, line["frames"])
        for name in seconds:
            seconds[name] += line.get(name, 0.0)
    learning = seconds["collect"] + seconds["update"]
    speed = frames / learning if learning else 0.0
    rounded = {name: round(value, 1) for name, value in seconds.items()}
    total = round(sum(seconds.values()), 1)
    return {**rounded, "wall_clock": total, "frames_per_second": round(speed, 1)}


def find(suite: Path) -> Iterator[tuple[Cell, Path]]:
    """Every folder of ``suite`` that has a record's place, in order, whether whole or not."""
    for path in sorted(suite.glob("*/*/seed_*")):
        if number := re.fullmatch(r"seed_(\d+)", path.name):
            yield Cell(path.parts[-3], path.parts[-2], int(number[1])), path


def check(record: Path) -> None:
    """Raises BadRecord where a file of the record is missing, or is not what was written."""
    told = _sums(record)
    for name in dict.fromkeys((*RESULTS, *ABOUT, *told)):
        if name not in told:
            raise BadRecord(f"{name} has no line in {SUMS}")
        if name in ("", ".", "..") or "/" in name:
            raise BadRecord(f"{SUMS} names {name!r}, which is no file of a record")
        if not (record / name).is_file():
            raise BadRecord(f"{name} is missing")
        if _sum(record / name) != told[name]:
            raise BadRecord(f"{name} is not what the run wrote: its checksum differs")


def _sums(record: Path) -> dict[str, str]:
    try:
        lines = (record / SUMS).read_text().splitlines()
    except OSError:
        raise BadRecord(f"{SUMS} is missing: the record was never finished") from None
    except ValueError as error:
        raise BadRecord(f"{SUMS} cannot be read: {error}") from None
    pairs = [line.partition("  ")[::2] for line in lines]
    return {name: value for value, name in pairs}


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_json(path: Path) -> Any:
    """Raises BadRecord where the file is not there or no JSON, or nested without end."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadRecord(f"{path.name} cannot be read: {error}") from None
    if _depth(value) > DEEPEST:
        raise BadRecord(f"{path.name} cannot be read: it is nested more than {DEEPEST} deep")
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file. Raises BadRecord as ``read_json`` does."""
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise BadRecord(f"{path.name} cannot be read: {error}") from None


def _depth(value: Any) -> int:
    """Returns how deep lists and mappings are nested."""
    depth, level = 0, [value]
    while level := [part for outer in level for part in _parts(outer)]:
        depth += 1
    return depth


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def missing(found: Iterable[Cell], expected: Iterable[Cell]) -> list[Cell]:
    """The cells of the grid that have no record."""
    there = set(found)
    return [cell for cell in expected if cell not in there]
