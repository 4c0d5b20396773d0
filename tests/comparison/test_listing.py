"""``marl list runs``: what the directories say, of every state and of several versions."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from marl.algorithms.registry import ALGORITHMS
from marl.comparison.overview import class_name, read
from marl.utils.files import Lock
from marl.utils.jsonl import last_line
from marl.utils.serialization import to_plain
from tests.helpers import toy_runs
from tests.helpers.cli import called


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of two settings by two seeds below ``runs/``, beside one run of another task."""
    monkeypatch.chdir(tmp_path)
    for gamma in (0.9, 0.99):
        for seed in (0, 1):
            name = f"runs/sweep/{gamma}-{seed}"
            toy_runs.run(
                Path(name), "mappo", seed, {"team": 5.0 + seed}, options={"gamma": gamma},
                started=f"2026-01-0{seed + 1}T00:00:00+0000",
            )  # fmt: skip
    toy_runs.run(
        Path("runs/tag"), "ippo", 7, {"cat": 1.0, "mouse": -1.0}, "tag", (0, 200, 400), "diverged",
        "policy_loss is nan", started="2026-02-01T00:00:00+0000",
    )  # fmt: skip
    return Path("runs")


def listed(capsys, *words: str) -> list[dict[str, Any]]:
    code, out, err = called(capsys, "list", "runs", *words, "--json")
    assert code == 0 and not err, err
    return json.loads(out)


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["run"].removeprefix("runs/") for row in rows]


def test_runs_are_listed_newest_first_with_what_differs(runs: Path, capsys) -> None:
    code, out, _ = called(capsys, "list", "runs")
    assert code == 0
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "run task algorithm frames return state differs in",
        "runs/tag toys/tag ippo 400/1k cat -5.60, mouse -6.40 diverged",
        "runs/sweep/0.99-1 toys/walk mappo 1k 6.00 finished gamma=0.99 seed=1",
        "runs/sweep/0.9-1 toys/walk mappo 1k 6.00 finished gamma=0.9 seed=1",
        "runs/sweep/0.99-0 toys/walk mappo 1k 5.00 finished gamma=0.99 seed=0",
        "runs/sweep/0.9-0 toys/walk mappo 1k 5.00 finished gamma=0.9 seed=0",
    ]
    (first, *_) = listed(capsys)
    assert first == {
        "run": "runs/tag", "task": "toys/tag", "algorithm": "ippo", "seed": 7, "differs": {},
        "frames": 400, "total_frames": 1000,
        "returns": {"cat": pytest.approx(-5.6), "mouse": pytest.approx(-6.4)},
        "state": "diverged", "why": "policy_loss is nan", "started": "2026-02-01T00:00:00+0000",
        "learning": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["task=toys/w*", "seed=1"], ["sweep/0.99-1", "sweep/0.9-1"]),
        (["gamma=0.90", "seed=0,1"], ["sweep/0.9-1", "sweep/0.9-0"]),
        (["algorithm.gamma=0.99", "seed=0"], ["sweep/0.99-0"]),
        (["algorithm=ippo,happo"], ["tag"]),
        (["state=diverged,stopped"], ["tag"]),
        (["runs/sweep/0.9-0"], ["sweep/0.9-0"]),
        (["0.9-"], ["sweep/0.9-1", "sweep/0.9-0"]),
        (["state=running"], []),
    ],
)
def test_filters(runs: Path, capsys, words: list[str], expected: list[str]) -> None:
    assert names(listed(capsys, *words)) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gama=0.9"], "unknown setting 'gama' of these runs; did you mean"),
        (["state=done"], "unknown state 'done'; choose from diverged, failed, finished"),
    ],
)
def test_wrong_filters(runs: Path, capsys, words: list[str], message: str) -> None:
    code, _, err = called(capsys, "list", "runs", *words)
    assert code == 2 and message in err and err.count("\n") == 1


def test_only_runs_are_filtered(runs: Path, capsys) -> None:
    code, _, err = called(capsys, "list", "tasks", "vmas")
    assert code == 2 and "'marl list tasks' takes no 'vmas'" in err


def test_without_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no folder 'runs' here" in called(capsys, "list", "runs")[2]
    Path("empty").mkdir()
    assert "'empty' holds no run" in called(capsys, "list", "runs", "empty")[2]


def test_a_damaged_run_is_left_out(runs: Path, capsys) -> None:
    (runs / "tag/config.json").write_text('{"task": null')
    code, out, err = called(capsys, "list", "runs")
    assert code == 0 and len(out.splitlines()) == 5
    assert err.startswith("marl: left out: 'runs/tag' is not what a run writes (JSONDecodeError")


def test_states(tmp_path: Path) -> None:
    """Written by the run, or concluded of runs of versions that wrote none."""

    def state(name: str, *files: str, **more: Any) -> str:
        run = toy_runs.run(tmp_path / name, **more)
        for file in files:
            (run / file).parent.mkdir(exist_ok=True)
            (run / file).touch()
        return read(run).state

    half, saved = (0, 200, 400), "checkpoints/frames-000000000400.pt"
    assert state("stopped", state="stopped", frames=half) == "stopped"
    assert state("killed", saved, state="running", frames=half) == "killed"
    assert state("older-stopped", saved, state="", frames=half) == "stopped"
    assert state("older-killed", state="", frames=half) == "killed"
    assert state("older-finished", state="") == "finished"
    (tmp_path / "older-finished/absolute.json").unlink()
    assert read(tmp_path / "older-finished").state != "finished"  # 8 episodes of it are asked for
    with Lock(tmp_path / "stopped").hold():
        assert read(tmp_path / "stopped").state == "running"


@pytest.mark.slow
def test_many_runs_are_listed_in_seconds(runs: Path, capsys) -> None:
    for number in range(2000):
        shutil.copytree(runs / "sweep/0.9-0", runs / f"many/{number}")
    start = time.process_time()
    assert len(listed(capsys, "many/")) == 2000
    assert time.process_time() - start < 3


def test_algorithms_have_the_names_of_the_command_line() -> None:
    for name, config in ALGORITHMS.items():
        kind = f"{config.__module__}:{config.__name__}"
        assert class_name({"_type_": kind}) == name
    assert class_name(to_plain(ALGORITHMS["maddpg"]())) == "maddpg"


def test_the_last_line_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert last_line(path) is None
    long = {"x": "y" * 1000}
    for text, expected in [
        ("", None), ('{"a": 1', None), ('{"a": 1}\n', {"a": 1}), ('{"a": 1}\n{"a', {"a": 1}),
        ('{"a": 1}\n' + json.dumps(long) + "\n", long), (json.dumps(long) + "\n", long),
        (json.dumps(long) + '\n{"a": 1}\n{"b"', {"a": 1}),
    ]:  # fmt: skip
        path.write_text(text)
        assert last_line(path, 16) == expected


def test_a_link_to_a_folder_above_is_followed_once(runs: Path, capsys) -> None:
    before = names(listed(capsys))
    (runs / "sweep/up").symlink_to("..")
    assert names(listed(capsys)) == before


def test_a_policy_of_the_zoo_is_no_run(capsys) -> None:
    code, _, err = called(capsys, "compare", "zoo:mpe/spread/hasac")
    assert code == 2 and "names a policy; give the folder of its records" in err


def test_a_folder_that_may_not_be_read_is_passed_over(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    before, scandir = names(listed(capsys)), os.scandir
    (runs / "private").mkdir()

    def refuse(path: str) -> Any:
        if path.endswith("private"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names(listed(capsys)) == before
