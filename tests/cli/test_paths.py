"""Paths on the command line hold any character, and other systems than Linux are told apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from marl.cli import compose, main
from marl.cli.overrides import overrides
from marl.cli.quoting import quoted, split_items
from marl.errors import UserError
from tests.helpers.cli import TOY, called, refused

HARD = [
    "runs/seed=0", "/tmp/été/run", "first (old)", "a[1]", "it's", 'say "no"', "a,b", "{x}", "~/run",
    "C:\\runs\\", "\\", "a\\'b", "1e3", "true", "null", "#1;&!", "'", "''a", "x='y'", " a ",
]  # fmt: skip


@pytest.mark.parametrize("path", HARD)
def test_directories_hold_any_character(path: str) -> None:
    assert compose.composed([*TOY, f"directory={path}"]).directory == path


@pytest.mark.parametrize("path", HARD)
def test_runs_of_opponents_hold_any_character(path: str) -> None:
    words = ["algorithm=frozen", f"algorithm.checkpoint={path}"]
    assert compose.composed([*TOY[:1], *words]).algorithm.checkpoint == str(Path(path).absolute())
    (team,) = [w for w in overrides([f"teams.red.frozen={path}"]) if "checkpoint" in w]
    assert team == f"teams.red.algorithm.checkpoint={quoted(path)}"


def test_lists_of_runs() -> None:
    def runs(value: str) -> list[str]:
        words = ["selfplay.share=0.5", f"selfplay.runs={value}"]
        paths = compose.composed([*TOY, *words]).selfplay.runs
        return [os.path.relpath(path) for path in paths]

    assert runs("[a=1,first (old),été]") == ["a=1", "first (old)", "été"]
    assert runs("""['a,b', "it's"]""") == ["a,b", "it's"]
    assert runs("[]") == []
    with pytest.raises(UserError, match=r"write selfplay\.runs=\[runs/a=1\]"):
        runs("runs/a=1")


def test_paths_in_quotes_stay_as_they_are() -> None:
    assert compose.composed([*TOY, "directory='a=b'"]).directory == "a=b"
    assert quoted("") == "" and quoted("runs/a-1.b_2") == "runs/a-1.b_2"
    assert split_items("a, 'b,c' ,d") == ["a", "'b,c'", "d"]


def test_commas_separate_the_runs_of_a_multirun() -> None:
    words = ["directory=a=1,b=2", "selfplay.runs=[a=1],[b=2,c]"]
    assert overrides(words, multirun=True) == [
        "directory='a=1','b=2'", "selfplay.runs=['a=1'],['b=2',c]"
    ]  # fmt: skip


def test_other_settings_are_told_to_be_quoted(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", *TOY, "wandb_name=a=b"]
    refused(capsys, tmp_path, words, "put the value in quotes: \"wandb_name='a=b'\"")
    assert compose.composed([*TOY, "wandb_name='a=b'"]).wandb_name == "a=b"


def test_run_directories_with_an_equals_sign(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*TOY, "total_frames=80", "video=false", "progress=false"]
    for path in ("seed=0", "été (old)"):
        assert called(capsys, "train", *words, f"directory={path}")[0] == 0
    assert called(capsys, "resume", "seed=0", "total_frames=120", "progress=false")[0] == 0
    code, out, _ = called(capsys, "evaluate", "seed=0", "--episodes", "2")
    assert code == 0 and "over 2 episodes" in out
    words = ["evaluate", "été (old)", "--versus", "seed=0", "--episodes", "2", "--out", "a=b"]
    _, options = main.parse(words)
    assert (options.versus, options.out, options.settings) == (["seed=0"], "a=b", [])


def test_settings_may_follow_flags() -> None:
    command, options = main.parse(["evaluate", "run", "--json", "task.x=1", "--video", "a=1.mp4"])
    assert (command, options.settings, options.video) == ("evaluate", ["task.x=1"], "a=1.mp4")


# ----------------------------------------------------------------------------------- other systems

WINDOWS = """
import os, signal, sys
for name in ("fcntl", "resource"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL"):
    delattr(signal, name)
del os.getuid
from marl.cli.main import main
main(sys.argv[1:])
"""


def windows(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``marl words...`` without what Windows does not have."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", WINDOWS, *words]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)


def test_windows_trains_but_runs_no_suites(capsys, tmp_path: Path, monkeypatch) -> None:
    trained = windows(tmp_path, "train", *TOY, "total_frames=40", "video=false", "directory=run")
    assert trained.returncode == 0, trained.stderr
    assert "keeps no locks" in trained.stderr
    monkeypatch.setattr(sys, "platform", "win32")
    for words in (["benchmark", "smoke"], ["sweep", "mappo"]):
        code, _, err = called(capsys, *words)
        assert code == 2 and "use Linux, macOS or WSL" in err
