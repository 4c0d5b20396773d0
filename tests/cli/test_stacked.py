"""``marl train stacked_seeds=N``: a folder of runs, and how it goes on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from marl.errors import Diverged
from marl.experiment import Experiment
from tests.helpers.cli import called, refused

WORDS = [
    "task=games/climbing", "algorithm=mappo", "total_frames=400", "num_envs=4", "steps=10",
    "evaluation_episodes=2", "model.hidden=[4]", "algorithm.epochs=1", "progress=false",
    "video=false",
]  # fmt: skip
TRAIN = ["train", *WORDS, "stacked_seeds=2", "seed=4"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_seeds_are_runs_of_their_own(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, out, _ = called(capsys, *TRAIN, "directory=all")
    assert code == 0 and "seed 4 " in out and "seed 5 " in out and "marl compare all" in out
    assert json.loads(Path("all/stack.json").read_text()) == {"runs": ["seed_4", "seed_5"]}
    for seed in (4, 5):
        run = Path(f"all/seed_{seed}")
        assert json.loads((run / "provenance.json").read_text())["stacked"] == [4, 5]
        assert json.loads((run / "config.json").read_text())["settings"]["seed"] == seed
        assert (run / "curve.png").exists()
        assert Experiment.load(run).frames == 400
    code, out, _ = called(capsys, "compare", "all")
    assert code == 0 and "2 (preliminary)" in out
    code, _, err = called(capsys, "evaluate", "all")
    assert code == 2 and "all/seed_" in err


def test_more_frames_for_all_seeds(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    called(capsys, *TRAIN, "directory=all")
    code, out, _ = called(capsys, "resume", "all", "total_frames=480")
    assert code == 0 and "seed 5 " in out
    assert [Experiment.load(f"all/seed_{seed}").frames for seed in (4, 5)] == [480, 480]
    code, out, _ = called(capsys, "resume", "all")
    assert code == 0 and "train on with: marl resume all total_frames=" in out
    shutil.rmtree("all/seed_5")
    code, _, err = called(capsys, "resume", "all")
    assert code == 2 and "remove its name" in err
    for content in ("[]", '{"runs": 3}', '{"runs": "seed_4"}'):
        Path("all/stack.json").write_text(content)
        code, _, err = called(capsys, "resume", "all")
        assert code == 2 and "does not name the runs" in err


def test_folders_by_default_name_both_ends(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    code, _, _ = called(capsys, *TRAIN)
    (made,) = os.listdir("runs")
    assert code == 0 and made.startswith("games_climbing-mappo-seeds4-5-")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["algorithm=vdn"], "'team' learns by VDN"),
        (["stacked_seeds=0"], "stacked_seeds=0 is out of range"),
        (["task=tests.helpers.toy_envs:identity"], "stepped as tensors"),
        (["algorithm.target_kl=0.1", "directory=all"], "target_kl"),
        (["execution=captured"], "needs device=cuda"),
        (["seed=2147483647"], "and the 1 seeds after it must be below"),
    ],
)
def test_nothing_stays_of_what_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    without = [word for word in TRAIN if not word.startswith(("algorithm.", "model."))]
    refused(capsys, folder, [*without, *words], said)


def test_a_folder_in_use_is_refused(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    Path("all").mkdir()
    Path("all/notes.txt").touch()
    code, _, err = called(capsys, *TRAIN, "directory=all")
    assert code == 2 and "is not empty" in err and os.listdir("all") == ["notes.txt"]


@pytest.mark.parametrize("place", ["mine", "link", "."])
def test_a_folder_of_the_users_own_stays(
    place: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    """Of a refused run nothing else does."""
    Path("mine").mkdir()
    Path("link").symlink_to("mine")
    monkey = folder / "mine" if place == "." else folder
    os.chdir(monkey)
    code, _, err = called(capsys, *TRAIN, "algorithm.target_kl=0.1", f"directory={place}")
    assert code == 2 and "target_kl" in err
    assert sorted(os.listdir(folder)) == ["link", "mine"] and not os.listdir(folder / "mine")


def test_a_seed_that_diverges_is_named(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Experiment.advance

    def diverging(run: Experiment, *parts: Any) -> None:
        advance(run, *parts)
        if run.settings.seed == 5 and run.iteration == 3:
            raise Diverged("the loss is nan")

    monkeypatch.setattr(Experiment, "advance", diverging)
    code, out, _ = called(capsys, *TRAIN, "directory=all")
    assert code == 2 and "seed 5   diverged: the loss is nan" in out
    assert "seed 4   team " in out and Path("all/seed_4/curve.png").exists()


def test_help_and_explanation_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert "stacked_seeds=8" in called(capsys, "train", "--help")[1]
    code, out, _ = called(capsys, "train", "--explain", "stacked_seeds")
    assert code == 0 and "one process trains at once" in out
