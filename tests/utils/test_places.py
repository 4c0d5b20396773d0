"""What is given away names no folder, home or user of the machine that made it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from marl.algorithms.scripted import FrozenConfig
from marl.benchmark import records
from marl.benchmark.records import Cell
from marl.benchmark.suite import read
from marl.cli.benchmark import Plan
from marl.training import provenance
from marl.training.teams import Team
from marl.utils.places import without_places
from marl.utils.versions import LEARNING
from tests.helpers import toy_records as recorded
from tests.helpers.experiments import experiment
from tests.helpers.processes import ROOT, cli

FILE = "frames-000000000040.pt"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/ann/runs/earlier", "earlier"),
        ("/home/ann/my runs/an earlier one", "an earlier one"),
        ("~/runs/earlier", "earlier"),
        ("~ann/runs/earlier", "earlier"),
        ("../../ann/runs/earlier", "earlier"),
        ("runs/../../ann/x", "x"),
        (f"/home/ann/runs/earlier/checkpoints/{FILE}", f"earlier/checkpoints/{FILE}"),
        ("task=/home/ann/my_tasks.py:duel", "task=my_tasks.py:duel"),
        ("teams.agent.frozen=/home/ann/earlier", "teams.agent.frozen=earlier"),
        ("directory=/home/ann/an other", "directory=an other"),
        ("selfplay.runs=[/home/ann/a,/home/ann/b]", "selfplay.runs=[a,b]"),
        ("task.kwargs={map:'/home/ann/m.json',n:3}", "task.kwargs={map:'m.json',n:3}"),
        ('  File "/home/ann/x.py", line 3, in f', '  File "x.py", line 3, in f'),
        ("file:/home/ann/x", "file:x"),
        # and what is no place
        ("task=mpe/simple_spread", "task=mpe/simple_spread"),
        ("task=./my_tasks.py:duel", "task=./my_tasks.py:duel"),
        ("runs/earlier", "runs/earlier"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("Linux-6.1.0-x86_64-with-glibc2.36", "Linux-6.1.0-x86_64-with-glibc2.36"),
        ("2026-11-27T21:54:29+0000", "2026-11-27T21:54:29+0000"),
        ("1 / 2", "1 / 2"),
        ("~teams", "~teams"),
        ("", ""),
    ],
)  # fmt: skip
def test_texts(text: str, told: str) -> None:
    assert without_places({"a": [text, 3, None]}) == {"a": [told, 3, None]}


def test_a_record_tells_no_place(tmp_path: Path, monkeypatch) -> None:
    """Of a run that refers to another; the run directory itself tells where that is."""
    home = tmp_path / "home" / "quirin"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    words = ["x/marl", "train", f"task={home}/t.py:f", f"directory={home}/run"]
    monkeypatch.setattr(sys, "argv", [f"{home}/bin/marl", *words[1:]])
    short = {"total_frames": 40, "absolute_episodes": 2}
    experiment(home / "earlier", "mpe/simple_tag", **short).run()
    opponents = {"agent": Team(algorithm=FrozenConfig(str(home / "earlier")))}
    run = experiment(home / "run", "mpe/simple_tag", teams=opponents, **short)
    run.run()
    (home / "run" / "random.json").write_text("{}\n")
    to = records.write(home / "run", tmp_path / "suite", Cell("tag", "mappo", 0))
    records.check(to)
    for path in to.iterdir():
        assert b"quirin" not in path.read_bytes() and b"/home" not in path.read_bytes(), path
    config = json.loads((to / "config.json").read_text())
    assert config["teams"]["agent"]["algorithm"]["checkpoint"] == "earlier"
    told = json.loads((to / "provenance.json").read_text())
    assert told["command"] == ["marl", "train", "task=t.py:f", "directory=run"]
    assert told["directory"] == "run"
    own = json.loads((home / "run" / "config.json").read_text())
    assert own["teams"]["agent"]["algorithm"]["checkpoint"] == str(home / "earlier")
    moved = tmp_path / "moved"
    home.rename(moved)
    assert cli(moved, "evaluate", "run", "--episodes", "2").code == 0


def test_a_record_without_places_is_the_same_bytes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in (*records.RESULTS, *records.ABOUT):
        (run / name).write_text(json.dumps({"a": [0.1, "mpe/x", 1e-9, None]}, indent=2) + "\n")
    (run / "timing.jsonl").touch()
    to = records.write(run, tmp_path / "suite", Cell("a", "b", 0))
    assert (to / "config.json").read_bytes() == (run / "config.json").read_bytes()


def test_a_suite_knows_its_record_again(tmp_path: Path) -> None:
    """Whose settings name a folder, which the record does not."""
    (tmp_path / "toy.yaml").write_text(
        "tasks: {walk: {teams.prey.frozen: /home/quirin/earlier}}\n"
        "algorithms: {mappo: {}}\nseeds: 1\n"
    )
    suite = read(tmp_path / "toy.yaml")
    (cell,) = suite.cells()
    path = recorded.record(tmp_path / "results", cell, {"team": 1.0}, learning=LEARNING,
                           settings={"absolute_episodes": 320})  # fmt: skip
    plan = Plan(suite, [cell], tmp_path / "runs", tmp_path / "results")
    for other, differs in (("earlier", False), ("later", True)):
        words = [word.replace("earlier", other) for word in plan.job(cell).words]
        command = without_places(["/x/marl", "train", *words, f"directory={tmp_path}"])
        recorded.rewrite(path / "provenance.json", lambda a, c=command: {**a, "command": c})
        assert bool(list(plan.problems())) == differs


# ------------------------------------------------------------------------------------------ commit


def git(where: Path, *words: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", *who, *words], cwd=where, capture_output=True, text=True, env=own)
    return done.stdout.strip()


def copied(repository: Path, inside: str = "") -> str:
    """The commit that a copy of the package tells which stands in a repository of its own."""
    folder = repository / inside / "marl" / "training"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    shutil.copyfile(provenance.__file__, folder / "provenance.py")
    git(repository, "init", "-q")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "theirs")
    return git(repository, "rev-parse", "HEAD")


def told(folder: Path, monkeypatch) -> str | None:
    monkeypatch.setattr(provenance, "__file__", str(folder / "marl/training/provenance.py"))
    return provenance.git_commit()


def test_the_commit_is_the_packages_own(tmp_path: Path, monkeypatch) -> None:
    installed = f"marl-groups {provenance.importlib.metadata.version('marl-groups')}"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "marl-groups"\n')
    commit = copied(tmp_path)
    assert told(tmp_path, monkeypatch) == commit
    (tmp_path / "marl" / "__init__.py").write_text("x = 1\n")
    assert told(tmp_path, monkeypatch) == f"{commit}+dirty"
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))  # as within a hook of another repository
    assert told(tmp_path, monkeypatch) == f"{commit}+dirty"
    monkeypatch.delenv("GIT_DIR")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "theirs"\n')
    assert told(tmp_path, monkeypatch) == installed


def test_a_surrounding_repository_is_not_the_packages(tmp_path: Path, monkeypatch) -> None:
    """A virtual environment within a user's repository, whose commit says nothing of marl."""
    inside = "venv/lib/site-packages"
    copied(tmp_path, inside)
    (tmp_path / inside / "pyproject.toml").write_text('[project]\nname = "marl-groups"\n')
    assert str(told(tmp_path / inside, monkeypatch)).startswith("marl-groups ")
    monkeypatch.setattr(provenance, "DISTRIBUTION", "nobody-installed-this")
    assert told(tmp_path / inside, monkeypatch) is None
