"""``marl sweep`` as a user meets it. Its runs are stand-ins that are quick; one test trains."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from marl.cli import search
from marl.launch.job import Job
from tests.helpers.cli import called
from tests.helpers.processes import ROOT

FILE: dict[str, Any] = {
    "method": "grid",
    "metric": {"name": "evaluation/return/team", "goal": "maximize"},
    "parameters": {
        "task": {"value": "games/climbing"},
        "total_frames": {"value": 30},
        "wandb": {"value": True},
        "algorithm.gamma": {"values": [0.5, 0.9, 0.7]},
    },
    "command": ["${env}", "marl", "train", "${args_no_hyphens}"],
}
# A run of four evaluations, whose returns are its gamma. The file `break` names a gamma that fails;
# with `endless` there, the lowest waits for a signal after the second.
CHILD = """
import json, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1]); here = folder.parent.parent.parent
gamma = next(float(w.partition("=")[2]) for w in sys.argv if w.startswith("algorithm.gamma="))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
if (here / "break").exists() and (here / "break").read_text() == str(gamma):
    print("it broke"); sys.exit(3)
folder.mkdir(exist_ok=True)
with open(folder / "begun", "a") as file: file.write("x")
config = {"learning": 2, "settings": {"total_frames": 30}}
(folder / "config.json").write_text(json.dumps(config))
for frames in (0, 10, 20, 30):
    while frames == 20 and (here / "endless").exists() and gamma == 0.5: time.sleep(0.01)
    for name, record in (
        ("evaluations", {"frames": frames, "returns": {"team": [gamma, gamma]}, "metrics": {}}),
        ("timing", {"frames": frames, "evaluate": 0.1}),
    ):
        with open(folder / f"{name}.jsonl", "a") as file: file.write(json.dumps(record) + "\\n")
(folder / "curve.png").touch()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A directory to be in; runs are stand-ins, looked at often."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "REFRESH", 0.0)
    command = [sys.executable, "-c", CHILD]
    monkeypatch.setattr(Job, "command", lambda job: [*command, str(job.directory), *job.words])
    write()
    return tmp_path


def write(**changes: Any) -> None:
    Path("toy.yaml").write_text(yaml.safe_dump({**FILE, **changes}, sort_keys=False))


def rows(folder: Path) -> list[tuple[str, str, float | None]]:
    """``(run, status, last)`` of the record, the best first."""
    found = json.loads((folder / "runs/sweep-toy/sweep.json").read_text())
    return [(row["run"], row["status"], row["last"]) for row in found["runs"]]


def test_all_of_a_grid_and_a_table_of_the_best(capsys, folder: Path) -> None:
    code, out, _ = called(capsys, "sweep", "toy.yaml", "--jobs", "2", "seed=7")
    assert code == 0
    assert "3 runs, 0 done already, 2 at once" in out
    ranked = [("run-001", "done", 0.9), ("run-002", "done", 0.7), ("run-000", "done", 0.5)]
    assert rows(folder) == ranked
    places = [out.rindex(name) for name in ("run-001", "run-002", "run-000")]
    assert places == sorted(places)
    (best,) = [line for line in out.splitlines() if line.startswith("again")]
    assert "algorithm.gamma=0.9" in best and "seed=7" in best and "wandb" not in best
    with open("runs/sweep-toy/sweep.csv") as file:
        table = list(csv.DictReader(file))
    assert [(row["run"], row["algorithm.gamma"], row["last"]) for row in table][:1] == [
        ("run-001", "0.9", "0.9")
    ]


def test_the_lowest_may_be_the_best(capsys, folder: Path) -> None:
    write(metric={"name": "evaluation/return/team", "goal": "minimize"})
    assert called(capsys, "sweep", "toy.yaml", "--jobs", "3")[0] == 0
    assert [name for name, *_ in rows(folder)] == ["run-000", "run-002", "run-001"]


def test_a_failure_is_told_and_tried_again(capsys, folder: Path) -> None:
    Path("break").write_text("0.9")
    code, out, _ = called(capsys, "sweep", "toy.yaml", "--jobs", "3")
    assert code == 1 and "failed   run-001: it broke" in out and "run-001.log" in out
    assert rows(folder)[-1] == ("run-001", "failed", None)
    Path("break").unlink()
    code, out, _ = called(capsys, "sweep", "toy.yaml", "--jobs", "3")
    assert code == 0 and "2 done already" in out
    assert [status for _, status, _ in rows(folder)] == ["done"] * 3
    begun = [Path(f"runs/sweep-toy/run-00{k}/begun").read_text() for k in range(3)]
    assert begun == ["x", "x", "x"]


def test_what_is_behind_is_stopped_and_stays_so(capsys, folder: Path) -> None:
    write(early_terminate={"type": "hyperband", "min_iter": 2})
    Path("endless").touch()
    code, out, _ = called(capsys, "sweep", "toy.yaml", "--jobs", "3")
    assert code == 0 and "early    run-000" in out
    assert rows(folder)[-1] == ("run-000", "early", 0.5)
    assert "3 done already" in called(capsys, "sweep", "toy.yaml")[1]
    assert Path("runs/sweep-toy/run-000/begun").read_text() == "x"


def test_a_metric_that_nobody_logs_ends_it(capsys, folder: Path) -> None:
    write(metric={"name": "evaluation/info/tem", "goal": "maximize"})
    Path("endless").touch()
    code, _, err = called(capsys, "sweep", "toy.yaml", "--jobs", "1")
    assert code == 2 and "unknown metric 'evaluation/info/tem'" in err
    Path("endless").unlink()
    write()
    assert called(capsys, "sweep", "toy.yaml")[0] == 0  # in the same directory, once it is mended


def test_a_metric_that_nobody_logged_is_told_in_the_end(capsys, folder, monkeypatch) -> None:
    monkeypatch.setattr(search, "REFRESH", 60.0)
    write(metric={"name": "evaluation/info/tem", "goal": "maximize"})
    assert called(capsys, "sweep", "toy.yaml", "--jobs", "3")[0] == 2


@pytest.mark.parametrize(
    "name", ["evaluation/return/tem", "timing/colect", "kl/tem", "loss", "evaluation/info/"]
)
def test_a_metric_that_no_run_logs_is_refused_before_any(capsys, folder: Path, name: str) -> None:
    write(metric={"name": name})
    code, _, err = called(capsys, "sweep", "toy.yaml", "--dry-run")
    assert code == 2 and f"unknown metric {name!r}, which no run logs" in err


def test_a_target_that_is_reached_starts_no_more_runs(capsys, folder: Path) -> None:
    write(metric={"name": "evaluation/return/team", "goal": "maximize", "target": 0.9})
    assert called(capsys, "sweep", "toy.yaml", "--jobs", "1")[0] == 0
    assert [row[0] for row in rows(folder) if row[1] == "done"] == ["run-001", "run-000"]
    assert called(capsys, "sweep", "toy.yaml", "--jobs", "1")[0] == 0
    assert not Path("runs/sweep-toy/run-002/begun").exists()


def test_whole_numbers_of_a_step_reach_integer_settings(capsys, folder: Path) -> None:
    """As W&B's agent prints them, 8.0."""
    steps = {"distribution": "q_uniform", "min": 2.0, "max": 8.0, "q": 2.0}
    parameters = {**FILE["parameters"], "num_envs": steps}
    write(method="random", run_cap=2, parameters=parameters)
    code, out, err = called(capsys, "sweep", "toy.yaml", "--dry-run")
    assert code == 0, err
    assert out.count("num_envs=") == 2


def test_more_points_are_added(capsys, folder: Path) -> None:
    for count in (1, 3):
        assert called(capsys, "sweep", "toy.yaml", "--count", str(count))[0] == 0
        assert len(rows(folder)) == count
    assert Path("runs/sweep-toy/run-000/begun").read_text() == "x"


def test_bayes_is_drawn_here_and_says_so(capsys, folder: Path) -> None:
    write(method="bayes", run_cap=2)
    code, out, _ = called(capsys, "sweep", "toy.yaml")
    assert code == 0 and "points are random here" in out and len(rows(folder)) == 2


def test_dry_runs_print_commands_and_leave_nothing(capsys, folder: Path) -> None:
    before = set(os.listdir(folder))
    code, out, _ = called(capsys, "sweep", "toy.yaml", "--dry-run", "wandb=true", "total_frames=60")
    assert code == 0 and set(os.listdir(folder)) == before
    first = "marl train task=games/climbing total_frames=60 algorithm.gamma=0.5 wandb=true"
    assert out.splitlines()[0] == first and len(out.splitlines()) == 3
    words = ["--dry-run", "--jobs", "2", "--devices", "cuda:0", "cuda:1", "wandb=true"]
    code, out, _ = called(capsys, "sweep", "toy.yaml", *words)
    devices = [line.split()[-1] for line in out.splitlines()]
    assert devices == ["device=cuda:0", "device=cuda:1", "device=cuda:0"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["toy.yml"], "toy.yml: there is no such file"),
        (["mapo"], "unknown sweep 'mapo'; did you mean 'mappo'?"),
        (["toy.yaml", "algorithm.gamma=1"], "algorithm.gamma is a parameter that this"),
        (["toy.yaml", "directory=x"], "the sweep chooses directory"),
        (["toy.yaml", "total_frame=1"], "did you mean 'total_frames'?"),
        (
            ["toy.yaml", "algorithm.clip=-1"],
            "run-000 (algorithm.gamma=0.5): algorithm.clip=-1.0 is out of",
        ),
        (["toy.yaml", "foo"], "'foo' is not a setting; expected KEY=VALUE"),
    ],
    ids=" ".join,
)
def test_mistakes(capsys, folder: Path, words: list[str], said: str) -> None:
    before = set(os.listdir(folder))
    code, _, err = called(capsys, "sweep", *words)
    assert code == 2 and said in err and err.count("\n") == 1
    assert set(os.listdir(folder)) == before


@pytest.mark.slow
def test_another_sweep_in_the_same_directory(capsys, folder: Path) -> None:
    assert called(capsys, "sweep", "toy.yaml")[0] == 0
    code, _, err = called(capsys, "sweep", "toy.yaml", "seed=3")
    assert code == 2 and "holds another sweep: settings seed: None there and 3 here" in err
    assert called(capsys, "sweep", "toy.yaml", "seed=3", "--directory", "runs/b")[0] == 0
    path = folder / "runs/b/sweep.json"
    whole = json.loads(path.read_text())
    del whole["asked"]["learning"]  # as it was before there were versions
    path.write_text(json.dumps(whole))
    code, _, err = called(capsys, "sweep", "toy.yaml", "seed=3", "--directory", "runs/b")
    assert code == 2 and "holds another sweep: learning 1 there and 2 here" in err


def test_listed(capsys) -> None:
    code, out, _ = called(capsys, "list", "sweeps")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 6
    assert all(Path(line.split()[-1]).exists() for line in lines)


@pytest.mark.slow
def test_killed_and_started_again(tmp_path: Path) -> None:
    """Real runs: the command is killed, its runs are not, and the next call waits for them."""
    small = {
        "task": "games/climbing", "num_envs": 4, "steps": 10, "total_frames": 4000, "video": False,
        "evaluation_interval": 400, "evaluation_episodes": 2, "algorithm.epochs": 1,
    }  # fmt: skip
    fixed = {name: {"value": value} for name, value in small.items()}
    searched = {**fixed, "algorithm.gamma": {"values": [0.9, 0.99]}}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump({**FILE, "parameters": searched}))
    command = [sys.executable, "-m", "marl", "sweep", "toy.yaml", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob("runs/sweep-toy/run-00?/metrics.jsonl")):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done
    assert [status for _, status, _ in rows(tmp_path)] == ["done", "done"]
    for log in tmp_path.glob("runs/sweep-toy/*.log"):
        assert "not empty" not in log.read_text()
