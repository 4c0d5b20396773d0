"""The folder in which a run was made, for errors of modules that are imported from there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marl.errors import UserError
from marl.utils.serialization import NotImportable


@contextmanager
def naming_origin(directory: Path) -> Iterator[None]:
    """Adds to the error of a module that does not exist here in which folder the run was made.

    Args:
        directory: directory of the run.
    """
    try:
        yield
    except NotImportable as error:
        folder = _origin(directory)
        made = f"; the run {str(directory)!r} was made in {str(folder)!r}" if folder else ""
        raise UserError(f"{error}{made}") from None


def _origin(directory: Path) -> Path | None:
    """Returns the working directory in which ``marl train`` made a run; None where its provenance
    does not tell."""
    try:
        provenance = json.loads((directory / "provenance.json").read_text())
        command, run = provenance["command"], Path(provenance["directory"])
        is_train = command[1] == "train"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    places = [str(word)[10:] for word in command if str(word).startswith("directory=")]
    relative = Path(places[-1]) if places else Path("runs", "NAME")
    depth = len(relative.parts)
    if not is_train or relative.is_absolute() or not 0 < depth <= len(run.parents):
        return None
    origin = run.parents[depth - 1]
    return origin if origin / relative.parent == run.parent else None
