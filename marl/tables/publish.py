"""Which files follow from the records under ``results/``, and whether they are what is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from pathlib import Path

from marl.benchmark import records
from marl.benchmark.suite import Suite
from marl.errors import UserError, unknown
from marl.tables import comparisons, document, export, page, plots, readme, scores, sections, text
from marl.tables.document import Block
from marl.tables.selection import Selection, select

# Picture -> the file that it is drawn from.
DRAWN = {
    "scores.png": "summary.csv",
    "profiles.png": "profiles.csv",
    "improvement.png": "improvement.csv",
    "curves.png": "curves.csv",
}
WRITTEN = ("tables.md", "final.csv", *DRAWN.values(), *DRAWN, "marl_eval.json")  # in a suite


@dataclass(frozen=True)
class Published:
    """What a suite's folder should hold."""

    selection: Selection
    blocks: Sequence[Block]
    summary: Sequence[scores.Summary]
    texts: dict[str, str]  # by their names
    pictures: dict[str, str]  # name -> the text of the data

    def write(self, folder: Path, redraw: bool = False) -> list[Path]:
        """Writes what differs, draws what has other data, and takes away what is no more; the files
        that changed."""
        changed = [path for name, told in self.texts.items() if _write(path := folder / name, told)]
        for name, csv in self.pictures.items():
            if redraw or plots.carried(folder / name) != plots.checksum(csv):
                kind = name.removesuffix(".png")
                plots.draw(kind, csv, self.selection.algorithms, folder / name)
                changed.append(folder / name)
        for path in self.stale(folder):
            path.unlink()
            changed.append(path)
        return changed

    def stale(self, folder: Path) -> list[Path]:
        names = [name for name in WRITTEN if name not in (*self.texts, *self.pictures)]
        return [folder / name for name in names if (folder / name).exists()]

    def differences(self, folder: Path) -> Iterator[str]:
        for name, told in self.texts.items():
            yield from difference(folder / name, told)
        for name, csv in self.pictures.items():
            there = plots.carried(folder / name)
            if there is None:
                yield f"{folder / name} is missing, or tells no checksum of its data"
            elif there != plots.checksum(csv):
                yield f"{folder / name} was drawn from other data than {DRAWN[name]} should hold"
        for path in self.stale(folder):
            yield f"{path} is there, but nothing is left to show in it"


def folders(results: Path) -> list[Path]:
    """The suites: folders with records. Others are somebody else's."""
    if not results.is_dir():
        raise UserError(f"there is no folder {str(results)!r} of results")
    return [
        path
        for path in sorted(results.iterdir())
        if path.name[0] != "." and any(records.find(path))
    ]


def chosen(results: Path, names: Sequence[str]) -> list[Path]:
    """The suites of these names, or all."""
    there = folders(results)
    known = [path.name for path in there]
    for name in names:
        if name not in known:
            raise unknown("suite", name, known, where=f" in {str(results)!r}")
    return [path for path in there if not names or path.name in names]


def publish(folder: Path, suite: Suite | None) -> Published:
    """What follows from the records of one suite."""
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
    drawn = {name: texts[csv] for name, csv in DRAWN.items() if _drawable(name, texts[csv])}
    blocks = sections.sections(selection, summary, drawn, [*comparisons.remarks(rows), *notes])
    texts = {"tables.md": document.markdown(blocks), **texts, "marl_eval.json": exported}
    return Published(selection, blocks, summary, texts, drawn)


def _drawable(name: str, csv: str) -> bool:
    rows = text.rows(csv)
    return any(row["task"] == "all" for row in rows) if name == "scores.png" else bool(rows)


def overview(results: Path, suites: Sequence[Published]) -> dict[Path, str]:
    """The page and the README, whose table stands between its marks."""
    told: dict[Path, str] = {}
    if suites:
        parts = {each.selection.name: (each.selection, each.blocks) for each in suites}
        told[results / "index.html"] = page.page(parts)
    path = results.absolute().parent / "README.md"
    if path.exists():
        block = readme.table([(each.selection, each.summary) for each in suites], results.name)
        if (whole := readme.inserted(path.read_text(), block)) is not None:
            told[path] = whole
    return told


def write_overview(results: Path, suites: Sequence[Published]) -> list[Path]:
    changed = [path for path, told in overview(results, suites).items() if _write(path, told)]
    if not suites and (results / "index.html").exists():
        (results / "index.html").unlink()
        changed.append(results / "index.html")
    return changed


def overview_differences(results: Path, suites: Sequence[Published]) -> Iterator[str]:
    for path, told in overview(results, suites).items():
        yield from difference(path, told)
    if not suites and (results / "index.html").exists():
        yield f"{results / 'index.html'} is there, but there are no records"


def _write(path: Path, told: str) -> bool:
    if path.exists() and path.read_bytes() == told.encode():
        return False
    path.write_bytes(told.encode())
    return True


def difference(path: Path, told: str) -> Iterator[str]:
    """Where a file is other than it should be: its first line that differs."""
    if not path.exists():
        yield f"{path} is missing"
        return
    there = path.read_bytes().decode(errors="replace")
    if there == told:
        return
    lines = zip_longest(there.split("\n"), told.split("\n"))
    for number, (mine, wanted) in enumerate(lines, 1):
        if mine != wanted:
            pairs = zip(mine or "", wanted or "", strict=False)
            start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            yield f"{path}, line {number}: {_cut(mine, start)}, should be {_cut(wanted, start)}"
            return


def _cut(line: str | None, at: int) -> str:
    """The line around a place, where it is long."""
    if line is None:
        return "no line"
    start, end = max(0, at - 30), at + 60
    return repr("…" * (start > 0) + line[start:end] + "…" * (end < len(line)))
