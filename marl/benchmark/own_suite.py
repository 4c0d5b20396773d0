"""A user's suite beside its records: what the tables need of its file. Loads no torch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from marl.benchmark.records import BadRecord, read_json
from marl.benchmark.suite import Suite, parse
from marl.errors import UserError
from marl.utils.files import write_atomic
from marl.utils.places import without_places

FILE = "suite.json"  # in a suite's folder of records


def write(suite: Suite, results: Path) -> None:
    """Writes ``suite.json``: the suite's description, grid and best known returns.

    Args:
        suite: the suite.
        results: its folder of records, which is created.
    """
    content = {
        "about": suite.about,
        "settings": suite.settings,
        "tasks": suite.tasks,
        "algorithms": suite.algorithms,
        "cells": suite.pairs,
        "seeds": suite.seeds,
        "best": {
            task: {key: value for key, value in asdict(best).items() if value is not None}
            for task, best in suite.best.items()
        },
    }
    text = json.dumps(without_places(content), indent=1, default=str) + "\n"
    results.mkdir(parents=True, exist_ok=True)
    write_atomic(results / FILE, text.encode())


def read(folder: Path) -> Suite | None:
    """Returns the suite that ``suite.json`` holds; None where the folder has none.

    Args:
        folder: a suite's folder of records, which has its name.

    Raises:
        UserError: the file is not what ``write`` wrote.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return parse(folder.name, read_json(path))
    except (BadRecord, UserError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{str(path)!r} is not what marl benchmark writes ({error}); run marl benchmark with "
            "the suite's file again, or remove it"
        ) from None
