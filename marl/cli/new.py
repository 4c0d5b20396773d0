"""The command ``marl new``: a folder with an environment, an algorithm and tests of one's own."""

from __future__ import annotations

import shlex
import shutil
from argparse import Namespace
from pathlib import Path

import marl
from marl.errors import UserError

PROJECT = Path(marl.__file__).parent / "templates" / "project"


def new(options: Namespace) -> int:
    """Runs ``marl new``: writes the folder and prints what to do in it.

    Returns:
        The exit code.
    """
    folder = Path(options.folder)
    create(folder)
    for path in sorted(folder.iterdir()):
        print(f"written  {path}")
    print(f"next     cd {shlex.quote(str(folder))}\n         python -m pytest")
    print("         marl train task=./environment.py:meeting total_frames=1e5")
    return 0


def create(folder: Path) -> None:
    """Copies the project's files into ``folder``.

    Raises:
        UserError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{str(folder)!r} exists and is not empty; choose another folder")
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(PROJECT, folder, ignore=ignore, dirs_exist_ok=True)
