"""A record that cannot be read is left out and named; the tables of all others are the same."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marl.benchmark.records import Cell
from marl.cli.main import main
from marl.tables import page
from marl.tables.publish import publish
from tests.helpers import toy_records as recorded
from tests.helpers.cli import called

RESULTS = ("config.json", "absolute.json", "random.json", "evaluations.jsonl", "clock.json",
           "provenance.json")  # fmt: skip
NAMES = ("config", "absolute", "random", "clock", "provenance")
DEEP = "[" * 100_000 + "]" * 100_000
# JSON values of every type, each of which some reader once expected to be another.
VALUES = ("null", "true", "-1", "1e999", "1" + "0" * 400, '"x"', '"\\ud800"', "[]", "[[]]", "{}",
          '{"a": []}', '["team"]', DEEP, "[" * 90 + "]" * 90, "NaN")  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A good suite, and one of two good records beside which bad ones are put."""
    folder = tmp_path / "results"
    for name in ("good", "toy"):
        recorded.suite(folder / name, recorded.grid("walk", "mappo", 2), lambda c, _: 5.0 + c.seed)
    return folder


def bad(results: Path, file: str, text: str | bytes) -> Path:
    """Another record of the suite, in which a file is another."""
    cell = Cell("walk", "mappo", 2)
    path = results / "toy" / cell.folder
    shutil.rmtree(path, ignore_errors=True)
    recorded.record(results / "toy", cell, {"team": 9.0})
    (path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    recorded.resumed(path)
    return path


def left_out(capsys, results: Path, good: bytes) -> str:
    """What is said of the one that is left out."""
    code, _, err = called(capsys, "tables", "--results", str(results))
    assert code == 0, err
    table = (results / "toy" / "final.csv").read_bytes()
    assert table == good
    told = [line for line in err.splitlines() if line.startswith("left out walk mappo seed 2: ")]
    assert len(told) == 1, err
    assert "walk mappo seed 2: " in (results / "toy" / "tables.md").read_text()
    return told[0]


@pytest.fixture
def good(capsys, results: Path) -> bytes:
    assert called(capsys, "tables", "--results", str(results))[0] == 0
    return (results / "toy" / "final.csv").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_json(capsys, results: Path, good: bytes, name: str) -> None:
    for value in ("", "{", *VALUES):
        if name != "provenance" or value[:1] != "{" or value == "{":  # which may hold anything
            bad(results, f"{name}.json", value)
            left_out(capsys, results, good)


def test_lines_of_any_json(capsys, results: Path, good: bytes) -> None:
    for value in ("{", *VALUES):
        bad(results, "evaluations.jsonl", f"{value}\n" * 6)
        left_out(capsys, results, good)


def paths(value: Any, *path: Any) -> list[tuple[Any, ...]]:
    """Where every part of a JSON value is; of lists the first."""
    if isinstance(value, dict):
        return [path, *(p for key, part in value.items() for p in paths(part, *path, key))]
    return [path, *paths(value[0], *path, 0)] if isinstance(value, list) and value else [path]


def put(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    for key in path[:-1]:
        whole = whole[key]
    whole[path[-1]] = value


@pytest.mark.parametrize("name", NAMES)
def test_parts_of_any_json(results: Path, name: str) -> None:
    """Every part of every file, of every type: whether the record counts or not, nothing fails and
    the others' numbers stay."""
    path = bad(results, "clock.json", "{}")
    whole = {file: (path.parent / "seed_0" / file).read_text() for file in RESULTS}
    whole["config.json"] = whole["config.json"].replace('"seed": 0', '"seed": 2')
    original = json.loads(whole[f"{name}.json"])
    expected = others(publish(results / "good", None).texts)
    for place in paths(original)[1:]:
        for value in ("null", "1" + "0" * 400, '"\\ud800"', '{"a": []}', "NaN"):
            changed = json.loads(json.dumps(original))
            put(changed, place, json.loads(value))
            for file, text in whole.items():
                (path / file).write_text(text)
            (path / f"{name}.json").write_text(json.dumps(changed))
            recorded.resumed(path)
            published = publish(results / "toy", None)
            assert others(published.texts) == expected, (place, value)
            for text in (
                *published.texts.values(),
                page.page({"toy": (published.selection, published.blocks)}),
            ):
                text.encode()


def others(texts: dict[str, str]) -> list[str]:
    """The rows of seeds 0 and 1."""
    return [row for row in texts["final.csv"].splitlines() if ",mappo,2," not in row]


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


Change = Callable[[Path], Any]
HARM: dict[str, Change] = {
    "names '../../../secret'": lambda p: append(p / "SHA256SUMS", "0  ../../../secret\n"),
    "SHA256SUMS cannot be read": lambda p: (p / "SHA256SUMS").write_bytes(b"\xff\xfe\n"),
    "clock.json is missing": lambda p: ((p / "clock.json").unlink(), os.mkfifo(p / "clock.json")),
}


@pytest.mark.parametrize("said", HARM)
def test_sums_that_lead_elsewhere(capsys, results: Path, good: bytes, said: str) -> None:
    HARM[said](bad(results, "clock.json", "{}"))
    assert said in left_out(capsys, results, good)


def test_a_version_to_come_drives_nobody_out(capsys, results: Path, good: bytes) -> None:
    path = bad(results, "clock.json", "{}")
    recorded.record(results / "toy", Cell("walk", "mappo", 2), {"team": 9.0}, learning=99)
    assert path.exists()
    assert "version of learning is 99" in left_out(capsys, results, good)


@pytest.mark.parametrize("value", [1e308, -1e200])
def test_numbers_too_large(capsys, results: Path, good: bytes, value: float) -> None:
    recorded.record(results / "toy", Cell("walk", "mappo", 2), {"team": value})
    assert "too large" in left_out(capsys, results, good)


def test_folders_with_names_that_cannot_be_printed(capsys, results: Path, good: bytes) -> None:
    folder = os.fsencode(results / "toy") + b"/wa\xfflk\x1b[1m/mappo/seed_0"
    os.makedirs(folder)
    with pytest.raises(SystemExit) as end:
        main(["tables", "toy", "--results", str(results)])
    assert end.value.code == 0
    assert (results / "toy" / "final.csv").read_bytes() == good
    assert "\x1b" not in (results / "toy" / "tables.md").read_text()


def test_a_configuration_nested_as_deep_as_json_allows(capsys, results: Path, good: bytes) -> None:
    """What is read is walked through later, by code that may need more of the stack."""
    path = bad(results, "clock.json", "{}").parent / "seed_0"
    config = (path / "config.json").read_text().replace('"seed": 0', '"seed": 2')
    deep = '{"_type_": "a:B", "c": ' * 900 + "1" + "}" * 900
    text = config.replace('"gamma": 0.99', f'"gamma": {deep}')
    assert text != config
    record = bad(results, "config.json", text)
    (record / "clock.json").write_bytes((path / "clock.json").read_bytes())
    recorded.resumed(record)
    assert "config.json cannot be read" in left_out(capsys, results, good)
