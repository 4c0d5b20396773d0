"""The files of a comparison: two pictures, two CSV files and a page that needs nothing else."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from marl.comparison.groups import Group
from marl.comparison.results import Final, Point
from marl.tables import document, page, plots, text
from marl.tables.document import code, escaped

PICTURES = {
    "curves.png": "Evaluated return over frames",
    "seconds.png": "The same over the time of training and evaluating, on the machines of the runs",
}
COLUMNS = ("runs", "seeds", "final return", "frames", "time", "frames/s", "random play")
DPI = 200
VIDEO_BYTES = 40_000_000  # of all films in the page together
ABOUT = (
    "Interquartile means over seeds with 95% bootstrap intervals, of the mean returns of "
    "evaluations, by <code>marl compare</code>. One seed has no interval; fewer than five are "
    "preliminary. Bold are the best final return and those whose interval reaches it."
)


@dataclass(frozen=True)
class Comparison:
    """What a comparison found."""

    groups: Sequence[Group]
    points: Sequence[Point]
    finals: Sequence[Final]
    #: Sentences on what was left out, and on what is averaged.
    remarks: Sequence[str]


def cells(row: Final) -> list[str]:
    """Returns a row of the table in ``COLUMNS``."""
    return [
        row.group, text.seed_count(row.seeds), text.interval(row.final, row.seeds),
        f"{row.frames:,}", "" if math.isnan(row.hours) else text.duration(3600 * row.hours),
        "" if math.isnan(row.frames_per_second) else f"{row.frames_per_second:,.0f}",
        text.number(row.random),
    ]  # fmt: skip


def sections(finals: Sequence[Final]) -> dict[str, list[Final]]:
    """Returns the rows by their table's title: the task, with the team where a task has several."""
    tasks: dict[str, list[str]] = {}
    for row in finals:
        tasks.setdefault(row.task, []).append(row.team)
    tables: dict[str, list[Final]] = {}
    for row in finals:
        several = len(set(tasks[row.task])) > 1
        tables.setdefault(row.task + f", team {row.team}" * several, []).append(row)
    return tables


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes ``curves.csv``, ``final.csv``, the pictures and ``index.html``.

    Args:
        comparison: what to write.
        folder: where, created if it does not exist; files of these names are replaced.

    Returns:
        The files, the page first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    csv = text.table(Point, comparison.points)
    (folder / "curves.csv").write_text(csv)
    (folder / "final.csv").write_text(text.table(Final, comparison.finals))
    labels = list(dict.fromkeys(group.label for group in comparison.groups))
    plots.draw("curves", csv, labels, folder / "curves.png", DPI)
    (folder / "seconds.png").unlink(missing_ok=True)
    if any(not math.isnan(point.seconds) for point in comparison.points):
        plots.draw("seconds", csv, labels, folder / "seconds.png", DPI)
    (folder / "index.html").write_text(html_page(comparison, folder))
    names = ("index.html", *PICTURES, "final.csv", "curves.csv")
    return [folder / name for name in names if (folder / name).exists()]


# ---------------------------------------------------------------------------------------- the page


def html_page(comparison: Comparison, folder: Path) -> str:
    """Returns the page, with the pictures and films inside it.

    Args:
        comparison: what to show.
        folder: of the pictures.
    """
    parts = [
        _section("curves", "Curves", list(_pictures(comparison, folder))),
        _section("returns", "Final returns", list(_tables(comparison.finals))),
        _section("videos", "Videos", list(_videos(comparison.groups))),
        _section("remarks", "Remarks", _remarks(comparison.remarks)),
        _section("runs", "Runs", [document.page([_runs(comparison.groups)])]),
    ]
    shown = [part for part in parts if part]
    links = "".join(link for link, _ in shown)
    return page.frame("Comparison of runs", ABOUT, links, "\n".join(body for _, body in shown))


def _section(anchor: str, title: str, parts: Sequence[str]) -> tuple[str, str] | None:
    """Returns the link to a section and its HTML; None where it is empty."""
    if not parts:
        return None
    body = "\n".join([f'<section id="{anchor}">', f"<h1>{title}</h1>", *parts, "</section>"])
    return f'<a href="#{anchor}">{title}</a>', body


def _pictures(comparison: Comparison, folder: Path) -> Iterator[str]:
    """Yields the pictures, beside each other where they are narrow."""
    panels = {(point.task, point.team) for point in comparison.points}
    yield '<div class="plots">' if len(panels) < 3 else '<div class="plots" style="display: block">'
    for name, about in PICTURES.items():
        if (folder / name).exists():
            image = f'<img src="{_inside(folder / name, "image/png")}" alt="{about}">'
            yield f"<figure>{image}<figcaption>{about}.</figcaption></figure>"
    yield "</div>"


def _inside(path: Path, kind: str) -> str:
    """Returns the content of a file as an address."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _tables(finals: Sequence[Final]) -> Iterator[str]:
    for title, rows in sections(finals).items():
        body = [[escaped(cell) for cell in cells(row)] for row in rows]
        for line, row in zip(body, rows, strict=True):
            if len(rows) > 1 and row.final.high >= rows[0].final.value:
                line[2] = f"**{line[2]}**"
        blocks = [document.Heading(escaped(title)), document.Table(COLUMNS, body)]
        yield document.page(blocks)


def _videos(groups: Sequence[Group]) -> Iterator[str]:
    """Yields the films: of each group that of its first seed with one, up to ``VIDEO_BYTES``."""
    left, figures = VIDEO_BYTES, []
    for group in groups:
        films = [(run.run, run.video) for run in group.runs if run.video]
        if films and (size := films[0][1].stat().st_size) <= left:  # type: ignore[union-attr]
            left -= size
            run, path = films[0]
            about = html.escape(f"{group.task}, {group.label}, seed {run.seed}")
            source = _inside(path, "video/mp4")  # type: ignore[arg-type]
            shown = f'<video src="{source}" controls loop muted></video>'
            figures.append(f"<figure>{shown}<figcaption>{about}</figcaption></figure>")
    if figures:
        yield "\n".join(['<div class="videos">', *figures, "</div>"])


def _remarks(remarks: Sequence[str]) -> list[str]:
    items = document.Items([escaped(remark) for remark in remarks])
    return [document.page([items])] if remarks else []


def _runs(groups: Sequence[Group]) -> document.Table:
    rows = [
        [
            escaped(group.task), escaped(group.label), str(run.run.seed), run.run.state,
            code(str(run.run.directory)), code(run.code[0][:12]), _settings(group),
        ]
        for group in groups
        for run in group.runs
    ]  # fmt: skip
    columns = ("task", "runs", "seed", "state", "directory", "commit", "differs in")
    return document.Table(columns, rows, len(columns))


def _settings(group: Group) -> str:
    """Returns the settings in which groups of the task differ, in full."""
    words = " ".join(f"{key}={value}" for key, value in sorted(group.differing.items()))
    return code(words) if words else ""
