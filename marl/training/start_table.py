"""What a run begins with, as a table and for its provenance (``Settings.start_from``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marl.training.fitting import Difference, Fit, is_optimizer


@dataclass
class Start:
    """What a run begins with."""

    #: The earlier run, or its checkpoint file; empty for new weights.
    run: str = ""
    #: How each part of each team fits, by team and part.
    fits: dict[str, dict[str, Fit]] = field(default_factory=dict)
    #: By team, for provenance: ``run``, ``team`` there, ``checkpoint``, ``frames`` and
    #: ``fingerprint``.
    origin: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: The settings of a team that shape weights and differ from the run's, as text, by team.
    differing: dict[str, list[str]] = field(default_factory=dict)
    #: What a user should know besides.
    notes: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Returns what is loaded and what is not, as lines of text; empty without a run."""
        if not self.run:
            return ""
        lines = [("team", "part", "tensor", "in the run", "here", "")]
        for team, parts in self.fits.items():
            for part, fit in parts.items():
                name = part
                if is_optimizer(fit.state) and "optimizer" not in part:  # such as actor_0
                    name = f"{part}_optimizer"
                cells = _cells(fit)[: 1 if self.differing.get(team) else None]  # else the cause
                lines += [(team, name, *row) for row in cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        sources = [
            f"start    {name}: {_place(origin)}, team {origin['team']!r} "
            f"({origin['frames']:,} frames)"
            for name, origin in self.origin.items()
        ]
        causes = [
            f"  {team}: {', and '.join(settings)}; make them alike to load all"
            for team, settings in self.differing.items()
            if settings and any(fit.differences for fit in self.fits[team].values())
        ]
        return "\n".join([*sources, *(f"  {row}" for row in rows), *causes, *self.notes])

    def print_table(self) -> None:
        """Prints ``table``."""
        if self.run:
            print(self.table(), flush=True)


def _place(origin: Mapping[str, Any]) -> str:
    """Returns the checkpoint's path from the working directory."""
    folder = "checkpoints" if origin["checkpoint"].endswith(".pt") else ""
    return os.path.relpath(Path(origin["run"], folder, origin["checkpoint"]))


def _cells(fit: Fit) -> list[tuple[str, str, str, str]]:
    """Returns the rows of one part: tensor, both shapes, and what becomes of it."""
    if fit.complete and not fit.differences:
        return [(_count(fit.tensors), "", "", "loaded")]
    if fit.differences and not fit.loaded and all(d.there is None for d in fit.differences):
        return [(_count(fit.tensors), "", "", "missing in the run; begins anew")]
    rows = [
        (d.tensor or "(itself)", shape_text(d.there), shape_text(d.here), _why(d))
        for d in fit.differences
    ]
    words = f"{fit.loaded} of {fit.tensors} loaded" if fit.loaded else "begins anew"
    return [(_count(fit.tensors), "", "", words), *rows]


def _count(tensors: int) -> str:
    return f"{tensors} tensor{'s' if tensors != 1 else ''}"


def shape_text(shape: Sequence[int] | None) -> str:
    """Returns a shape as ``[64, 18]``, or ``missing`` for None."""
    return "missing" if shape is None else str(list(shape))


def _why(difference: Difference) -> str:
    if difference.there is None:
        return "missing in the run"
    return "not used here" if difference.here is None else "shape differs"
