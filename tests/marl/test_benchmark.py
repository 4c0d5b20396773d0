"""``marl benchmark`` as a user meets it, on a small game."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marl import records
from marl.cli import benchmark
from marl.records import RESULTS, Cell
from tests.children import ROOT
from tests.words import called

GRID = """\
about: One game.
settings: {num_envs: 4, steps: 10, total_frames: FRAMES, evaluation_interval: 80,
           evaluation_episodes: 3, checkpoint_interval: 120, absolute_episodes: 8,
           model.hidden: [8], algorithm.epochs: 1}
tasks: {climbing: {task: games/climbing}}
algorithms: {mappo: {algorithm: mappo}, broken: {algorithm: mappo, algorithm.gamma: 7}}
cells: {climbing/broken: BROKEN}
seeds: [0, 1]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A directory to be in, with a grid of one good and one broken algorithm."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "grid.yaml").write_text(GRID.replace("FRAMES", "240").replace("BROKEN", "{}"))
    return tmp_path


def test_records_failures_and_what_is_done_already(folder: Path, capsys) -> None:
    words = ("benchmark", "grid.yaml", "--jobs", "2", "--only", "seed=0")
    code, out, _ = called(capsys, *words)
    assert code == 1 and "1 of 2 in results/grid, 1 failed" in out
    assert "failed   climbing broken seed 0" in out and "gamma=7.0 is out of range" in out
    record = folder / "results/grid/climbing/mappo/seed_0"
    records.check(record)
    absolute = json.loads((record / "absolute.json").read_text())["team"]
    assert len(absolute["returns"]["team"]) == len(absolute["sampled"]["team"]) == 8
    assert absolute["frames"] in {
        line["frames"] for line in records.read_lines(record / "evaluations.jsonl")
    }
    assert (record / "video.mp4").stat().st_size > 0

    code, out, _ = called(capsys, *words, "--only", "algorithm=mappo")
    assert code == 0 and "1 recorded already, 0 to do" in out and "tables   marl tables" in out
    assert "GiB in runs/benchmark/grid" in out
    code, out, _ = called(capsys, *words, "--dry-run")
    assert len(out.splitlines()) == 1 and "gamma=7" in out  # mappo's has its record

    change = (folder / "grid.yaml").read_text().replace("total_frames: 240", "total_frames: 480")
    (folder / "grid.yaml").write_text(change)
    code, out, _ = called(capsys, *words, "--only", "algorithm=mappo")
    assert code == 1 and "total_frames=240 where now total_frames=480 is asked" in out


def test_a_pruned_run_keeps_its_best_policy(folder: Path, capsys) -> None:
    only = ("--only", "algorithm=mappo,seed=0")
    code, *_ = called(capsys, "benchmark", "grid.yaml", *only, "--prune")
    run = folder / "runs/benchmark/grid/climbing-mappo-0"
    left = [path.name for path in (run / "checkpoints").iterdir()]
    assert code == 0 and left and all(name.startswith("best-team-") for name in left)
    code, out, _ = called(capsys, "evaluate", str(run), "--best", "--episodes", "4")
    assert code == 0 and "best-team-" in out
    code, _, err = called(capsys, "evaluate", str(run))
    assert code == 2 and "it holds best policies, which --best plays" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["benchmark", "smok"], "unknown benchmark 'smok'; did you mean 'smoke'?"),
        (["benchmark", "none.yaml"], "there is no benchmark file 'none.yaml'"),
        (["benchmark", "grid.yaml", "--only", "algorithm=mapo"], "did you mean 'mappo'?"),
    ],
)
def test_mistakes_are_told(folder: Path, capsys, words: list[str], said: str) -> None:
    code, _, err = called(capsys, *words)
    assert code == 2 and said in err
    assert sorted(path.name for path in folder.iterdir()) == ["grid.yaml"]


@pytest.mark.parametrize("name", benchmark.names())
def test_every_run_of_every_suite_is_accepted(name: str) -> None:
    """Runs that together have every task and every algorithm compose; a sentence tells of each
    suite."""
    from marl.cli import compose

    suite = benchmark.find(name)
    assert suite.about.endswith(".")
    seen: set[str] = set()
    for cell in suite.cells():
        if not {cell.task, cell.algorithm} <= seen:
            seen |= {cell.task, cell.algorithm}
            run = compose.composed(suite.words(cell))
            assert run.seed == cell.seed and run.absolute_episodes == 320
    assert seen == {*suite.tasks, *suite.algorithms}


@pytest.mark.slow
def test_killed_twice_ends_with_the_same_results(folder: Path) -> None:
    """Launcher and runs are killed at random moments; clocks apart, records are the same bytes."""
    grid = GRID.replace("FRAMES", "20000").replace("BROKEN", "null")
    (folder / "grid.yaml").write_text(grid)
    start(folder, "whole").wait(240)
    moments = random.Random(time.time_ns())
    for _ in range(2):
        launcher = start(folder, "cut")
        time.sleep(moments.uniform(4, 12))
        for pid in [launcher.pid, *moments.sample(runs := children(folder), len(runs) // 2)]:
            os.kill(pid, signal.SIGKILL)
        launcher.wait()
    assert start(folder, "cut").wait(240) == 0
    for seed in (0, 1):
        place = Cell("climbing", "mappo", seed).folder
        whole, cut = (folder / f"results-{name}" / place for name in ("whole", "cut"))
        records.check(cut)
        for name in RESULTS:
            assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    where = ["--runs", f"runs-{name}", "--results", f"results-{name}"]
    command = [sys.executable, "-m", "marl", "benchmark", "grid.yaml", "--jobs", "2", *where]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)


def children(folder: Path) -> list[int]:
    """The processes that run in a directory of ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_text()
        except OSError:  # it has ended
            continue
        if f"{folder}/runs-" in words and "benchmark" not in words.split("\0"):
            found.append(int(path.name))
    return found
