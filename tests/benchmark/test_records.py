"""Records appear whole or not at all, and tell when they are not what was written."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from marl.benchmark import records
from marl.benchmark.records import BadRecord, Cell
from marl.errors import UserError
from marl.utils.versions import learning_of

CELL = Cell("spread", "mappo", 4)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with two sittings' clocks."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (*records.RESULTS, "provenance.json", "metrics.jsonl", "video.mp4"):
        (folder / name).write_text("{}\n")
    lines = [
        {"frames": 0, "evaluate": 2.0},
        {"frames": 100, "collect": 1.0, "update": 3.0, "frames_per_second": 25.0},
        {"frames": 200, "collect": 2.0, "update": 2.0, "frames_per_second": 25.0},
    ]
    (folder / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_record_holds_what_is_kept_and_is_found(run: Path, tmp_path: Path) -> None:
    to = records.write(run, tmp_path / "suite", CELL)
    records.check(to)
    kept = {path.name for path in to.iterdir()}
    assert kept == {*records.RESULTS, *records.ABOUT, "video.mp4", records.SUMS}
    assert list(records.find(tmp_path / "suite")) == [(CELL, to)]
    (tmp_path / "suite" / "spread" / "mappo" / "seed_x").mkdir()
    assert len(list(records.find(tmp_path / "suite"))) == 1
    clock = json.loads((to / "clock.json").read_text())
    assert clock == {
        "collect": 3.0, "update": 5.0, "evaluate": 2.0, "wall_clock": 10.0,
        "frames_per_second": 25.0,
    }  # fmt: skip


def test_the_sums_are_those_of_sha256sum(run: Path, tmp_path: Path) -> None:
    to = records.write(run, tmp_path / "suite", CELL)
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    subprocess.run(["sha256sum", "--check", "--quiet", records.SUMS], cwd=to, check=True)


def test_no_record_is_written_over(run: Path, tmp_path: Path) -> None:
    to = records.write(run, tmp_path / "suite", CELL)
    with pytest.raises(UserError, match="already holds a record"):
        records.write(run, tmp_path / "suite", CELL)
    (to / records.SUMS).unlink()  # what was cut off while it was written is
    records.check(records.write(run, tmp_path / "suite", CELL))


@pytest.mark.parametrize("name", [*records.RESULTS, "provenance.json"])
def test_a_run_without_its_results_leaves_no_record(run: Path, tmp_path: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(UserError, match=f"has no {name}, which a record requires"):
        records.write(run, tmp_path / "suite", CELL)
    assert list(records.find(tmp_path / "suite")) == []


def test_an_older_version_gives_way_when_the_new_record_is_whole(run: Path, tmp_path: Path) -> None:
    to = records.write(run, tmp_path / "suite", CELL)  # {}: of version 1
    (run / "config.json").write_text('{"learning": 2}\n')
    (run / "random.json").rename(tmp_path / "random.json")
    with pytest.raises(UserError):
        records.write(run, tmp_path / "suite", CELL)
    records.check(to)
    assert learning_of(to) == 1
    (tmp_path / "random.json").rename(run / "random.json")
    assert records.write(run, tmp_path / "suite", CELL) == to
    records.check(to)
    assert learning_of(to) == 2 and [path.name for path in to.parent.iterdir()] == [to.name]
    with pytest.raises(UserError, match="already holds a record"):  # nor does 2 give way to 2
        records.write(run, tmp_path / "suite", CELL)
    (run / "config.json").write_text("{}\n")
    with pytest.raises(UserError, match="already holds a record"):  # or to 1
        records.write(run, tmp_path / "suite", CELL)


def edit(path: Path) -> None:
    path.write_text("{ }\n")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("evaluations.jsonl", edit, "evaluations.jsonl is not what the run wrote"),
        ("clock.json", edit, "clock.json is not what the run wrote"),
        ("absolute.json", Path.unlink, "absolute.json is missing"),
        (records.SUMS, Path.unlink, "never finished"),
        (records.SUMS, edit, "config.json has no line in SHA256SUMS"),
    ],
)
def test_a_changed_record_is_told(run: Path, tmp_path: Path, name, change, said: str) -> None:
    to = records.write(run, tmp_path / "suite", CELL)
    change(to / name)
    with pytest.raises(BadRecord, match=said):
        records.check(to)
