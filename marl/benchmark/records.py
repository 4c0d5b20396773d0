"""Records of benchmark runs: the files of a run directory that are kept under ``results/``, and the
check that they are unchanged. Loads no torch.

A record is the folder ``results/<suite>/<task>/<algorithm>/seed_<seed>/``. Its ``RESULTS`` are the
same byte for byte in equal runs; its ``ABOUT`` files say where, when and how fast the run was.
``SHA256SUMS``, written last, makes a folder a record; ``sha256sum --check SHA256SUMS`` checks it.
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
WITH_PATHS = ("config.json", "provenance.json")  # in which a run directory has absolute paths
SUMS = "SHA256SUMS"
POLICY = "policy.safetensors"  # of a run with an absolute metric
POLICY_BYTES = 400_000  # of the largest policy that is kept with a record
MAX_DEPTH = 50  # of nested lists and mappings in a record's JSON


@dataclass(frozen=True, order=True)
class Cell:
    """The place of one run in a suite's grid."""

    task: str
    algorithm: str
    seed: int

    @property
    def folder(self) -> Path:
        """Folder of its record within the suite's."""
        return Path(self.task) / self.algorithm / f"seed_{self.seed}"

    def __str__(self) -> str:
        return f"{self.task} {self.algorithm} seed {self.seed}"


class BadRecord(UserError):
    """The error that a record is not what a run wrote."""


def write(run: Path, suite: Path, cell: Cell, policy: bool = False) -> Path:
    """Writes the record of a finished run, atomically.

    A video of the run is copied too. Paths are reduced to names, so that a record tells nothing of
    the machine's folders. An existing record is replaced only if it is of an older version of
    learning.

    Args:
        run: the run's directory.
        suite: the suite's folder of records.
        cell: the run's place in the suite.
        policy: copy the run's ``policy.safetensors`` too, unless it is larger than
            ``POLICY_BYTES``.

    Returns:
        The record's folder.

    Raises:
        UserError: the record exists, or the run lacks one of its files.
    """
    to = suite / cell.folder
    if exists(to) and learning_of(to) >= learning_of(run):
        raise UserError(f"{str(to)!r} already holds a record; remove it to write it again")
    for name in (*RESULTS, "provenance.json"):
        if not (run / name).exists():
            hint = "; 'marl resume RUN absolute_episodes=320' measures it" * (name == ABSOLUTE)
            raise UserError(f"{str(run)!r} has no {name}, which a record requires{hint}")
    temporary = to.with_name(f".{to.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / "clock.json").write_text(json.dumps(clock(run), indent=2) + "\n")
    for name in (*RESULTS, *_extras(run, policy)):
        shutil.copyfile(run / name, temporary / name)
    for name in WITH_PATHS:
        content = without_places(json.loads((run / name).read_text()))
        (temporary / name).write_text(json.dumps(content, indent=2) + "\n")
    sums = [f"{_sum(path)}  {path.name}\n" for path in sorted(temporary.iterdir())]
    (temporary / SUMS).write_text("".join(sums))
    older = to.with_name(f".{to.name}.older")  # or an unfinished record
    shutil.rmtree(older, ignore_errors=True)
    if to.exists():
        os.replace(to, older)
    os.replace(temporary, to)
    shutil.rmtree(older, ignore_errors=True)
    return to


def _extras(run: Path, policy: bool) -> list[str]:
    """Returns the names of the files of a run that a record holds where they exist."""
    names = [path.name for path in run.glob("video.*")]
    file = run / POLICY
    small = policy and file.is_file() and file.stat().st_size <= POLICY_BYTES
    return [*names, POLICY] if small else names


def exists(record: Path) -> bool:
    """Returns whether the folder is a record, though perhaps a damaged one."""
    return (record / SUMS).exists()


def clock(run: Path) -> dict[str, float]:
    """Returns the seconds that a run spent on each part, over all its sessions, and its frames per
    second of collecting and updating."""
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
    """Yields every folder of ``suite`` in the place of a record, in order, valid or not."""
    for path in sorted(suite.glob("*/*/seed_*")):
        if number := re.fullmatch(r"seed_(\d+)", path.name):
            yield Cell(path.parts[-3], path.parts[-2], int(number[1])), path


def check(record: Path) -> None:
    """Raises BadRecord where a file of the record is missing or changed."""
    sums = _sums(record)
    for name in dict.fromkeys((*RESULTS, *ABOUT, *sums)):
        if name not in sums:
            raise BadRecord(f"{name} has no line in {SUMS}")
        if name in ("", ".", "..") or "/" in name:
            raise BadRecord(f"{SUMS} names {name!r}, which is not a file of a record")
        if not (record / name).is_file():
            raise BadRecord(f"{name} is missing")
        if _sum(record / name) != sums[name]:
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
    """Returns the content of a JSON file.

    Raises:
        BadRecord: the file does not exist, is not JSON, or is nested too deeply.
    """
    try:
        text = path.read_text()
        value = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise BadRecord(f"{path.name} cannot be read: {error}") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BadRecord(f"{path.name} cannot be read: it is nested more than {MAX_DEPTH} deep")
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a JSONL file.

    Raises:
        BadRecord: the file does not exist, or a line is not JSON.
    """
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


def missing(existing: Iterable[Cell], expected: Iterable[Cell]) -> list[Cell]:
    """Returns the cells without a record, in the order of the grid.

    Args:
        existing: cells with a record.
        expected: cells of the grid.
    """
    records = set(existing)
    return [cell for cell in expected if cell not in records]
