"""Rows to compare with: doing nothing, the best known return, and the seeds that reached it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from marl.benchmark import own_suite, references
from marl.benchmark import suite as suites
from marl.benchmark.suite import Best
from marl.cli import benchmark
from marl.cli.tables import grid
from marl.errors import UserError
from marl.tables import publish
from tests.helpers import toy_records
from tests.helpers.cli import called
from tests.helpers.processes import cli

GRID = """
tasks: {walk: {task: games/climbing}, run: {task: games/climbing}}
algorithms: {mappo: {algorithm: mappo}}
seeds: 4
best: {walk: {value: 11, source: exact, reached: 10}, run: {value: 5, source: a planner}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four seeds end at 8, 8, 10 and 10 on walk, whose absolute metrics are one better."""
    cells = toy_records.grid("walk run", "mappo", 4)
    return toy_records.suite(tmp_path / "toy", cells, lambda cell, _: 8.0 + 2 * (cell.seed > 1))


def tables(folder: Path, tmp_path: Path) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(GRID)
    return publish.publish(folder, suites.read(path)).texts["tables.md"]


def test_seeds_that_reached_the_best_are_counted(folder: Path, tmp_path: Path) -> None:
    text = tables(folder, tmp_path)
    walk, run = text.split("## walk")[1].split("## run")
    assert "optimum reached" in walk and "| 2 of 4 |" in walk
    assert "| *best known* |  | 11.00 |" in walk and "Best known: exact. A seed" in walk
    assert "optimum reached" not in run and "| *best known* |  | 5.000 |" in run
    assert "Best known: a planner." in run


@pytest.mark.parametrize(("level", "shown"), [(-3.0, True), (-12.0, False)])
def test_doing_nothing_is_shown_where_it_beats_random_play(
    folder: Path, tmp_path: Path, level: float, shown: bool
) -> None:
    """Random play is at -10."""
    returns = {"walk": {"do nothing": {"team": [level - 1, level + 1]}}}
    (folder / references.FILE).write_text(json.dumps(returns))
    assert (f"| *do nothing* |  | {level:.3f} |" in tables(folder, tmp_path)) == shown


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"walk": 3}', '{"walk": {"do nothing": {"team": []}}}',
             '{"walk": {"do nothing": {"team": [NaN]}}}'],
)  # fmt: skip
def test_a_broken_file_is_named_and_stops_nothing(folder: Path, tmp_path: Path, text: str) -> None:
    (folder / references.FILE).write_text(text)
    written = tables(folder, tmp_path)
    assert "references.json" in written and "marl benchmark toy --references" in written
    assert "| 2 of 4 |" in written


@pytest.mark.parametrize(
    ("best", "words"),
    [
        ("{jump: {value: 1, source: x}}", "unknown task 'jump'"),
        ("{walk: 3}", "must have value"),
        ("{walk: {value: 3}}", "must have value"),
        ("{walk: {value: much, source: x}}", "must have value"),
        ("[walk]", "must map tasks"),
    ],
)
def test_wrong_words_on_the_best_are_refused(tmp_path: Path, best: str, words: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(GRID.split("best:")[0] + f"best: {best}\n")
    with pytest.raises(UserError, match=words):
        suites.read(path)


def test_the_suites_best_returns_are_the_games_own() -> None:
    """25 steps of all playing 0, which 0.1 of the bits disobey: by counting all joint slips."""
    from itertools import product

    def episode(agents: int, near: int) -> float:
        total = 0.0
        for slips in product((0, 1), repeat=agents):
            zeros = agents - sum(slips)
            ones, chance = agents - zeros, 0.1 ** sum(slips) * 0.9**zeros
            close = int(ones > zeros)
            total += chance * (close if abs(zeros - ones) <= near else 3 if zeros > ones else 2)
        return 25 * total

    best = benchmark.find("bayes").best["coordination"]
    assert best.value == pytest.approx(episode(5, 2), abs=0.05)
    small = benchmark.find("smoke").best
    assert small["coordination"].value == pytest.approx(episode(3, 1), abs=0.05)
    assert small["climbing"] == Best(11, "the largest payoff", 10.9)


def test_the_command_measures_what_zero_actions_earn(tmp_path: Path) -> None:
    """Of games, where the first action is one like any other, nothing is measured."""
    (tmp_path / "own.yaml").write_text(
        "tasks: {climb: {task: games/climbing}, spread: {task: mpe/simple_spread},\n"
        "  lost: {task: x}}\n"
        "cells: {lost/mappo: null}\n"
        "algorithms: {mappo: {algorithm: mappo}}\nsettings: {absolute_episodes: 5}\n"
    )
    result = cli(tmp_path, "benchmark", "own.yaml", "--references", "--results", "here")
    assert result.code == 0, result
    measured = json.loads((tmp_path / "here" / references.FILE).read_text())
    assert list(measured) == ["spread"]
    assert len(measured["spread"]["do nothing"]["team"]) == 5
    assert "none     climb: doing nothing is undefined where all choices" in result.err


def test_a_suite_without_any_way_of_doing_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(GRID)
    code, _, err = called(capsys, "benchmark", "own.yaml", "--references")
    assert code == 2 and "suite 'own' has no task that can be played without acting" in err
    assert not (tmp_path / "results").exists()


def test_the_tables_know_a_suite_of_the_users_own(folder: Path, tmp_path: Path) -> None:
    """Its description, and the best known returns, as ``marl benchmark`` stored them."""
    path = tmp_path / "toy.yaml"
    path.write_text("about: Two games of mine.\n" + GRID)
    suite = suites.read(path)
    own_suite.write(suite, folder)
    stored = grid(folder)
    assert stored == suite
    text = publish.publish(folder, stored).texts["tables.md"]
    assert "Two games of mine." in text and "| *best known* |  | 11.00 |" in text
    (folder / own_suite.FILE).write_text('{"best": 3}')
    with pytest.raises(UserError, match=r"suite\.json' is not what marl benchmark writes"):
        grid(folder)
