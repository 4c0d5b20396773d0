"""Benchmark grids: what a file says, which runs that makes, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from marl.benchmark.records import Cell
from marl.benchmark.suite import Suite, chosen, read
from marl.errors import UserError

GRID = """\
about: Two tasks.
settings: {total_frames: 1_000, gamma: 1}
tasks:
  one: {task: games/climbing, gamma: 2}
  two: {task: games/aloha}
algorithms:
  mappo: {algorithm: mappo, gamma: 3}
  ippo:
cells:
  one/mappo: {gamma: 4, algorithm.joint: {graph: learned, anneal: true}, model.hidden: [8, 8]}
  two/ippo: null
seeds: [3, 5]
"""


def suite(tmp_path: Path, text: str = GRID) -> Suite:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return read(path)


def test_cells_come_seed_by_seed_without_those_left_out(tmp_path: Path) -> None:
    three = [("one", "mappo"), ("one", "ippo"), ("two", "mappo")]
    assert suite(tmp_path).cells() == [Cell(t, a, seed) for seed in (3, 5) for t, a in three]


def test_the_more_special_setting_wins(tmp_path: Path) -> None:
    grid = suite(tmp_path)
    assert grid.words(Cell("two", "mappo", 5)) == [
        "absolute_episodes=320", "total_frames=1000", "gamma=3", "task=games/aloha",
        "algorithm=mappo", "seed=5",
    ]  # fmt: skip
    assert "gamma=2" in grid.words(Cell("one", "ippo", 3))
    special = grid.words(Cell("one", "mappo", 3))
    assert "gamma=4" in special and "algorithm.joint={graph:learned,anneal:true}" in special
    assert "model.hidden=[8,8]" in special


def test_quoted_text_stays_text(tmp_path: Path) -> None:
    text = GRID.replace("gamma: 4", 'task.kwargs: {kind: "null", number: "7", name: a}')
    words = suite(tmp_path, text).words(Cell("one", "mappo", 3))
    assert "task.kwargs={kind:'null',number:'7',name:a}" in words


@pytest.mark.parametrize("place", ["gamma: 1", "gamma: 2", "gamma: 3", "gamma: 4"])
def test_the_absolute_metric_is_measured_where_nothing_is_said(tmp_path: Path, place: str) -> None:
    cell = Cell("one", "mappo", 3)
    assert "absolute_episodes=320" in suite(tmp_path).words(cell)
    words = suite(tmp_path, GRID.replace(place, "absolute_episodes: 7")).words(cell)
    assert [word for word in words if "absolute" in word] == ["absolute_episodes=7"]


@pytest.mark.parametrize(
    ("only", "left"),
    [
        (["seed=3"], 3),
        (["task=one,algorithm=mappo"], 2),
        (["task=one,two,seed=5"], 3),
        (["algorithm=mappo", "seed=3"], 2),
        ([], 6),
    ],
)
def test_only_chooses(tmp_path: Path, only: list[str], left: int) -> None:
    assert len(chosen(suite(tmp_path), only)) == left


@pytest.mark.parametrize(
    ("only", "said"),
    [
        (["tsk=one"], "unknown filter 'tsk' in --only; did you mean 'task'?"),
        (["one"], "unknown filter 'one'"),
        (["task=ones"], "unknown task 'ones' in suite 'grid'; did you mean 'one'?"),
        (["seed=4"], "unknown seed '4'"),
        (["task=two,algorithm=ippo"], "no run with"),
    ],
)
def test_a_wrong_choice_is_told(tmp_path: Path, only: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        chosen(suite(tmp_path), only)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("seeds: [3, 5]", "seeds: 0", "seeds must be their number"),
        ("seeds: [3, 5]", "seeds: [one]", "seeds must be their number"),
        ("about:", "abuot:", "unknown key 'abuot'.*did you mean 'about'"),
        ("two/ippo", "two/ipo", "unknown cell 'two/ipo'; did you mean 'two/ippo'"),
        ("  one: {", "  One: {", "'One' must be of lower-case"),
        ("gamma: 1}", "seed: 1}", "settings sets seed"),
        ("settings: {total_frames: 1_000, gamma: 1}", "settings: 5", "must map settings"),
        ("tasks:\n", "tasks: {\n", "is not YAML, in line 5"),
        ("gamma: 1}", "absolute_episodes: 0}", "settings sets absolute_episodes=0, but a record"),
        ("gamma: 3}", "absolute_episodes: 0}", "algorithms.mappo sets absolute_episodes=0"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in GRID
    with pytest.raises(UserError, match=said):
        suite(tmp_path, GRID.replace(before, after))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "none.yaml")
