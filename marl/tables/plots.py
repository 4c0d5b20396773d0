"""The plots, drawn from the rows of the CSV files. Each carries the checksum of its data: it is up
to date if this is the checksum of its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marl.tables import text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, str]]
Colors = Mapping[str, str]  # algorithm -> colour, the same in all plots of a suite

KEY = "Data-SHA256"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F4FC9", "#8C6D31")
PALETTE += ("#4D4D4D", "#B22222", "#1B9E77", "#A6761D")
DPI = 120
GREY = "#777777"
# A curve's beginning is left out of the axis where it makes the axis this many times as high.
CLOSER = 10.0


def checksum(csv: str) -> str:
    """Returns the SHA-256 of the text of a CSV file."""
    return hashlib.sha256(csv.encode()).hexdigest()


def embedded_checksum(path: Path) -> str | None:
    """Returns the checksum of the data that a plot was drawn from; None where it has none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()  # a truncated file fails here
            return image.info.get(KEY)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError):
        return None


def draw(name: str, csv: str, algorithms: Sequence[str], path: Path, dpi: int = DPI) -> None:
    """Draws a plot.

    Args:
        name: of the plot, one of ``PLOTS``.
        csv: text of its CSV file.
        algorithms: those of the suite, in the order of their colours.
        path: the PNG file to write.
        dpi: dots of an inch.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colors = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(algorithms)}
    with plt.rc_context({
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "text.parse_math": False,  # a $ in a name is only a $
    }):  # fmt: skip
        figure = PLOTS[name](text.rows(csv), colors)
        if engine := figure.get_layout_engine():  # once; savefig would draw all for it, then again
            figure.set_dpi(dpi)
            engine.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(path, dpi=dpi, format="png", metadata={KEY: checksum(csv), "Software": None})
        plt.close(figure)


def _figure(
    count: int, size: tuple[float, float], max_columns: int = 3
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with ``count`` panels of ``size`` inches."""
    import matplotlib.pyplot as plt

    columns = min(max_columns, max(1, count))
    rows = -(-count // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(size[0] * columns, size[1] * rows + 0.4), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])


def _groups(rows: Rows, *keys: str) -> dict[tuple[str, ...], list[Mapping[str, str]]]:
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _numbers(rows: Rows, name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in rows])


def _label(rows: Rows) -> Callable[[Mapping[str, str]], str]:
    """Returns a function from a row to its algorithm's label, which names the version of learning
    where the rows have several. Rows of a comparison name it in the algorithm's own label."""
    several = len({row.get("learning") for row in rows}) > 1
    return lambda row: row["algorithm"] + f" (learning {row.get('learning')})" * several


def _title(words: Sequence[str], rows: Rows) -> str:
    """Returns a panel's task, with its team where the suite has several."""
    several = len({row["team"] for row in rows}) > 1
    return ", ".join(words if several else words[:-1])


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    handles: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if not handles:  # matplotlib leaves names that begin with _ out of legends
        return
    width = max(1.3, 0.6 + 0.08 * max(map(len, handles)))  # inches of the longest entry
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", frameon=False,
        ncols=max(1, min(int(figure.get_figwidth() / width), len(handles))),
    )  # fmt: skip


def curves(rows: Rows, colors: Colors) -> Figure:
    """Draws return against frames: interquartile mean over seeds, its interval, and random play.

    Args:
        rows: of the plot's CSV file.
        colors: of the algorithms.
    """
    return _curves(rows, colors, "frames")


def seconds(rows: Rows, colors: Colors) -> Figure:
    """Draws return against the seconds of a run, as ``curves`` does against frames.

    Args:
        rows: of the plot's CSV file, with a column ``seconds``.
        colors: of the algorithms.
    """
    return _curves([row for row in rows if row["seconds"]], colors, "seconds")


def _curves(rows: Rows, colors: Colors, x: str) -> Figure:
    """Draws return against the column ``x``."""
    panels, label = _groups(rows, "task", "team"), _label(rows)
    figure, grid = _figure(len(panels), (4.2, 3.1))
    for axes, (key, panel) in zip(grid, panels.items(), strict=True):
        unit, scale = _unit(panel, x)
        for (algorithm,), line in _groups(panel, "algorithm").items():
            places, color = _numbers(line, x) / scale, colors[algorithm]
            low, high = _numbers(line, "score_low"), _numbers(line, "score_high")
            axes.fill_between(places, low, high, color=color, alpha=0.18, linewidth=0)
            middle, name = _numbers(line, "score"), label(line[0])
            axes.plot(places, middle, color=color, label=name, linewidth=1.8)
        level = float(panel[0]["random"] or "nan")
        if np.isfinite(level):
            axes.axhline(level, color=GREY, linestyle=":", label="random play", linewidth=1.2)
        _look_closer(axes, panel, level, x)
        axes.set(xlabel=unit, ylabel="return")
        axes.set_title(_title(key, rows), fontsize=10)
        axes.grid(alpha=0.25)
        if x == "frames":
            _shorten_frames(axes)
    _legend(figure, grid)
    return figure


def _shorten_frames(axes: Axes) -> None:
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _unit(panel: Rows, x: str) -> tuple[str, float]:
    """Returns the unit of an axis, and its size: frames, or seconds, minutes or hours."""
    longest = 0.0 if x == "frames" else float(np.nanmax(_numbers(panel, x)))
    if longest < 300:
        return x, 1.0
    return ("minutes", 60.0) if longest < 10_000 else ("hours", 3600.0)


def _look_closer(axes: Axes, panel: Rows, random: float, x: str) -> None:
    """Leaves the first tenth of the axis and random play out of it, with a note, where they are so
    far below the rest that its curves would look alike."""
    frames, low = _numbers(panel, x), _numbers(panel, "score_low")
    high = float(np.nanmax(_numbers(panel, "score_high")))
    bottom = float(np.nanmin(low[frames > frames.max() / 10], initial=high))
    span, lowest = high - bottom, float(np.nanmin([*low, random]))
    if high - lowest <= CLOSER * span or span <= 0:
        return
    axes.set_ylim(bottom - 0.1 * span, high + 0.05 * span)
    note = f"begins lower; random play {random:,.4g}" if random < bottom else "begins lower"
    axes.text(0.98, 0.02, note, transform=axes.transAxes, ha="right", va="bottom", color=GREY)


def profiles(rows: Rows, colors: Colors) -> Figure:
    """Draws the share of runs above each normalised score.

    Args:
        rows: of the plot's CSV file.
        colors: of the algorithms.
    """
    panels, label = _groups(rows, "team"), _label(rows)
    figure, grid = _figure(len(panels), (5.2, 3.6))
    for axes, (key, panel) in zip(grid, panels.items(), strict=True):
        for (algorithm,), line in _groups(panel, "algorithm").items():
            taus, color = _numbers(line, "tau"), colors[algorithm]
            low, high = _numbers(line, "fraction_low"), _numbers(line, "fraction_high")
            axes.fill_between(taus, low, high, color=color, alpha=0.15, linewidth=0, step="mid")
            shares, name = _numbers(line, "fraction"), label(line[0])
            axes.step(taus, shares, color=color, label=name, linewidth=1.8, where="mid")
        axes.set(xlabel="normalised score τ", ylabel="share of runs above τ", ylim=(-0.02, 1.02))
        axes.set_title(key[0] if len(panels) > 1 else "", fontsize=10)
        axes.grid(alpha=0.25)
    _legend(figure, grid)
    return figure


def scores(rows: Rows, colors: Colors) -> Figure:
    """Draws normalised scores over all tasks with their intervals, of the best checkpoint and of
    the last policy.

    Args:
        rows: of the plot's CSV file.
        colors: of the algorithms.
    """
    rows = [row for row in rows if row["task"] == "all"]
    panels, label = _groups(rows, "team"), _label(rows)
    count = max(map(len, panels.values()))
    figure, grid = _figure(len(panels), (5.2, 0.7 + 0.36 * count))
    for axes, (key, panel) in zip(grid, panels.items(), strict=True):
        for i, row in enumerate(panel):
            color = colors[row["algorithm"]]
            for name, shift, fill in (("absolute", -0.13, color), ("final", 0.13, "white")):
                low, high = float(row[f"{name}_low"]), float(row[f"{name}_high"])
                axes.plot([low, high], [i + shift] * 2, color=color, linewidth=2.5, alpha=0.6)
                axes.plot(
                    float(row[name]),
                    i + shift,
                    "o",
                    color=color,
                    markerfacecolor=fill,
                    markersize=6,
                )
        axes.set_yticks(range(len(panel)), [label(row) for row in panel])
        axes.set_ylim(len(panel) - 0.5, -0.5)
        axes.set_xlabel("normalised score (full: absolute metric, hollow: final policy)")
        axes.set_title(key[0] if len(panels) > 1 else "", fontsize=10)
        axes.grid(alpha=0.25, axis="x")
    return figure


def improvement(rows: Rows, colors: Colors) -> Figure:
    """Draws the probability that the row's algorithm is better than the column's.

    Args:
        rows: of the plot's CSV file.
        colors: of the algorithms.
    """
    panels = _groups(rows, "team")
    names = [name for name in colors if any(name in (row["x"], row["y"]) for row in rows)]
    size = 1.3 + 0.78 * len(names)
    figure, grid = _figure(len(panels), (size + 1.1, size * 0.8))
    for axes, (key, panel) in zip(grid, panels.items(), strict=True):
        matrix = np.full((len(names), len(names)), np.nan)
        for row in panel:
            i, j = names.index(row["x"]), names.index(row["y"])
            matrix[i, j] = float(row["probability"])
            low, high = float(row["probability_low"]), float(row["probability_high"])
            label = f"{matrix[i, j]:.2f}\n[{low:.2f}, {high:.2f}]"
            color = "white" if abs(matrix[i, j] - 0.5) > 0.38 else "black"
            axes.text(j, i, label, ha="center", va="center", fontsize=7, color=color)
        image = axes.imshow(matrix, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
        labels = _versions(names, rows)
        axes.set_xticks(range(len(names)), labels, rotation=25, ha="right")
        axes.set_yticks(range(len(names)), labels)
        axes.set_title(f"P(row > column){', ' + key[0] if len(panels) > 1 else ''}", fontsize=10)
        figure.colorbar(image, ax=axes)
    return figure


def _versions(names: Sequence[str], rows: Rows) -> list[str]:
    """Returns the labels of compared algorithms, each of which has one version of learning."""
    sides = [{"algorithm": row["x"], "learning": row["learning"]} for row in rows]
    label, by_name = _label(sides), {side["algorithm"]: side for side in sides}
    return [label(by_name[name]) for name in names]


PLOTS: dict[str, Callable[[Rows, Colors], Figure]] = {
    "curves": curves,
    "seconds": seconds,
    "profiles": profiles,
    "improvement": improvement,
    "scores": scores,
}
