"""The files that follow from the records under ``results/``: writing them, and checking them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile, zip_longest
from pathlib import Path

from marl.benchmark import records
from marl.benchmark.suite import Suite
from marl.errors import UserError, unknown
from marl.tables import comparisons, document, export, page, plots, readme, scores, sections, text
from marl.tables.document import Block
from marl.tables.selection import Selection, select

# Plot -> the file that it is drawn from.
PLOT_DATA = {
    "scores.png": "summary.csv",
    "profiles.png": "profiles.csv",
    "improvement.png": "improvement.csv",
    "curves.png": "curves.csv",
}
WRITTEN = (
    "tables.md",
    "final.csv",
    *PLOT_DATA.values(),
    *PLOT_DATA,
    "marl_eval.json",
)  # in a suite


@dataclass(frozen=True)
class Published:
    """The generated files of a suite's folder.

    Attributes:
        selection: the runs that count.
        blocks: the document of ``tables.md``.
        summary: rows of the tables.
        texts: file -> its text.
        pictures: plot -> the text of its data.
    """

    selection: Selection
    blocks: Sequence[Block]
    summary: Sequence[scores.Summary]
    texts: dict[str, str]
    pictures: dict[str, str]

    def write(self, folder: Path, redraw: bool = False) -> list[Path]:
        """Writes the texts that differ, draws the plots whose data changed, and deletes files with
        nothing left to show.

        Args:
            folder: the suite's.
            redraw: whether to draw plots whose data is unchanged too.

        Returns:
            The files that changed.
        """
        changed = [path for name, text in self.texts.items() if _write(path := folder / name, text)]
        for name, csv in self.pictures.items():
            if redraw or plots.embedded_checksum(folder / name) != plots.checksum(csv):
                kind = name.removesuffix(".png")
                plots.draw(kind, csv, self.selection.algorithms, folder / name)
                changed.append(folder / name)
        for path in self.stale(folder):
            path.unlink()
            changed.append(path)
        return changed

    def stale(self, folder: Path) -> list[Path]:
        """Returns the existing files that the records do not give any more."""
        names = [name for name in WRITTEN if name not in (*self.texts, *self.pictures)]
        return [folder / name for name in names if (folder / name).exists()]

    def differences(self, folder: Path) -> Iterator[str]:
        """Yields a sentence for each file that is not what the records give."""
        for name, expected in self.texts.items():
            yield from difference(folder / name, expected)
        for name, csv in self.pictures.items():
            checksum = plots.embedded_checksum(folder / name)
            if checksum is None:
                yield f"{folder / name} is missing, or has no checksum of its data"
            elif checksum != plots.checksum(csv):
                yield f"{folder / name} was drawn from other data than that of {PLOT_DATA[name]}"
        for path in self.stale(folder):
            yield f"{path} exists, but there is nothing to show in it"


def folders(results: Path) -> list[Path]:
    """Returns the suites in ``results``, the folders with records.

    Raises:
        UserError: ``results`` does not exist.
    """
    if not results.is_dir():
        raise UserError(f"the results folder {str(results)!r} does not exist")
    return [
        path
        for path in sorted(results.iterdir())
        if path.name[0] != "." and any(records.find(path))
    ]


def chosen(results: Path, names: Sequence[str]) -> list[Path]:
    """Returns the folders of suites.

    Args:
        results: the folder of all suites.
        names: of the suites; empty for all.

    Raises:
        UserError: an unknown suite.
    """
    suites = folders(results)
    known = [path.name for path in suites]
    for name in names:
        if name not in known:
            raise unknown("suite", name, known, where=f" in {str(results)!r}")
    return [path for path in suites if not names or path.name in names]


def publish(folder: Path, suite: Suite | None) -> Published:
    """Returns the generated files of one suite.

    Args:
        folder: of its records.
        suite: its grid; None for the grid of the existing records.
    """
    selection = select(folder, suite)
    rows = scores.finals(selection)
    summary = [*scores.summaries(rows), *comparisons.aggregated(rows)]
    better = comparisons.improvements(rows)
    exported, notes = export.marl_eval(selection)
    texts = {
        "final.csv": text.table(scores.Final, rows),
        "summary.csv": text.table(scores.Summary, summary),
        "curves.csv": text.table(scores.Point, scores.curves(selection)),
        "profiles.csv": text.table(comparisons.Level, comparisons.profiles(rows)),
        "improvement.csv": text.table(comparisons.Improvement, better),
    }
    pictures = {name: texts[csv] for name, csv in PLOT_DATA.items() if _drawable(name, texts[csv])}
    blocks = sections.sections(selection, summary, pictures, [*comparisons.remarks(rows), *notes])
    texts = {"tables.md": document.markdown(blocks), **texts, "marl_eval.json": exported}
    return Published(selection, blocks, summary, texts, pictures)


def _drawable(name: str, csv: str) -> bool:
    rows = text.rows(csv)
    return any(row["task"] == "all" for row in rows) if name == "scores.png" else bool(rows)


def overview(results: Path, suites: Sequence[Published]) -> dict[Path, str]:
    """Returns the page and the README with its table between the marks, path -> text.

    Args:
        results: the folder of all suites, beside the README.
        suites: all of them.
    """
    texts: dict[Path, str] = {}
    if suites:
        parts = {each.selection.name: (each.selection, each.blocks) for each in suites}
        texts[results / "index.html"] = page.page(parts)
    path = results.absolute().parent / "README.md"
    if path.exists():
        marks = readme.marks(path.read_text())
        if marks is not None:
            shown = [(each.selection, each.summary) for each in suites]
            shown = [each for each in shown if marks.suite in ("", each[0].name)]
            texts[path] = marks.filled(readme.table(shown, results.name))
    return texts


def show_in_readme(results: Path, suite: str) -> None:
    """Makes the README beside the records show the table of one suite from now on.

    Raises:
        UserError: there is no such suite, or no README with marks.
    """
    known = [folder.name for folder in folders(results)]
    if suite not in known:
        raise unknown("suite", suite, known, where=f" in {str(results)!r}")
    path = results.absolute().parent / "README.md"
    marks = readme.marks(path.read_text()) if path.exists() else None
    if marks is None:
        raise UserError(
            f"{str(path)!r} has no place for a table; write {readme.BEGIN} and {readme.END} there, "
            "each on a line of its own"
        )
    path.write_text(replace(marks, suite=suite).filled(""))


def write_overview(results: Path, suites: Sequence[Published]) -> list[Path]:
    """Writes the page and the README's table.

    Args:
        results: the folder of all suites, beside the README.
        suites: all of them.

    Returns:
        The files that changed.
    """
    changed = [path for path, text in overview(results, suites).items() if _write(path, text)]
    if not suites and (results / "index.html").exists():
        (results / "index.html").unlink()
        changed.append(results / "index.html")
    return changed


def overview_differences(results: Path, suites: Sequence[Published]) -> Iterator[str]:
    """Yields a sentence for the page and the README where they are not what the records give.

    Args:
        results: the folder of all suites, beside the README.
        suites: all of them.
    """
    for path, expected in overview(results, suites).items():
        yield from difference(path, expected)
    if not suites and (results / "index.html").exists():
        yield f"{results / 'index.html'} exists, but there are no records"


def _write(path: Path, text: str) -> bool:
    """Writes a file unless it has this text already; returns whether it was written."""
    if path.exists() and path.read_bytes() == text.encode():
        return False
    path.write_bytes(text.encode())
    return True


def difference(path: Path, expected: str) -> Iterator[str]:
    """Yields a sentence on the first line in which a file is not as it should be.

    Args:
        path: the file.
        expected: its right text.
    """
    if not path.exists():
        yield f"{path} is missing"
        return
    actual = path.read_bytes().decode(errors="replace")
    if actual == expected:
        return
    lines = zip_longest(actual.split("\n"), expected.split("\n"))
    for number, (line, right) in enumerate(lines, 1):
        if line != right:
            pairs = zip(line or "", right or "", strict=False)
            start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            yield f"{path}, line {number}: {_cut(line, start)}, should be {_cut(right, start)}"
            return


def _cut(line: str | None, at: int) -> str:
    """Returns the part of a line around position ``at``."""
    if line is None:
        return "no line"
    start, end = max(0, at - 30), at + 60
    return repr("…" * (start > 0) + line[start:end] + "…" * (end < len(line)))
