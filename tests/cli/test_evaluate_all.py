"""``marl evaluate RUN --all``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from marl.cli.evaluate_all import checkpoints_of
from tests.helpers.cli import called
from tests.helpers.experiments import experiment


def test_every_checkpoint_is_played(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With the same episodes as ``marl evaluate CHECKPOINT``; a corrupt one is left out."""
    run = tmp_path / "run"
    experiment(run, checkpoints_kept=0, video=False).run()
    files = list(checkpoints_of(run))
    assert [int(path.stem[-12:]) for path in files] == [0, 120, 160, 240]
    files[1].write_bytes(b"")
    code, out, err = called(capsys, "evaluate", str(run), "--all", "--episodes", "3", "--json")
    assert code == 0 and f"{str(files[1])!r} is corrupt" in err
    records = json.loads((run / "checkpoints.json").read_text())["checkpoints"]
    assert records == json.loads(out)["checkpoints"]
    assert [record["frames"] for record in records] == [0, 160, 240]
    assert sum(record["best_of"] == ["team"] for record in records) <= 1
    assert (run / "checkpoints.png").stat().st_size > 1000
    code, out, _ = called(capsys, "evaluate", str(files[-1]), "--episodes", "3", "--json")
    assert json.loads(out)["returns"] == records[-1]["returns"]
    assert records[0]["returns"] != records[-1]["returns"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--all", "--best"], "leave out --all or --best"),
        (["run", "--all", "--versus", "other"], "leave out --all or --versus"),
        (["run/checkpoints/a.pt", "--all"], "is one of them; give the run's directory"),
        (["zoo:mpe/spread/hasac", "--all"], "holds the best policies alone; leave out --all"),
        (["run", "--all"], "run directory 'run' does not exist"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    code, _, err = called(capsys, "evaluate", *words)
    assert code == 2 and said in err and err.count("\n") == 1, err
