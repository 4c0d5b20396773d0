"""Cross-play against pairings made by hand; its table, record and picture; its mistakes."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import imageio.v2 as imageio
import pytest

from marl.training import build, loading, run_directory
from marl.training.crossplay import crossplay, enter
from marl.training.evaluation import evaluate
from marl.utils.seeding import evaluation_seed
from tests.helpers.builders import CPU
from tests.helpers.cli import called

TAG = [
    "task=mpe/simple_tag", "total_frames=160", "num_envs=4", "steps=10", "model.hidden=[8]",
    "evaluation_interval=0", "evaluation_episodes=2", "video=false", "progress=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def tags(tmp_path_factory) -> Path:
    """A folder with two runs of two teams each, and one of a single team."""
    folder = tmp_path_factory.mktemp("tags")
    for words in (["seed=0"], ["seed=1"], ["task=mpe/simple_spread"]):
        name = words[0].replace("=", "").replace("task", "").replace("mpe/simple_", "")
        with pytest.raises(SystemExit) as ended:
            from marl.cli.main import main

            main(["train", *TAG, *words, f"directory={folder / name}"])
        assert not ended.value.code
    return folder


def test_every_cell_is_its_pairing(tags: Path) -> None:
    paths = [tags / "seed0", tags / "seed1"]
    env, entrants = enter(paths, 6, CPU)
    found = crossplay(env, entrants, 6, seed=11, side="agent")
    loaded = []
    for path in paths:
        directory, file, state = loading.load_checkpoint(path, CPU)
        teams = run_directory.read_config(directory)["teams"]
        loaded.append(build.load_teams(env, teams, state["teams"], file))
    for i, row in enumerate(loaded):
        for j, column in enumerate(loaded):
            playing = {"adversary": column["adversary"], "agent": row["agent"]}
            assert found.cells[i][j] == evaluate(env, playing, 6, 11)
    assert found.cells[0][1] != found.cells[1][0]
    values = found.cells[1][0]["returns"]["adversary"]
    mean, error = found.matrix("returns", "adversary")[1][0]
    assert mean == statistics.fmean(values) and error == statistics.stdev(values) / 6**0.5


def test_a_run_against_its_copy_is_the_same_in_all_cells(tags: Path) -> None:
    shutil.copytree(tags / "seed0", tags / "copy", dirs_exist_ok=True)
    env, entrants = enter([tags / "seed0", tags / "copy"], 5, CPU)
    found = crossplay(env, entrants, 5, seed=3)
    assert found.side == next(iter(entrants[0].teams))
    assert all(cell == found.cells[0][0] for row in found.cells for cell in row)


def test_the_command_writes_a_table_a_record_and_a_picture(capsys, tags: Path) -> None:
    out = tags / "out"
    words = ["evaluate", str(tags / "seed0"), "--versus", str(tags / "seed1"), "--episodes", "4"]
    code, said, errors = called(capsys, *words, "--out", str(out), "--seed", "7")
    assert code == 0 and "return of team agent" in said and "metric touches" in said
    assert str(out / "crossplay.png") in errors
    assert "…" not in said and "\\ others" in said and "2 seed1" in said
    record = json.loads((out / "crossplay.json").read_text())
    assert [run["name"] for run in record["runs"]] == ["seed0", "seed1"]
    assert len(record["cells"]) == 4 and record["provenance"]["packages"]["torch"]
    assert len(record["cells"][1]["returns"]["agent"]) == 4
    assert imageio.imread(out / "crossplay.png").std() > 0
    env, entrants = enter([tags / "seed0", tags / "seed1"], 4, CPU)
    again = crossplay(env, entrants, 4, evaluation_seed(7, "evaluate"))
    assert record["cells"] == again.to_plain()["cells"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["seed0", "--versus", "seed0"], "must be different runs, and one is named twice"),
        (["seed0", "--versus", "seed1", "--side", "agnet"], "unknown team 'agnet'; did you mean"),
        (["spread", "--versus", "seed0"], "has one team, 'team'; cross-play needs a task"),
        (
            ["seed0", "--versus", "spread"],
            "was trained in another task than 'seed0': mpe/simple_spread, not mpe/simple_tag",
        ),
        (["seed0", "--versus", "nowhere"], "run directory 'nowhere' does not exist"),
        (["seed0", "--versus", "seed1", "--video", "x.mp4"], "--video films one run"),
    ],
)
def test_mistakes_are_told(capsys, tags: Path, monkeypatch, words: list[str], told: str) -> None:
    monkeypatch.chdir(tags)
    before = sorted(path.name for path in (tags / "seed0").iterdir())
    code, _, errors = called(capsys, "evaluate", *words)
    assert code == 2 and told in errors and errors.count("\n") == 1
    assert sorted(path.name for path in (tags / "seed0").iterdir()) == before
