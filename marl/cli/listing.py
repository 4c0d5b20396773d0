"""The command ``marl list``: names that settings accept, and runs. Loads torch for names only."""

from __future__ import annotations

import itertools
import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from marl.errors import UserError


def names(options: Namespace) -> int:
    """Runs ``marl list``: prints the names that settings accept, or the runs in a folder.

    Returns:
        The exit code.

    Raises:
        UserError: a filter or ``--json`` for anything but runs.
    """
    if options.what == "runs":
        from marl.cli.runs import show

        return show(options)
    if options.settings or options.json:
        word = options.settings[0] if options.settings else "--json"
        raise UserError(f"'marl list {options.what}' takes no {word!r}; only 'marl list runs' does")
    print("\n".join(_names(options.what)))
    return 0


def _names(what: str) -> Sequence[str]:
    """Returns the lines of a list of names."""
    from marl import configs
    from marl.cli import compose
    from marl.envs.task import task_names

    folder = Path(configs.__file__).parent
    if what == "tasks":
        return task_names()
    if what == "benchmarks":
        from marl.cli.benchmark import listed

        return listed()
    if what == "sweeps":
        from marl.cli.sweep import listed

        return listed()
    if what == "zoo":
        from marl.cli.zoo import listed

        return listed()
    if what == "experiments":
        return _experiments(folder / "experiment")
    kind = what.removesuffix("s")
    files = (path.stem for path in (folder / kind).glob("*.yaml"))
    return sorted({*compose.choices(kind), *files})


def _experiments(folder: Path) -> list[str]:
    """Returns the lines of ``marl list experiments``: names, and the first sentence of each file's
    comment."""
    files = sorted(folder.glob("*.yaml"))
    width = max(len(path.stem) for path in files)
    return [f"{path.stem:{width}}  {_about(path.read_text())}".rstrip() for path in files]


def _about(text: str) -> str:
    """Returns the first sentence of the comment at the beginning of a file of settings."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines if not line.startswith("# @"))
    return re.split(r"\.( (?=[A-Z])|$)", comment)[0]
