"""A run: the same from the same seed, never over another's, and each bad end said in words."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from marl.algorithms.scripted import RandomConfig
from marl.envs.task import Task
from marl.errors import Diverged, UserError, WorkerError
from marl.experiment import Experiment, Settings
from marl.training import checkpoint
from marl.training.loading import load_checkpoint
from marl.training.teams import Team
from marl.types import Metrics, Rollout
from marl.utils.jsonl import read_jsonl
from tests.helpers.experiments import SHORT, equal, experiment, outcome


def files(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


# -------------------------------------------------------------------------------------- a whole run


def test_same_seed_same_run(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        torch.rand(3)  # what happened before in the process is of no importance
        experiment(tmp_path / name, seed=seed).run()
    one, two, other = (outcome(tmp_path / name) for name in ("one", "two", "other"))
    assert equal(one, two)
    assert one["evaluations"] != other["evaluations"] and one["metrics"] != other["metrics"]
    assert not torch.equal(one["teams"][0], other["teams"][0])


def test_a_run_leaves_its_records(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run")
    returns = run.run()
    evaluations = read_jsonl(run.directory / "evaluations.jsonl")
    assert [record["frames"] for record in evaluations] == [0, 80, 160, 240]
    assert all(len(record["returns"]["team"]) == 3 for record in evaluations)
    assert evaluations[-1]["returns"] == returns and "length" in evaluations[0]["metrics"]
    metrics = read_jsonl(run.directory / "metrics.jsonl")
    assert [record["frames"] for record in metrics] == [40 * i for i in range(1, 7)]
    assert {"policy_loss/team", "kl/team", "return/team", "episodes"} <= set(metrics[-1])
    assert all(record["frames_per_second"] > 0 for record in
               read_jsonl(run.directory / "timing.jsonl") if "collect" in record)  # fmt: skip
    provenance = json.loads((run.directory / "provenance.json").read_text())
    assert provenance["packages"]["torch"] == torch.__version__ and provenance["cores"]


@pytest.mark.parametrize(("interval", "frames"), [(0, [240]), (100, [0, 120, 200, 240]),
                                                  (1000, [0, 240])])  # fmt: skip
def test_when_it_evaluates(tmp_path: Path, interval: int, frames: list[int]) -> None:
    experiment(tmp_path / "run", evaluation_interval=interval).run()
    records = read_jsonl(tmp_path / "run" / "evaluations.jsonl")
    assert [record["frames"] for record in records] == frames


def test_training_does_not_notice_evaluations(tmp_path: Path) -> None:
    for name, interval in (("often", 40), ("never", 0)):
        experiment(tmp_path / name, evaluation_interval=interval).run()
    often, never = outcome(tmp_path / "often"), outcome(tmp_path / "never")
    assert often["metrics"] == never["metrics"]
    for part in ("teams", "collector", "random"):
        assert equal({part: often[part]}, {part: never[part]})


@pytest.mark.parametrize("task", ["identity", "rivals"])
def test_the_best_of_every_team_is_kept(tmp_path: Path, task: str) -> None:
    run = experiment(tmp_path / "run", task=task)
    run.run()
    records = read_jsonl(run.directory / "evaluations.jsonl")
    for team in run.teams:
        means = {record["frames"]: sum(record["returns"][team]) for record in records}
        best = run.checkpoints.best(team)
        assert best is not None
        assert means[checkpoint.load(best, run.device)["frames"]] == max(means.values())


def test_who_does_not_learn_has_no_best(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run", task="rivals", teams={"right": Team(None, RandomConfig())})
    run.run()
    assert list(run.evaluations.best) == ["left"] and run.checkpoints.best("right") is None
    for best, words in ((None, None), ("left", None), ("right", "holds no best"), ("", "whose")):
        if words is None:
            load_checkpoint(run.directory, run.device, best)
        else:
            with pytest.raises(UserError, match=words):
                load_checkpoint(run.directory, run.device, best)


def test_more_frames_continue_a_finished_run(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run")
    run.run()
    again = Experiment.load(tmp_path / "run", total_frames=320)
    assert (again.frames, again.iteration) == (240, 6)
    assert again.evaluations.state_dict() == run.evaluations.state_dict()
    assert run.evaluations.best["team"] > 0
    again.run()
    records = read_jsonl(tmp_path / "run" / "evaluations.jsonl")
    assert [record["frames"] for record in records] == [0, 80, 160, 240, 320]


# ----------------------------------------------------------------------------------------- bad ends


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"is not empty; choose another.*'marl resume"):
        experiment(tmp_path)
    assert files(tmp_path) == {str(tmp_path / "thesis.tex"): b"years of work"}


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not"):
        experiment(tmp_path / "file")


def test_divergence_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third iteration learns from no numbers; the checkpoint of the first two is named."""
    run = experiment(tmp_path / "run", checkpoint_interval=40, evaluation_interval=0)
    learn = run.learn

    def poisoned(rollout: Rollout) -> dict[str, Metrics]:
        rollout.reward["left"].mul_(torch.nan if run.iteration == 2 else 1)
        return learn(rollout)

    monkeypatch.setattr(run, "learn", poisoned)
    with pytest.raises(Diverged) as error:
        run.run()
    last = run.checkpoints.last()
    assert last is not None and last.name == "frames-000000000080.pt"
    words = r"_loss/team is nan at iteration 3 \(120 frames\); .*" + re.escape(str(last))
    assert re.search(words, str(error.value))
    weights = checkpoint.load(last, run.device)["teams"]["team"]["policy"]
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_a_dead_worker_leaves_a_checkpoint(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run", task="failing", evaluation_interval=0)
    with pytest.raises(WorkerError, match="copy 0 died"):
        run.run()
    assert run.checkpoints.load_last(run.device)[1]["frames"] == 80
    again = Experiment.load(tmp_path / "run")
    assert again.frames == 80


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_at_a_checkpoint_is_said(tmp_path: Path, monkeypatch) -> None:
    run = experiment(tmp_path / "run")
    monkeypatch.setattr(checkpoint, "write_atomic", full)
    with pytest.raises(UserError, match=r"cannot write to .*: no space is left; .* 'marl resume"):
        run.run()


def test_a_full_disk_at_a_record_is_said(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run", evaluation_interval=0)
    run.jsonl.open()
    run.jsonl.files["metrics"].close()
    run.jsonl.files["metrics"] = open("/dev/full", "ab", 0)  # noqa: SIM115  # as the sink opens
    with pytest.raises(UserError, match="no space is left"):
        run.run()


def test_other_errors_of_the_system_are_not_disguised(tmp_path: Path, monkeypatch) -> None:
    def forbidden(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    run = experiment(tmp_path / "run")
    monkeypatch.setattr(checkpoint, "write_atomic", forbidden)
    with pytest.raises(PermissionError):
        run.run()


# ------------------------------------------------------------------------------ foreign directories


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "it has no config.json"),
        ("not json", "is not a run's configuration"),
        ('{"_type_": "no.such:Class"}', "would import 'no.such:Class'"),
        ('{"_type_": "marl.experiment:Settings", "sedd": 1}', "is not a run's configuration"),
    ],
)
def test_a_foreign_directory_is_not_resumed(
    tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    before = files(tmp_path)
    with pytest.raises(UserError, match=words):
        Experiment.load(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("content", ["{}", "[]", '{"teams": {}}', "3"])
def test_a_configuration_of_something_else_is_not_resumed(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError):
        Experiment.load(tmp_path)


def test_a_configuration_executes_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = {"_type_": "os:system", "command": "touch pwned"}
    (tmp_path / "config.json").write_text(json.dumps({"task": task}))
    with pytest.raises(Exception):  # noqa: B017  # whichever
        Experiment.load(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_there_is_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run directory .* does not exist"):
        Experiment.load(tmp_path / "none")


def test_there_is_no_such_run_from_python(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run")
    with pytest.raises(UserError):
        Experiment(run.task, None, teams=dict(run.specs), directory=tmp_path / "none", resume=True)


# ----------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_envs": 0}, "num_envs=0 is out of range"),
        ({"total_frames": -5}, "total_frames=-5"),
        ({"seed": 2**31}, "seed=2147483648"),
        ({"evaluation_episodes": 0}, "evaluation_episodes=0"),
    ],
)
def test_settings_out_of_range(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Settings(**settings)


@pytest.mark.parametrize("device", ["cuda:7", "meta", "gpu"])
def test_missing_devices(tmp_path: Path, device: str) -> None:
    with pytest.raises(UserError, match=device):
        experiment(tmp_path / "run", device=device)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_metric_that_appears_late_is_recorded(tmp_path: Path, workers: int) -> None:
    """Of episodes of 35 steps; the second evaluation ends a run that was resumed."""
    options: dict[str, Any] = {"evaluation_interval": 0, "video": False}
    run = Experiment(
        Task("tests.helpers.tiny_env:LateInfo", workers=workers), RandomConfig(),
        settings=Settings(**{**SHORT, **options}), directory=tmp_path / "run",
    )  # fmt: skip
    run.run()
    run.close()
    again = Experiment.load(tmp_path / "run", total_frames=400)
    again.run()
    again.close()
    evaluations = read_jsonl(tmp_path / "run" / "evaluations.jsonl")
    assert [record["metrics"] for record in evaluations] == [{"won": [2.0] * 3}] * 2
    metrics = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [record["info/won"] for record in metrics if record["episodes"]] == [2.0] * 2
