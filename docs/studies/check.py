"""Checks the studies against their data, and the records against their size rule.

usage: python docs/studies/check.py [STUDY ...]          says what differs; then the code is 1
       python docs/studies/check.py --write [STUDY ...]  writes tables and figures anew

A study is a folder with ``README.md``, ``data/`` and ``study.py``. The last defines ``tables()``,
which returns the Markdown of every table by its name (it stands in the README between
``<!-- table: NAME -->`` and ``<!-- end -->``), and ``panels()``, what ``figure.png`` shows. Nothing
here loads torch.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import _common

from marl.benchmark import records
from marl.tables import plots
from marl.tables.publish import difference

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "results"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
RECORD_KB, VIDEO_KB, POLICY_KB = 44, 300, 400  # results/README.md


def studies(names: list[str]) -> list[Path]:
    """Returns the folders of the studies of these names, or of all."""
    known = [path.parent for path in sorted(HERE.glob("*/study.py"))]
    if unknown := set(names) - {path.name for path in known}:
        sys.exit(f"check: no study {', '.join(sorted(unknown))}")
    return [path for path in known if not names or path.name in names]


def load(folder: Path) -> ModuleType:
    """Imports the ``study.py`` of a folder."""
    spec = importlib.util.spec_from_file_location(f"study_{folder.name}", folder / "study.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(folder: Path, write: bool) -> Iterator[str]:
    """Yields what is not as the study's data say; with ``write`` puts it right first."""
    study, readme, figure = load(folder), folder / "README.md", folder / "figure.png"
    tables, text = study.tables(), readme.read_text()
    if missing := set(tables) ^ {match[2] for match in TABLE.finditer(text)}:
        yield f"{readme}: no table, or no place, for {', '.join(sorted(missing))}"
        return
    whole = TABLE.sub(lambda match: match[1] + "\n" + tables[match[2]] + "\n" + match[3], text)
    panels = study.panels()
    if write:
        readme.write_text(whole)
        if plots.embedded_checksum(figure) != _common.checksum(panels):
            _common.draw(panels, figure)
    yield from difference(readme, whole)
    if plots.embedded_checksum(figure) != _common.checksum(panels):
        yield f"{figure} is missing, or was drawn from other data"


def sizes(results: Path) -> Iterator[str]:
    """Yields where records are larger than results/README.md allows."""
    for suite in filter(Path.is_dir, sorted(results.iterdir())):
        films: dict[Path, list[Path]] = {}
        for _, record in records.find(suite):
            files = sorted(path for path in record.iterdir() if path.is_file())
            videos = [path for path in files if path.stem == "video"]
            films.setdefault(record.parent, []).extend(videos)
            policies = [path for path in files if path.name == records.POLICY]
            texts = (path for path in files if path not in (*videos, *policies))
            if (size := sum(len(gzip.compress(path.read_bytes())) for path in texts)) > (
                1000 * RECORD_KB
            ):
                yield f"{record}: {size:,} bytes compressed, at most {RECORD_KB} kB are allowed"
            for path, most in (
                (p, VIDEO_KB if p in videos else POLICY_KB) for p in videos + policies
            ):
                if path.stat().st_size > 1000 * most:
                    yield f"{path}: at most {most} kB are allowed"
        for cell, videos in films.items():
            if len(videos) > 1:
                yield f"{cell}: {len(videos)} videos, one is allowed"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the studies and the sizes of records.")
    parser.add_argument("studies", nargs="*", metavar="STUDY")
    parser.add_argument("--write", action="store_true", help="write tables and figures anew")
    options = parser.parse_args()
    found = [line for path in studies(options.studies) for line in check(path, options.write)]
    if not options.studies:
        found += sizes(RESULTS)
    for line in found:
        print(f"check: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
