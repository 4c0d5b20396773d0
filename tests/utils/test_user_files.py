"""Import paths that are files: run once, found again from every folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from marl.envs.task import Task
from marl.errors import UserError
from marl.utils.serialization import any_class, from_plain, import_path, to_plain
from tests.helpers.processes import cli

MODULE = """
from __future__ import annotations

from dataclasses import dataclass, field

import beside_it
from marl import MAPPOConfig, Perceptron
from tests.helpers.toy_envs import rivals as task

loads = beside_it.count()


def left(group, seen):
    return seen.obs.new_zeros(seen.obs.shape[:2]).long()


@dataclass
class Config(MAPPOConfig):
    epochs: int = 1
    extra: dict[str, int] = field(default_factory=dict)


@dataclass
class Small(Perceptron):
    hidden: list[int] = field(default_factory=lambda: [4])
"""
BESIDE = """
made = 0

def count():
    global made
    made += 1
    return made
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "mine, é" / "deep"
    folder.mkdir(parents=True)
    (folder / "beside_it.py").write_text(BESIDE)
    (folder / "my_things.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "beside_it", raising=False)
    monkeypatch.chdir(folder.parent)
    return folder / "my_things.py"


def test_a_file_is_run_once_however_it_is_named(file: Path, monkeypatch) -> None:
    config = import_path("deep/my_things.py:Config")
    assert import_path(f"{file}:Config") is config
    assert import_path("./deep/../deep/my_things.py:Config") is config
    monkeypatch.chdir(file.parent)
    assert import_path("my_things.py:Config") is config
    assert import_path("my_things.py:loads") == 1
    monkeypatch.setenv("HOME", str(file.parent))
    assert import_path("~/my_things.py:Config") is config


def test_configurations_from_a_file_are_stored_with_it(file: Path, monkeypatch) -> None:
    config = import_path("deep/my_things.py:Config")(extra={"a": 1})
    plain = json.loads(json.dumps(to_plain(config)))
    assert plain["_type_"] == f"{file}:Config"
    monkeypatch.chdir("/")
    assert from_plain(plain, any_class) == config
    with pytest.raises(UserError, match="is not a configuration of this package"):
        from_plain(plain)


def test_a_task_keeps_where_its_file_is(file: Path, monkeypatch) -> None:
    task = Task("deep/my_things.py:task")
    assert task.name == f"{file}:task"
    assert Task("package.module:task").name == "package.module:task"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("deep/none.py:f", r"the file '.*/deep/none.py' to import from does not exist"),
        ("deep/my_things.py:none", "cannot import 'deep/my_things.py:none': .* has no 'none'"),
        ("deep/my_things.py:tusk", r"has no 'tusk'; did you mean 'task'\?"),
        ("deep/my_things.py:nothing", "has no 'nothing'; it has Config, "),
        ("no_env:chase", r"run this in the folder that has no_env\.py, or install it"),
        ("deep/my_things.py:", "is not an import path; expected .* or folder/file.py:name"),
        ("broken.py:f", r"cannot import 'broken.py:f': invalid syntax \(broken.py, line 1\)"),
        ("lacking.py:f", "cannot import 'lacking.py:f': no module named 'no_such_package'"),
    ],
)
def test_what_cannot_be_imported(file: Path, path: str, words: str) -> None:
    Path("broken.py").write_text("f = = 1\n")
    Path("lacking.py").write_text("import no_such_package\n")
    for _ in range(2):  # what failed is tried again
        with pytest.raises(UserError, match=words):
            import_path(path)


@pytest.mark.slow  # tests/training/test_run_directory.py moves the whole project
def test_a_run_of_files_resumes_from_another_folder(file: Path, tmp_path: Path) -> None:
    words = ["task=./my_things.py:task", "algorithm=./my_things.py:Config"]
    words += ["model=my_things.py:Small", "teams.right.algorithm=scripted"]
    words += ["teams.right.algorithm.function=./my_things.py:left"]
    short = ["num_envs=4", "steps=10", "evaluation_episodes=2", "video=false", "threads=1"]
    for frames, name in ((80, "run"), (160, "whole")):
        result = cli(file.parent, "train", *words, *short, f"total_frames={frames}",
                     f"directory={tmp_path / name}")  # fmt: skip
        assert result.code == 0, result
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    result = cli(elsewhere, "resume", "../run", "total_frames=160")
    assert result.code == 0, result
    one, other = (tmp_path / name / "evaluations.jsonl" for name in ("run", "whole"))
    assert one.read_text().splitlines()[-1] == other.read_text().splitlines()[-1]
    result = cli(elsewhere, "evaluate", "../run", "--episodes", "2")
    assert result.code == 0, result
    result = cli(file.parent, "train", "task=./my_things.py:task", *short, "total_frames=40")
    assert result.code == 0 and "runs/my_things_py_task-mappo-seed0" in result.out, result


def test_a_run_says_where_its_module_is(file: Path, tmp_path: Path) -> None:
    """A run's task that is no file is imported from the folder in which ``marl`` is called."""
    short = ["num_envs=4", "steps=10", "evaluation_episodes=2", "video=false", "total_frames=40"]
    task = "task=my_things:task"
    result = cli(file.parent, "train", task, *short, "threads=1", "directory=runs/one")
    assert result.code == 0, result
    provenance = file.parent / "runs" / "one" / "provenance.json"
    command = ["marl", "train", task, "directory=runs/one"]  # the test's child has another
    provenance.write_text(json.dumps({**json.loads(provenance.read_text()), "command": command}))
    for words in (["evaluate", "deep/runs/one"], ["resume", "deep/runs/one", "total_frames=80"]):
        result = cli(file.parent.parent, *words)
        assert result.code == 2 and result.err.count("\n") == 1, result
        assert "the folder that has my_things.py, or install it; the run" in result.err
        assert f"was made in '{file.parent}'" in result.err
