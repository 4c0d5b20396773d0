"""``marl record``: finished runs become records that ``marl tables`` reads, and no others do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from marl.benchmark import records
from tests.helpers import toy_runs
from tests.helpers.cli import called
from tests.helpers.toy_records import rewrite


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recorded(suite: str = "mine") -> list[str]:
    return [path.relative_to(suite).as_posix() for _, path in records.find(Path(suite))]


def test_runs_become_records_that_tables_read(capsys) -> None:
    for algorithm in ("mappo", "ippo"):
        for seed in (0, 1):
            run = Path(f"runs/{algorithm}-{seed}")
            toy_runs.run(run, algorithm, seed, {"team": 1.0 + seed})
            (run / records.POLICY).write_bytes(b"weights")
    code, out, _ = called(capsys, "record", "runs", "--suite", "mine")
    assert code == 0 and out.splitlines()[-1] == "tables   marl tables mine"
    places = [f"toys_walk/{name}/seed_{seed}" for name in ("ippo", "mappo") for seed in (0, 1)]
    assert recorded("results/mine") == places
    policies = Path("results/mine").glob(f"*/*/*/{records.POLICY}")
    assert sorted(path.parent.name for path in policies) == ["seed_0"] * 2  # of each row one
    assert called(capsys, "tables")[0] == 0
    assert "| mappo | 2 (preliminary) | 1.500 |" in Path("results/mine/tables.md").read_text()


def test_settings_that_differ_are_in_the_names(capsys) -> None:
    """Those that tables compare within are in the task's, all others in the algorithm's."""
    toy_runs.run(Path("runs/a"), options={"gamma": 0.9})
    toy_runs.run(Path("runs/b"), options={"gamma": 0.95})
    toy_runs.run(Path("runs/c"), kwargs={"n": 4}, options={"gamma": 0.9})
    assert called(capsys, "record", "runs", "--suite", "mine", "--results", ".")[0] == 0
    assert recorded() == [
        "toys_walk_n_4/mappo_gamma_0_9/seed_0", "toys_walk_n_default/mappo_gamma_0_9/seed_0",
        "toys_walk_n_default/mappo_gamma_0_95/seed_0",
    ]  # fmt: skip
    words = ["--suite", "own", "--results", ".", "--task", "walk", "--algorithm", "ours"]
    assert called(capsys, "record", "runs/a", *words)[0] == 0
    assert recorded("own") == ["walk/ours/seed_0"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"state": "stopped", "frames": (0, 200)}, "was stopped at 200 of 1,000 frames; finish it"),
        ({"frames": (0, 200, 400)}, "ended early, at 400 of 1,000 frames"),
        ({"learning": 1}, "learned by version 1, which is never averaged with version 2"),
        ({"settings": {"evaluation_interval": 0}}, "was evaluated at its end only"),
        ({"frames": (0, 200, 800, 1000)}, "evaluation at frame 400 is missing"),
        ({"unnamed": True}, "was made by a Python function without a name"),
        ({"gone": "absolute.json"}, "absolute_episodes=320' measures it"),
        ({"gone": "random.json"}, "'marl resume runs/bad' measures it"),
    ],
)
def test_others_are_refused_and_nothing_is_written(
    capsys, more: dict[str, Any], message: str
) -> None:
    toy_runs.run(Path("runs/good"), seed=1)
    gone, unnamed = more.pop("gone", ""), more.pop("unnamed", False)
    bad = toy_runs.run(Path("runs/bad"), **more)
    if gone:
        (bad / gone).unlink()
    if unnamed:
        rewrite(bad / "config.json", lambda config: {**config, "task": None}, resum=False)
    code, _, err = called(capsys, "record", "runs", "--suite", "mine")
    assert code == 2 and message in err and err.count("\n") == 1, err
    assert os.listdir() == ["runs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs", "--suite", "mine"], "leave one of them out"),
        (["runs/a", "--suite", "mpe"], "suite 'mpe' is a grid of its own"),
        (["runs/a", "--suite", "../x"], "--suite '../x' must be"),
        (["runs/a", "runs/c", "--suite", "mine", "--algorithm", "x"], "would name ippo, mappo"),
        (["runs/a", "--suite", "mine", "--task", "A b"], "--task 'A b' must be of lower-case"),
    ],
)
def test_mistakes(capsys, words: list[str], message: str) -> None:
    for name, algorithm in {"a": "mappo", "b": "mappo", "c": "ippo"}.items():
        toy_runs.run(Path(f"runs/{name}"), algorithm)
    code, _, err = called(capsys, "record", *words)
    assert code == 2 and message in err and err.count("\n") == 1, err


def test_a_record_is_never_replaced_or_joined_by_other_settings(capsys) -> None:
    for seed, gamma in enumerate((0.9, 0.9, 0.95)):
        toy_runs.run(Path(f"runs/{seed}"), seed=seed, options={"gamma": gamma})
    words = ["--suite", "mine", "--results", "."]
    assert called(capsys, "record", "runs/0", *words)[0] == 0
    assert called(capsys, "record", "runs/1", *words)[0] == 0
    code, out, _ = called(capsys, "record", "runs/0", "runs/1", *words)  # a repeated command
    assert code == 0 and "2 of these 2 runs were recorded already" in out
    toy_runs.run(Path("runs/again"), seed=1, options={"gamma": 0.9}, ends={"team": 6.0})
    assert "holds a record already" in called(capsys, "record", "runs/again", *words)[2]
    err = called(capsys, "record", "runs/2", *words)[2]
    assert "was trained with algorithm.gamma=0.9 (not 0.95)" in err
    assert recorded() == ["toys_walk/mappo/seed_0", "toys_walk/mappo/seed_1"]
