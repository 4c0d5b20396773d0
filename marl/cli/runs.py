"""The command ``marl list runs``: what was trained, and how it went. Loads no torch."""

from __future__ import annotations

import json
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence

from marl.comparison import listing
from marl.comparison.discovery import runs_of
from marl.errors import UserError

FOLDER = "runs"  # where 'marl train' puts runs by default


def show(options: Namespace) -> int:
    """Runs ``marl list runs``.

    Returns:
        The exit code.
    """
    places, words = split(options.settings)
    rows, faults = listing.listed(runs_of(places), words)
    if options.json:
        print(json.dumps([listing.plain(row) for row in rows]))
    elif rows:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        print("\n".join(listing.lines(rows, width)))
    else:
        where = ", ".join(places)
        print(f"no run in {where} matches {' '.join(words)}" if words else f"none in {where}")
    for fault in faults:
        print(f"marl: left out: {fault}", file=sys.stderr)
    return 0


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the folders among the words, by default ``runs``, and the filters.

    Raises:
        UserError: no folder is named, and ``runs`` does not exist.
    """
    places = [word for word in words if os.path.isdir(word)]
    if not places and not os.path.isdir(FOLDER):
        raise UserError(
            f"there is no folder {FOLDER!r} here; go to where you trained, or name a folder: "
            "marl list runs FOLDER"
        )
    return places or [FOLDER], [word for word in words if word not in places]
