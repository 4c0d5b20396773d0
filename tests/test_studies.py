"""``docs/studies/check.py`` finds what is out of date and what is too large."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from marl.benchmark.records import Cell
from tests.helpers import toy_records
from tests.helpers.processes import ROOT

STUDIES = ROOT / "docs" / "studies"


@pytest.fixture
def check(monkeypatch) -> Iterator[ModuleType]:
    """The script, imported as it is when it runs."""
    monkeypatch.syspath_prepend(str(STUDIES))
    spec = importlib.util.spec_from_file_location("check_studies", STUDIES / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("_common", None)


def test_a_number_that_no_data_give_and_a_missing_figure_are_found(
    check: ModuleType, tmp_path: Path
) -> None:
    folder = shutil.copytree(STUDIES / "climbing", tmp_path / "climbing")
    assert list(check.check(folder, write=False)) == []
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("7 in 20 of 20", "8 in 20 of 20"))
    (folder / "figure.png").unlink()
    table, figure = check.check(folder, write=False)
    assert "8 in 20 of 20" in table and "7 in 20 of 20" in table
    assert "figure.png is missing" in figure
    assert list(check.check(folder, write=True)) == []


def test_records_that_are_too_large_are_found(check: ModuleType, tmp_path: Path) -> None:
    cells = [Cell("walk", "mappo", seed) for seed in (0, 1)]
    first, second = (toy_records.record(tmp_path / "toy", cell, {"team": 1.0}) for cell in cells)
    for record in (first, second):
        for film in record.glob("video.*"):
            film.unlink()
    assert list(check.sizes(tmp_path)) == []
    (first / "video.mp4").write_bytes(b"0" * 301_000)
    (second / "video.mp4").write_bytes(b"0")
    (second / "absolute.json").write_bytes(os.urandom(44_500))
    film, record, cell = check.sizes(tmp_path)
    assert "seed_0/video.mp4: at most 300 kB" in film
    assert "seed_1: 4" in record and "at most 44 kB" in record
    assert "mappo: 2 videos, one is allowed" in cell
