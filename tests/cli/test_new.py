"""``marl new``: the project's own tests pass, and the commands in its first lines train."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from marl.cli import compose
from marl.cli.new import create, new
from marl.errors import UserError
from marl.utils.jsonl import read_jsonl

ROOT = Path(__file__).parents[2]
SHORT = "total_frames=100 num_envs=4 steps=25 evaluation_episodes=2 video=false directory=run"


def test_its_tests_pass_and_a_second_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my own"
    assert new(Namespace(folder=str(folder))) == 0
    assert f"cd '{folder}'" in capsys.readouterr().out
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tests = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True
    )
    assert tests.returncode == 0 and b"2 passed" in tests.stdout, tests.stdout.decode()
    with pytest.raises(UserError, match="exists and is not empty"):
        create(folder)


@pytest.mark.parametrize("name", ["environment.py", "algorithm.py", "callbacks.py"])
def test_the_command_of_the_first_line_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    create(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    first = (tmp_path / "mine" / name).read_text().splitlines()[0]
    match = re.fullmatch(r"# marl train (.*)", first)
    assert match
    words = [*match[1].replace("'", "").split(), *SHORT.split()]
    compose.build(compose.composed(words)).run()
    metrics = read_jsonl(Path("run/metrics.jsonl"))
    assert any("mine/reward_spread" in line for line in metrics) == (name == "callbacks.py")
