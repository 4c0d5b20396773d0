"""Runs that end at a target or on a plateau."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from marl.cli.run_report import print_end
from marl.errors import UserError
from marl.experiment import Experiment
from marl.training import run_outcome
from marl.training.early_stop import EarlyStop
from marl.training.settings import Settings
from marl.utils.jsonl import read_jsonl
from tests.helpers.experiments import Kill, experiment

EARLY: dict[str, Any] = {"evaluation_interval": 40, "absolute_episodes": 2, "video": False}


def means(directory: Path, team: str = "team") -> list[float]:
    records = read_jsonl(directory / "evaluations.jsonl")
    return [statistics.fmean(record["returns"][team]) for record in records]


def test_a_run_ends_at_its_target_as_a_finished_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the first evaluation that reaches it, with a checkpoint and the absolute metric; the same
    when it is killed and resumed; ``marl resume`` says why it is finished, and goes on on
    request."""
    experiment(tmp_path / "whole", **EARLY).run()
    curve = means(tmp_path / "whole")
    target = sorted(curve[1:-1])[-1]  # of 7 evaluations
    number = next(i for i, mean in enumerate(curve) if mean >= target)
    early = experiment(tmp_path / "early", **EARLY, stop_at_return=target)
    early.run()
    assert means(tmp_path / "early") == curve[: number + 1] and early.frames == 40 * number
    assert (tmp_path / "early" / "absolute.json").exists()
    assert early.checkpoints.last() is not None and early.frames < 240
    state, why = run_outcome.read(tmp_path / "early")
    assert state == "finished" and f"'team' has reached a return of {curve[number]:.2f}" in why

    killed = experiment(tmp_path / "killed", **EARLY, stop_at_return=target, sinks=[Kill(4)])
    killed.run()
    assert killed.stop.signal and killed.frames < early.frames
    Experiment.load(tmp_path / "killed").run()
    assert means(tmp_path / "killed") == curve[: number + 1]

    directory = str(tmp_path / "early")
    print_end(Experiment.load(directory))
    assert f"marl resume {directory} stop_at_return=null" in capsys.readouterr().out
    further = Experiment.load(directory, stop_at_return=None)
    print_end(further)
    further.run()
    assert not capsys.readouterr().out and means(tmp_path / "early") == curve
    assert run_outcome.read(tmp_path / "early") == ("finished", "")
    print_end(Experiment.load(directory))
    out = capsys.readouterr().out
    assert "all its 240 frames are played" in out and "total_frames=480" in out


def test_a_plateau(tmp_path: Path) -> None:
    """It counts the evaluations since the best one; a checkpoint holds the count."""
    settings = Settings(stop_after_no_improvement=2)
    stop = EarlyStop(settings, stop_teams(), torch.device("cpu"))
    reasons = []
    for frames, mean in enumerate([-3.0, -1.0, -1.0, -0.5, -2.0, -0.5]):
        stop.observe(frames, {"team": [mean - 1, mean + 1]})
        reasons.append(bool(stop.reason))
        again = EarlyStop(settings, stop_teams(), torch.device("cpu"))
        again.load_state_dict(stop.state_dict())
        stop = again
    assert reasons == [False] * 5 + [True]
    assert "not surpassed its return of -0.50 in 2 evaluations" in stop.reason
    run = experiment(tmp_path / "run", **EARLY, stop_after_no_improvement=1)
    run.run()
    curve = means(tmp_path / "run")
    assert curve[-1] <= max(curve[:-1]) and sorted(curve[:-1]) == curve[:-1]


def stop_teams() -> Any:
    return {"team": object()}


def test_a_resumed_run_keeps_its_evaluations(tmp_path: Path) -> None:
    experiment(tmp_path / "run", evaluation_interval=0, total_frames=40).run()
    with pytest.raises(UserError, match="leave it out, for a run keeps its evaluations"):
        Experiment.load(tmp_path / "run", stop_at_return=1, total_frames=480)


def test_one_team_of_several(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run", "rivals", **EARLY, stop_at_return=-100.0, stop_team="right")
    run.run()
    assert run.frames == 0 and "team 'right'" in run.ending


@pytest.mark.parametrize(
    ("task", "settings", "words"),
    [
        ("identity", {"stop_at_return": 1, "evaluation_interval": 0}, "evaluates at the end only"),
        ("identity", {"stop_at_return": 1, "evaluation_interval": 240}, "never end the run early"),
        ("identity", {"stop_after_no_improvement": 3}, "needs 4 evaluations before the end"),
        ("identity", {"stop_after_no_improvement": -1}, "out of range; expected at least 0"),
        ("identity", {"stop_at_return": "high"}, "stop_at_return='high' is not a number"),
        ("identity", {"stop_team": "team"}, "is read only with stop_at_return"),
        ("rivals", {"stop_at_return": 1}, "the teams left, right learn; name the one"),
        ("rivals", {"stop_at_return": 1, "stop_team": "lft"}, "did you mean 'left'?"),
    ],
)
def test_settings_that_could_never_end_a_run(
    tmp_path: Path, task: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        experiment(tmp_path / "run", task, **settings)
    assert not (tmp_path / "run").exists()
