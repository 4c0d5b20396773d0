"""What the studies share: their data, how numbers are written, tables, and figures.

A figure is a list of panels, which are plain data. Its PNG carries the checksum of that data, so
that a check needs to draw nothing and does not depend on the version of matplotlib.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marl.tables import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """One curve of a panel.

    Attributes:
        x: positions on the horizontal axis.
        y: values, as many as ``x``.
        label: its name in the legend; curves of one name share their color.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str


@dataclass(frozen=True)
class Lines:
    """A panel of curves; ``level`` is a dotted horizontal line."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    level: float | None = None


@dataclass(frozen=True)
class Bars:
    """A panel of means as bars, with every run as a dot.

    Attributes:
        names: labels of the groups of bars.
        values: label of a bar -> for each group the values of its runs.
    """

    title: str
    y_label: str
    names: Sequence[str]
    values: Mapping[str, Sequence[Sequence[float]]]
    x_label: str = ""


@dataclass(frozen=True)
class Matrix:
    """A panel of a matrix, with its numbers written into it where ``digits`` is given."""

    title: str
    values: Sequence[Sequence[float]]
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    x_label: str = ""
    y_label: str = ""
    digits: int | None = None
    limits: tuple[float, float] | None = None


Panel = Lines | Bars | Matrix


def read(study: str, name: str) -> list[Row]:
    """Returns the lines of ``data/<name>.jsonl`` of a study."""
    path = Path(__file__).with_name(study) / "data" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def group(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Returns the rows by the values of their ``keys``, in the order of their first appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def means(rows: Iterable[Row], key: str, scale: float = 1.0) -> list[float]:
    """Returns each run's mean over its episodes, times ``scale``."""
    return [scale * statistics.fmean(row[key]) for row in rows]


def standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5


def mean_error(values: Sequence[float], digits: int = 1) -> str:
    """Returns the mean and, of two or more values, its standard error."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {standard_error(values):.{digits}f}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def checksum(panels: Sequence[Panel]) -> str:
    return plots.checksum(json.dumps([asdict(panel) for panel in panels]))


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draws the panels in rows of up to four, with a legend for all curves below them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    labels = dict.fromkeys(
        line.label for panel in panels if isinstance(panel, Lines) for line in panel.lines
    )
    colors = {
        label: plots.PALETTE[i % len(plots.PALETTE)] for i, label in enumerate(filter(None, labels))
    }
    count = len(panels)
    columns = 2 if count == 4 else 4 if count % 4 == 0 else min(3, count)
    rows = -(-count // columns)
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, grid = plt.subplots(
            rows, columns, figsize=(4.2 * columns, 3.1 * rows + 0.3), squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw_panel(axes, panel, colors)
        if colors:
            handles = [Line2D([], [], color=color) for color in colors.values()]
            figure.legend(
                handles, list(colors), loc="outside lower center", frameon=False,
                ncols=min(2 * columns, len(colors)),
            )  # fmt: skip
        metadata = {plots.KEY: checksum(panels), "Software": None}
        figure.savefig(path, dpi=110, format="png", metadata=metadata)
        plt.close(figure)


def _draw_panel(axes: Axes, panel: Panel, colors: dict[str, str]) -> None:
    axes.set_title(panel.title, fontsize=10)
    if isinstance(panel, Lines):
        _draw_lines(axes, panel, colors)
    elif isinstance(panel, Bars):
        _draw_bars(axes, panel)
    else:
        _draw_matrix(axes, panel)


def _draw_lines(axes: Axes, panel: Lines, colors: dict[str, str]) -> None:
    for line in panel.lines:
        marker = "o" if len(line.x) < 12 else ""
        axes.plot(
            line.x, line.y, color=colors[line.label], linewidth=1.3, marker=marker, markersize=3
        )
    if panel.level is not None:
        axes.axhline(panel.level, color="black", linewidth=0.7, linestyle=":")
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)


def _draw_bars(axes: Axes, panel: Bars) -> None:
    width = 0.8 / len(panel.values)
    for i, (label, groups) in enumerate(panel.values.items()):
        for x, values in enumerate(groups):
            place = x + (i - (len(panel.values) - 1) / 2) * width
            axes.bar(
                place, statistics.fmean(values), width * 0.95, color=plots.PALETTE[i],
                label=label if x == 0 else None,
            )  # fmt: skip
            axes.scatter([place] * len(values), values, s=12, color="black", zorder=3)
    axes.set_xticks(range(len(panel.names)), panel.names, fontsize=7)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if len(panel.values) > 1:
        axes.legend(fontsize=8, framealpha=0.9)


def _draw_matrix(axes: Axes, panel: Matrix) -> None:
    low, high = panel.limits or (None, None)
    axes.imshow(panel.values, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    axes.set_xticks(range(len(panel.columns)), panel.columns, fontsize=7)
    axes.set_yticks(range(len(panel.rows)), panel.rows, fontsize=7)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.digits is None:
        return
    numbers = [value for row in panel.values for value in row]
    middle = (min(numbers) + max(numbers)) / 2
    for i, row in enumerate(panel.values):
        for j, value in enumerate(row):
            color = "white" if value > middle else "black"
            written = f"{value:.{panel.digits}f}"
            axes.text(j, i, written, ha="center", va="center", fontsize=7, color=color)
