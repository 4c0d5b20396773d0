"""A disk that takes no more ends a run in one sentence, whenever, and nothing is lost."""

from __future__ import annotations

import errno
import os
import re
import resource
from pathlib import Path
from typing import Any

import pytest

from marl.cli import commands, listing
from marl.cli.main import main
from marl.errors import UserError
from marl.experiment import Experiment
from marl.utils.files import explain_errors, explanation
from tests.helpers.crashes import CLOCKS, Full, files, watching
from tests.helpers.experiments import WORDS, equal, experiment, outcome
from tests.helpers.processes import Child

NUMBERS = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than the system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied|no space is left",
}
TINY: dict[str, Any] = {"total_frames": 80, "absolute_episodes": 2, "video": False}


def train(directory: Path) -> None:
    """As the command line does, with random play before and a curve behind."""
    begun = (directory / "config.json").exists()
    commands.run(Experiment.load(directory) if begun else experiment(directory, **TINY))


def common(directory: Path) -> set[str]:
    return {n for n in files(directory) if n not in CLOCKS}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "run"
    train(directory)
    return directory


def operations(tmp_path: Path, monkeypatch) -> int:
    """How many there are in a run."""
    counting = Full(tmp_path, 10**9, 0)
    with watching(monkeypatch, counting.look):
        train(tmp_path / "run")
    return 10**9 - counting.left


@pytest.mark.parametrize("many", [8, pytest.param(10**6, marks=pytest.mark.slow)])
def test_one_sentence_at_any_moment(tmp_path: Path, monkeypatch, whole: Path, many: int) -> None:
    """From before there is a directory to the curve; freed, the run comes to the same."""
    total = operations(tmp_path / "counted", monkeypatch)
    assert total > 50
    every = -(-total // many)
    for k in range(0, total, every):
        number = list(NUMBERS)[k // every % len(NUMBERS)]
        directory = tmp_path / str(k) / "run"
        full = Full(directory.parent, k, number)
        with watching(monkeypatch, full.look), pytest.raises(UserError) as error:
            train(directory)
        assert f"cannot write to {str(directory)!r}: " in str(error.value)
        assert re.search(NUMBERS[number], str(error.value)) and "\n" not in str(error.value)
        assert ("marl resume" in str(error.value)) == (directory / "config.json").exists()
        train(directory)
        assert equal(outcome(directory), outcome(whole)) and common(directory) == common(whole), k
        assert (directory / "absolute.json").read_bytes() == (whole / "absolute.json").read_bytes()


def limited(words: list[str], size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    main(words)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(400, marks=pytest.mark.slow),
        3_000,
        pytest.param(20_000, marks=pytest.mark.slow),
    ],
)
def test_the_systems_limit_of_file_sizes(tmp_path: Path, size: int) -> None:
    """At the configuration, at a checkpoint, and at the curve."""
    words = [
        "train",
        "task=tests.helpers.toy_envs:identity",
        "video=false",
        *WORDS,
        "directory=run",
    ]
    result = Child(tmp_path, limited, words, size).wait()
    assert result.code == 2 and result.err.count("\n") == 1, result
    assert "marl: cannot write to 'run': a file would be larger than the system" in result.err
    assert "raise the limit, then" in result.err


def test_a_directory_within_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*: not a directory"):
        experiment(tmp_path / "file" / "run")


def test_errors_elsewhere_keep_their_traceback(tmp_path: Path) -> None:
    """Such as an environment's, on a file of its own."""
    for error in (PermissionError(errno.EACCES, "Permission denied", "/etc/shadow"),
                  FileNotFoundError(errno.ENOENT, "none", str(tmp_path / "x"))):  # fmt: skip
        with pytest.raises(type(error)), explain_errors(tmp_path):
            raise error


def test_other_commands_say_it_too(capsys, monkeypatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(listing, "names", full)
    with pytest.raises(SystemExit, match="2"):
        main(["list", "tasks"])
    assert capsys.readouterr().err == "marl: cannot write: no space is left; free some\n"
    error = FileExistsError(errno.EEXIST, "File exists", "file")  # mkdir, of a folder for results
    assert explanation(error).startswith("cannot write: file exists (file); ")
    assert explanation(FileNotFoundError(errno.ENOENT, "none", "x")) == ""
