"""Numbers that no move of code may change, and runs of older versions that must go on."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from marl.benchmark import records
from tests.golden import golden, older_runs

GOLDEN = json.loads(golden.HASHES.read_text())
SAME_PLATFORM = GOLDEN["platform"] == golden.platform_of()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    golden.train(folder)
    return folder


@pytest.mark.parametrize("name", golden.RUNS)
def test_golden_run_is_the_same(trained: Path, name: str) -> None:
    """Bit by bit where torch, numpy and the kind of machine are those that the hashes were made
    with; elsewhere to a part in a hundred."""
    measured, expected = golden.measure(trained / name), GOLDEN["runs"][name]
    if SAME_PLATFORM:
        assert measured == expected
    else:
        assert measured["returns"] == pytest.approx(expected["returns"], rel=1e-2, abs=1e-2)


def test_weights_are_hashed_whatever_their_names(trained: Path) -> None:
    assert len({run["weights"] for run in GOLDEN["runs"].values()}) == len(GOLDEN["runs"])
    assert golden.weights(trained / "mappo") != golden.weights(trained / "happo")


OLDER = sorted(path for path in older_runs.FOLDER.glob("*/*") if path.is_dir())


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """Copies of all older runs, each evaluated and then resumed to its end."""
    folder = tmp_path_factory.mktemp("older")
    names = {path: f"{path.parent.name}-{path.name}" for path in OLDER}
    for path, name in names.items():
        shutil.copytree(path, folder / name)
    evaluate = [older_runs.evaluate_words(name) for name in names.values()]
    resume = [["resume", name] for name in names.values()]
    said = golden.marl([*evaluate, *resume], folder).splitlines()
    evaluated = map(json.loads, said[: len(names)])
    return folder, dict(zip(names.values(), evaluated, strict=True))


def test_there_are_older_runs() -> None:
    assert {path.name for path in OLDER} >= {"tag", "coordination", "speaker_listener"}


@pytest.mark.parametrize("older", OLDER, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_older_run_evaluates_as_it_did(resumed, older: Path) -> None:
    _, evaluated = resumed
    expected = json.loads((older / "expected/evaluated.json").read_text())
    found = evaluated[f"{older.parent.name}-{older.name}"]
    assert without_path(found) == close_to(without_path(expected))


@pytest.mark.parametrize("older", OLDER, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_older_run_resumes_to_the_same_end(resumed, older: Path) -> None:
    folder, _ = resumed
    for name in older_runs.EXPECTED:
        expected = (older / "expected" / name).read_text()
        found = (folder / f"{older.parent.name}-{older.name}" / name).read_text()
        if SAME_PLATFORM:
            assert found == expected, name
        else:
            assert len(found.splitlines()) == len(expected.splitlines())


def test_older_runs_tabulate(resumed, tmp_path: Path) -> None:
    folder, _ = resumed
    suite = tmp_path / "results/older"
    for older in OLDER:
        run = folder / f"{older.parent.name}-{older.name}"
        cell = records.Cell(older.name, older.parent.name, 5)
        records.check(records.write(run, suite, cell))
    golden.marl([["tables", "--results", str(tmp_path / "results")]], tmp_path)
    table = (suite / "tables.md").read_text()
    assert all(older.name in table for older in OLDER) and "format_1" in table


def without_path(evaluated: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in evaluated.items() if name != "checkpoint"}


def close_to(value: Any) -> Any:
    """``value`` to be compared with: exactly on the platform that made it."""
    if SAME_PLATFORM or not isinstance(value, dict | list | float):
        return value
    if isinstance(value, dict):
        return {name: close_to(part) for name, part in value.items()}
    if isinstance(value, list):
        return [close_to(part) for part in value]
    return pytest.approx(value, rel=1e-2, abs=1e-2) if math.isfinite(value) else value
