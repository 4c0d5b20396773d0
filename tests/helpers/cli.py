"""Calling ``marl`` inside the test's own process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from marl.cli.main import main
from tests.helpers.experiments import WORDS

TOY = ["task=tests.helpers.toy_envs:identity", *WORDS]
PLAIN = [word for word in TOY if not word.startswith("algorithm.")]


def called(capsys, *words: str) -> tuple[int, str, str]:
    """``marl words...`` in this process."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return int(end.value.code or 0), *capsys.readouterr()


def refused(capsys, folder: Path, words: list[str], said: str) -> None:
    """Exit code 2, one line, and nothing created."""
    code, _, err = called(capsys, *words)
    assert code == 2 and said in err, err
    assert err.startswith("marl: ") and err.count("\n") == 1, err
    assert os.listdir(folder) == []
