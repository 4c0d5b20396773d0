"""``marl benchmark`` as a user meets it, on a small game."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from marl.benchmark import own_suite, records
from marl.benchmark.records import RESULTS, Cell
from marl.cli import benchmark
from marl.launch import job
from marl.utils.versions import LEARNING, learning_of
from tests.helpers.cli import called
from tests.helpers.processes import ROOT, Forked
from tests.helpers.toy_records import record

GRID = """\
about: One game.
settings: {num_envs: 4, steps: 10, total_frames: FRAMES, evaluation_interval: 80,
           evaluation_episodes: 3, checkpoint_interval: 120, absolute_episodes: 8,
           model.hidden: [8], algorithm.epochs: 1}
tasks: {climbing: {task: games/climbing}}
algorithms: {mappo: {algorithm: mappo}, broken: {algorithm: mappo, algorithm.critic: state}}
cells: {climbing/broken: BROKEN}
seeds: [0, 1]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A directory to be in, with a grid of one good and one broken algorithm. Runs are processes
    that are forked, which saves seconds each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        job, "subprocess", SimpleNamespace(DEVNULL=subprocess.DEVNULL, Popen=Forked)
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "grid.yaml").write_text(GRID.replace("FRAMES", "240").replace("BROKEN", "{}"))
    return tmp_path


def test_dry_runs_show_the_device_of_each_run(folder: Path, capsys) -> None:
    words = ("benchmark", "grid.yaml", "--dry-run", "--jobs", "2", "--devices", "cuda:0", "cuda:1")
    code, out, _ = called(capsys, *words)
    devices = [line.split()[-1] for line in out.splitlines()]
    assert code == 0 and devices == ["device=cuda:0", "device=cuda:1"] * 2


def test_records_failures_and_what_is_done_already(folder: Path, capsys) -> None:
    words = ("benchmark", "grid.yaml", "--jobs", "2", "--only", "seed=0")
    code, out, _ = called(capsys, *words)
    assert code == 1 and "1 of 2 in results/grid, 1 failed" in out
    assert "failed   climbing broken seed 0" in out and "critic 'state' needs an environ" in out
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
    assert len(out.splitlines()) == 1 and "critic=state" in out  # mappo's has its record

    change = (folder / "grid.yaml").read_text().replace("total_frames: 240", "total_frames: 480")
    (folder / "grid.yaml").write_text(change)
    code, out, _ = called(capsys, *words, "--only", "algorithm=mappo")
    assert code == 1 and "total_frames=240 there, total_frames=480 now" in out


def test_settings_are_checked_before_any_run_starts(folder: Path, capsys) -> None:
    good = (folder / "grid.yaml").read_text()
    for before, after, words in (
        ("games/climbing", "games/climbin", "did you mean 'games/climbing'?"),
        ("task: games/climbing", "task: games/climbing, task.kwargs.a: 1", "option 'a'"),
        ("algorithm.critic: state", "algorithm.gamma: 7", "gamma=7.0 is out of range"),
    ):
        (folder / "grid.yaml").write_text(good.replace(before, after))
        for flags in (["--dry-run"], []):
            code, out, err = called(capsys, "benchmark", "grid.yaml", *flags)
            assert code == 2 and out == "" and words in err and err.count("\n") == 1, err
            assert "suite 'grid', climbing with " in err
    assert not (folder / "runs").exists() and not (folder / "results").exists()


OWN = """\
settings: {num_envs: 4, steps: 10, total_frames: 100, evaluation_episodes: 3, video: false,
           model.hidden: [8], algorithm.epochs: 1MORE}
tasks: {climbing: {task: games/climbing}}
algorithms: {mappo: {algorithm: mappo}}
seeds: 1
"""
RUN, RECORD = "runs/benchmark/own/climbing-mappo-0", "results/own/climbing/mappo/seed_0"


def own(folder: Path, capsys, more: str = "") -> tuple[int, str, str]:
    (folder / "own.yaml").write_text(OWN.replace("MORE", more))
    return called(capsys, "benchmark", "own.yaml", "--jobs", "1")


def test_a_suite_of_ones_own_needs_no_word_on_the_absolute_metric(folder: Path, capsys) -> None:
    """Frames are said once; other episodes are measured of the run that is trained."""
    code, out, _ = own(folder, capsys)
    assert code == 0, out
    assert out.count("120 for the 100 asked, in whole iterations of 40") == 1
    records.check(folder / RECORD)
    assert own_suite.read(folder / "results/own") == benchmark.find("own.yaml")
    found = json.loads((folder / RECORD / "absolute.json").read_text())["team"]
    assert len(found["returns"]["team"]) == 320
    config = json.loads((folder / RECORD / "config.json").read_text())
    assert config["learning"] == LEARNING and config["settings"]["total_frames"] == 100
    assert not (folder / RECORD / "video.mp4").exists()  # as the suite says

    code, out, _ = own(folder, capsys, ", absolute_episodes: 6")
    assert code == 1 and "and the suite sets absolute_episodes=6; remove the record" in out
    shutil.rmtree(folder / RECORD)
    metrics = (folder / RUN / "metrics.jsonl").read_bytes()
    code, out, _ = own(folder, capsys, ", absolute_episodes: 6")
    assert code == 0, out
    found = json.loads((folder / RECORD / "absolute.json").read_text())["team"]
    assert len(found["returns"]["team"]) == len(found["sampled"]["team"]) == 6
    assert (folder / RUN / "metrics.jsonl").read_bytes() == metrics  # nobody trained twice
    assert own(folder, capsys, ", absolute_episodes: 6")[0] == 0  # it is what is asked for


def test_what_was_trained_without_the_absolute_metric_is_recorded(folder: Path, capsys) -> None:
    (folder / "own.yaml").write_text(OWN.replace("MORE", ""))
    planned = benchmark.Plan(
        suite := benchmark.find("own.yaml"), suite.cells(), folder / "runs/benchmark/own", folder
    ).job(suite.cells()[0])
    words = [word for word in planned.words if not word.startswith("absolute")]
    assert called(capsys, "train", *words, f"directory={RUN}", "progress=false")[0] == 0
    planned.words_file.write_text(json.dumps(words))
    assert not (folder / RUN / "absolute.json").exists()
    before = (folder / RUN / "evaluations.jsonl").read_bytes()
    code, out, _ = own(folder, capsys)
    assert code == 0, out
    records.check(folder / RECORD)
    found = json.loads((folder / RECORD / "absolute.json").read_text())["team"]
    assert len(found["returns"]["team"]) == 320
    assert (folder / RECORD / "evaluations.jsonl").read_bytes() == before
    assert "1 recorded already, 0 to do" in own(folder, capsys)[1]


def test_records_and_runs_of_an_older_version_are_made_anew(
    folder: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(job, "subprocess", subprocess)  # its run is started as users' are
    record(folder / "results/own", Cell("climbing", "mappo", 0), {"team": 1.0})
    (folder / RUN).mkdir(parents=True)
    (folder / RUN / "config.json").write_text("{}")
    (folder / "runs/benchmark/own/climbing-mappo-0.words.json").write_text('["seed=9"]')
    (folder / "own.yaml").write_text(OWN.replace("MORE", ""))
    code, out, _ = called(capsys, "benchmark", "own.yaml", "--dry-run")
    assert code == 0 and " train " in out
    code, out, _ = own(folder, capsys)
    assert code == 0 and "0 recorded already, 1 to do" in out
    (line,) = [line for line in out.splitlines() if line.startswith("again")]
    assert "before 2: records 1 (each is replaced when its new one is complete), runs 1" in line
    records.check(folder / RECORD)
    assert learning_of(folder / RECORD) == learning_of(folder / RUN) == LEARNING
    assert learning_of(folder / f"{RUN}.learning-1") == 1
    out = own(folder, capsys)[1]
    assert "1 recorded already, 0 to do" in out and "again " not in out


@pytest.mark.slow
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
        (["benchmark", "none.yaml"], "the benchmark file 'none.yaml' does not exist"),
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
