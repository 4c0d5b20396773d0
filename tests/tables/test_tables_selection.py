"""Bad records: named, left out, never averaged in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marl.benchmark import suite
from marl.benchmark.records import Cell
from marl.tables import selection as selecting
from marl.tables.selection import Selection, select
from tests.helpers import toy_records
from tests.helpers.toy_records import record, resumed, rewrite

FIRST = Cell("walk", "mappo", 0)


def level(cell: Cell, team: str) -> float:
    return 5.0 + cell.seed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two algorithms on one task, four seeds each."""
    return toy_records.suite(tmp_path / "toy", toy_records.grid("walk", "mappo ippo", 4), level)


def left(selection: Selection) -> dict[str, str]:
    return {str(cell): reason for cell, reason in selection.left_out}


def only(selection: Selection, words: str, cell: Cell = FIRST) -> None:
    """That one record is left out, for a reason with these words, and all others count."""
    assert list(left(selection)) == [str(cell)]
    assert words in left(selection)[str(cell)]
    assert len(selection.runs) == 7 and cell not in [run.cell for run in selection.runs]
    assert selection.missing == ()


def test_whole_records_all_count(folder: Path) -> None:
    selection = select(folder)
    assert (selection.left_out, selection.notes, selection.missing) == ((), (), ())
    assert len(selection.runs) == 8 and selection.teams() == ["team"]


def test_a_truncated_file(folder: Path) -> None:
    path = folder / FIRST.folder / "evaluations.jsonl"
    path.write_text(path.read_text()[:200])
    only(select(folder), "evaluations.jsonl is not what the run wrote: its checksum differs")
    resumed(path.parent)
    only(select(folder), "evaluations.jsonl cannot be read")


def test_a_hand_edited_number(folder: Path) -> None:
    def better(value: Any) -> Any:
        value["team"]["returns"]["team"][0] += 1
        return value

    rewrite(folder / FIRST.folder / "absolute.json", better, resum=False)
    only(select(folder), "absolute.json is not what the run wrote: its checksum differs")


def test_an_unfinished_record(folder: Path) -> None:
    (folder / FIRST.folder / "SHA256SUMS").unlink()
    only(select(folder), "SHA256SUMS is missing: the record was never finished")


def drop(*indices: int) -> Callable[[list[Any]], list[Any]]:
    return lambda lines: [line for i, line in enumerate(lines) if i not in indices]


def put(key: str, value: Any, *path: str) -> Callable[[Any], Any]:
    def change(whole: Any) -> Any:
        part = whole
        for name in path:
            part = part[name]
        part[key] = value
        return whole

    return change


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("evaluations.jsonl", drop(5), "its last evaluation is at frame 800 of 1000"),
        ("evaluations.jsonl", drop(2), "its evaluation at frame 400 is missing"),
        ("evaluations.jsonl", drop(0), "its evaluation at frame 0 is missing"),
        ("evaluations.jsonl", drop(*range(6)), "its last evaluation is at frame none of 1000"),
        ("evaluations.jsonl", lambda a: [*a[:2], a[1], *a[2:]], "where no evaluation was due"),
        ("evaluations.jsonl", lambda a: [{**a[0], "returns": {}}, *a[1:]], "KeyError 'team'"),
        ("absolute.json", put("team", [1.0], "team", "returns"), "1 episodes, not 8"),
        ("absolute.json", put("team", [float("nan")] * 8, "team", "returns"), "not finite"),
        ("absolute.json", put("team", "high", "team", "returns"), "not what a run writes"),
        ("absolute.json", lambda a: [], "not what a run writes"),
        ("absolute.json", lambda a: {}, "teams that learn: none; in the others: team"),
        ("random.json", put("returns", {}), "KeyError 'team'"),
        ("config.json", put("seed", 7, "settings"), "config.json has seed 7, its folder seed 0"),
        ("config.json", put("name", "toys/run", "task"), "its task is toys/run; the others' in"),
        (
            "config.json",
            put("gamma", 0.9, "teams", "team", "algorithm"),
            "teams.team.algorithm.gamma is 0.9, in the other seeds 0.99",
        ),
        ("config.json", put("N", 5, "task", "kwargs"), 'task.kwargs is {"N": 5}, in the other'),
        ("clock.json", lambda a: {}, "KeyError 'wall_clock'"),
    ],
)  # fmt: skip
def test_what_does_not_agree_with_itself(folder: Path, file: str, change: Any, words: str) -> None:
    """Even where the checksums were made anew."""
    rewrite(folder / FIRST.folder / file, change)
    only(select(folder), words)


def test_another_device_is_no_difference(folder: Path) -> None:
    rewrite(folder / FIRST.folder / "config.json", put("device", "cuda", "settings"))
    rewrite(folder / FIRST.folder / "config.json", put("newer", 1, "settings"))
    assert left(select(folder)) == {}


@pytest.mark.parametrize(
    ("settings", "frames", "words"),
    [
        ({"total_frames": 800}, (0, 200, 400, 600, 800), "total_frames 800 (the others"),
        ({"evaluation_interval": 500}, (0, 500, 1000), "evaluation_interval 500 (the others"),
        (
            {"evaluation_episodes": 9},
            toy_records.FRAMES,
            "evaluation_episodes 9 (the others of this",
        ),
        (
            {"absolute_episodes": 9},
            toy_records.FRAMES,
            "absolute_episodes 9 (the others of this task",
        ),
    ],
)
def test_another_budget(
    tmp_path: Path, folder: Path, settings: dict, frames: tuple[int, ...], words: str
) -> None:
    cell = Cell("walk", "mappo", 4)
    record(folder, cell, {"team": 50.0}, settings=settings, frames=frames)
    selection = select(folder, None)
    assert list(left(selection)) == [str(cell)] and words in left(selection)[str(cell)]
    assert len(selection.runs) == 8
    assert selection.missing == (Cell("walk", "ippo", 4),)


@pytest.mark.parametrize("total", [800, 1000])
def test_of_two_budgets_as_frequent_the_suites_counts(tmp_path: Path, total: int) -> None:
    folder = tmp_path / "toy"
    for seed, frames in ((0, 800), (1, 1000)):
        record(
            folder, Cell("walk", "mappo", seed), {"team": 5.0}, settings={"total_frames": frames},
            frames=range(0, frames + 1, 200),
        )  # fmt: skip
    grid = tmp_path / "toy.yaml"
    grid.write_text(
        f"settings: {{total_frames: {total}}}\ntasks: {{walk: {{}}}}\n"
        "algorithms: {mappo: {}}\nseeds: 2\n"
    )
    selection = select(folder, suite.read(grid))
    assert [run.budget[0] for run in selection.runs] == [total]
    assert len(selection.left_out) == 1


def test_an_older_version_of_learning_gives_way(folder: Path) -> None:
    """Within an algorithm on a task; there even to fewer records, of another budget."""
    frames, settings = (0, 200, 400), {"total_frames": 400}
    new = Cell("walk", "mappo", 1)
    record(folder, new, {"team": 9.0}, settings=settings, frames=frames, learning=2)
    selection = select(folder)
    assert [run.cell for run in selection.runs] == [new] and selection.versions == [2]
    why = "learning version 1, beside version 2"
    assert selection.older == tuple((Cell("walk", "mappo", seed), why) for seed in (0, 2, 3))
    assert {str(c): r for c, r in selection.left_out} == {
        f"walk ippo seed {s}": "another budget: total_frames 1000 (the others of this task: 400)"
        for s in range(4)
    }
    (folder / new.folder / "SHA256SUMS").unlink()  # what is no record replaces none
    assert len(select(folder).runs) == 7 and select(folder).older == ()


def test_a_version_that_is_no_number(folder: Path) -> None:
    rewrite(folder / FIRST.folder / "config.json", lambda a: {**a, "learning": "two"})
    only(select(folder), "not what a run writes: ValueError")


def test_missing_and_foreign_cells(tmp_path: Path, folder: Path) -> None:
    grid = tmp_path / "toy.yaml"
    grid.write_text("tasks: {walk: {}}\nalgorithms: {mappo: {}, happo: {}}\nseeds: 5\n")
    selection = select(folder, suite.read(grid))
    assert [str(c) for c in selection.missing if c.algorithm == "mappo"] == ["walk mappo seed 4"]
    assert len([c for c in selection.missing if c.algorithm == "happo"]) == 5
    assert [str(cell) for cell, _ in selection.notes] == [f"walk ippo seed {s}" for s in range(4)]
    assert selection.algorithms == ["mappo", "ippo"]  # the grid's order, and then others


def test_a_metric_missing_in_one_run(tmp_path: Path) -> None:
    """Is left out of that run alone; its return counts."""
    folder = tmp_path / "toy"
    for seed in range(3):
        metrics = () if seed == 1 else ("success",)
        record(folder, Cell("walk", "mappo", seed), {"team": 5.0}, metrics=metrics)
    path = folder / "walk/mappo/seed_2/evaluations.jsonl"
    rewrite(path, lambda lines: [*lines[:3], {**lines[3], "metrics": {}}, *lines[4:]])
    selection = select(folder)
    assert [(cell.seed, note) for cell, note in selection.notes] == [
        (1, "success is missing: left out"),
        (2, "success is missing in 1 of 6 evaluations: left out"),
    ]
    has = [
        ("success" in run.teams["team"], "return" in run.teams["team"]) for run in selection.runs
    ]
    assert has == [(True, True), (False, True), (False, True)]


def test_no_seed_counts_twice(folder: Path) -> None:
    shutil.copytree(folder / FIRST.folder, folder / "walk" / "mappo" / "seed_00")
    selection = select(folder)
    assert left(selection) == {str(FIRST): "its folder is seed_00, not seed_0"}
    assert len(selection.runs) == 8


def test_odd_names_do_no_harm(folder: Path) -> None:
    (folder / "walk" / "mappo" / "seed_x").mkdir()
    (folder / "walk" / "mappo" / "notes").mkdir()
    (folder / "walk" / "mappo" / "seed_9").mkdir()
    assert left(select(folder)) == {
        "walk mappo seed 9": "SHA256SUMS is missing: the record was never finished"
    }
    assert json.loads((folder / FIRST.folder / "config.json").read_text())


def test_several_processes_read_what_one_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / FIRST.folder / "absolute.json").write_text("{")
    alone = select(folder)
    monkeypatch.setattr(selecting, "MANY", 1)
    monkeypatch.setattr(selecting, "_cores", lambda: 2)
    several = select(folder)
    assert [run.cell for run in several.runs] == [run.cell for run in alone.runs]
    assert several.left_out == alone.left_out and len(alone.left_out) == 1
    first, second = alone.runs[0].teams, several.runs[0].teams
    assert (first["team"]["return"].absolute == second["team"]["return"].absolute).all()
