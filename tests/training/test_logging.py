"""Where numbers go: JSONL, W&B offline, TensorBoard, the terminal; and pictures from them."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest

from marl.errors import UserError
from marl.experiment import Settings
from marl.training import report
from marl.training.logging import JsonlSink, ProgressSink, drop_nonfinite
from marl.utils.jsonl import read_jsonl, scalars
from marl.utils.seeding import derive, evaluation_seed, training_seed
from marl.utils.serialization import from_plain, to_plain
from tests.helpers.experiments import experiment
from tests.helpers.processes import start_training
from tests.helpers.wandb_offline import wandb_records

EVALUATION = {"frames": 10, "returns": {"team": [1.0, 3.0]}, "metrics": {"length": [4.0, 4.0]}}


# ------------------------------------------------------------------------------------------ records


def test_scalars() -> None:
    assert scalars("evaluations", EVALUATION) == {
        "evaluation/return/team": 2.0, "evaluation/info/length": 4.0
    }  # fmt: skip
    assert scalars("timing", {"frames": 1, "collect": 2.0}) == {"timing/collect": 2.0}
    assert scalars("metrics", {"frames": 1, "kl/team": 0.1}) == {"kl/team": 0.1}


def test_what_is_not_a_number_is_left_out() -> None:
    assert drop_nonfinite({"a": 1.0, "b": float("nan"), "c": float("inf")}) == {"a": 1.0}


def test_rewinding_cuts_what_came_after(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path)
    sink.log("metrics", {"frames": 1})
    position = sink.position()
    sink.log("metrics", {"frames": 2})
    sink.log("evaluations", EVALUATION)
    sink.rewind(position)
    sink.log("metrics", {"frames": 3})
    sink.close()
    assert read_jsonl(tmp_path / "metrics.jsonl") == [{"frames": 1}, {"frames": 3}]
    assert (tmp_path / "evaluations.jsonl").read_bytes() == b""


def test_half_a_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"frames": 1}\n{"frames": 2, "los')
    assert read_jsonl(path) == [{"frames": 1}]


def test_every_record_is_strict_json(tmp_path: Path) -> None:
    """NaN is no JSON; others' parsers refuse it."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    experiment(tmp_path / "run").run()
    for name in ("metrics", "evaluations", "timing"):
        for line in (tmp_path / "run" / f"{name}.jsonl").read_text().splitlines():
            json.loads(line, parse_constant=refuse)


# -------------------------------------------------------------------------------------------- sinks


def test_wandb_offline_is_read_back(tmp_path: Path) -> None:
    child = start_training(tmp_path / "run", wandb=True, total_frames=80)
    result = child.wait()
    assert result.code == 0, result
    assert "wandb    offline, in " in result.out and "run/wandb/offline-run-" in result.out
    assert "upload it with: wandb sync " in result.out
    run, history = wandb_records(tmp_path / "run" / "wandb")
    config = run["config"]["update"]
    assert (run["project"], run["display_name"]) == ("marl", "run")
    assert config["settings"]["seed"] == 0 and config["settings"]["num_envs"] == 4
    assert config["teams"]["team"]["algorithm"]["chunk_length"] == 5
    own = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    logged = [row for row in history if "policy_loss/team" in row]
    for name in ("policy_loss/team", "kl/team", "return/team"):
        assert [row[name] for row in logged] == pytest.approx([row[name] for row in own])
    returns = [row["evaluation/return/team"] for row in history if "evaluation/return/team" in row]
    evaluated = read_jsonl(tmp_path / "run" / "evaluations.jsonl")
    assert returns == pytest.approx([np.mean(r["returns"]["team"]) for r in evaluated])
    assert {row["frames"] for row in history} == {0, 40, 80}


def test_wandb_groups_tags_and_names(tmp_path: Path) -> None:
    words = {"wandb_group": "seeds", "wandb_tags": ["toy", "ppo"], "wandb_name": "first"}
    child = start_training(tmp_path / "run", wandb=True, total_frames=40, **words)
    assert child.wait().code == 0
    run, _ = wandb_records(tmp_path / "run" / "wandb")
    assert (run["run_group"], run["display_name"]) == ("seeds", "first")
    assert run["tags"] == ["toy", "ppo"]
    assert run["run_id"] == (tmp_path / "run" / "wandb_id").read_text()


def test_wandb_refuses_tags_that_are_none() -> None:
    with pytest.raises(UserError, match="'' is not a tag"):
        Settings(wandb_tags=[""])


def test_a_run_under_an_agent_joins_the_sweep(tmp_path: Path, monkeypatch) -> None:
    """As ``wandb agent`` starts it: the sweep knows the run by its own name already."""
    point = tmp_path / "config-a1.yaml"
    point.write_text("wandb_version: 1\nalgorithm.gamma: {value: 0.9}\n")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep7")
    monkeypatch.setenv("WANDB_RUN_ID", "agents1")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(point))
    result = start_training(tmp_path / "run", wandb=True, total_frames=40).wait()
    assert result.code == 0, result
    run, history = wandb_records(tmp_path / "run" / "wandb")
    assert (run["run_id"], run["sweep_id"], run["project"]) == ("agents1", "sweep7", "theirs")
    assert run["config"]["update"]["algorithm.gamma"] == 0.9
    assert run["config"]["update"]["settings"]["num_envs"] == 4
    assert (tmp_path / "run" / "wandb_id").read_text() == "agents1"
    assert any("evaluation/return/team" in row for row in history)


def test_tensorboard_is_read_back(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    experiment(tmp_path / "run", tensorboard=True, total_frames=80).run()
    found = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    own = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    got = {event.step: event.value for event in found.Scalars("policy_loss/team")}
    assert got == pytest.approx({r["frames"]: r["policy_loss/team"] for r in own})
    assert [event.step for event in found.Scalars("evaluation/return/team")] == [0, 80]


def test_progress_off_a_terminal_is_plain_lines(capsys) -> None:
    sink = ProgressSink(1000, interval=0.0)
    sink.log("timing", {"frames": 40, "frames_per_second": 1234.0})
    sink.log("evaluations", {**EVALUATION, "frames": 80})
    sink.close()
    first, second = capsys.readouterr().out.splitlines()
    assert "40/1,000 frames" in first and "1,234 frames/s" in first
    assert "80/1,000 frames" in second and "return team 2.00 (at 80)" in second


def test_progress_off_a_terminal_tells_the_time_left(monkeypatch, capsys) -> None:
    times = iter([1.0] * 3 + [61.0] * 3)
    monkeypatch.setattr("marl.training.logging.time.monotonic", lambda: next(times))
    sink = ProgressSink(1000, interval=0.0)
    sink.log("timing", {"frames": 100})
    sink.log("timing", {"frames": 700})
    assert capsys.readouterr().out.splitlines()[-1].endswith("left 0:00:30")


def test_progress_lines_are_rare(capsys) -> None:
    sink = ProgressSink(1000)
    for frames in range(0, 1000, 10):
        sink.log("metrics", {"frames": frames, "return/team": 1.0})
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    sink = ProgressSink(1000)
    sink.log("metrics", {"frames": 500, "return/team": 1.0})
    assert sink.bar is not None and sink.bar.tasks[0].completed == 500
    sink.close()
    assert "return team 1.00 (at 500)" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------- pictures


def test_curve(tmp_path: Path) -> None:
    lines = [{**EVALUATION, "frames": frames} for frames in (0, 10, 20)]
    (tmp_path / "evaluations.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "random.json").write_text(json.dumps(EVALUATION))
    assert imageio.imread(report.draw_curve(tmp_path)).std() > 1


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_videos(tmp_path: Path, name: str) -> None:
    frames = [np.full((33, 47, 3), 80 * i, dtype=np.uint8) for i in range(4)]
    found = imageio.mimread(report.write_video(frames, tmp_path / name))
    assert len(found) == 4 and found[0].shape[:2] == (32, 46)
    assert abs(int(found[2][10, 10, 0]) - 160) < 12


@pytest.mark.parametrize("name", ["film.avi", "film", "none/film.gif"])
def test_videos_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        report.write_video([], tmp_path / name)


def test_a_video_that_was_not_written_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ffmpeg prints that it cannot write, and imageio raises nothing; an old file goes too."""
    frames = [np.zeros((32, 32, 3), dtype=np.uint8)]
    (tmp_path / "film.mp4").write_text("old")
    (tmp_path / "folder.mp4").mkdir()
    monkeypatch.setattr(imageio, "mimsave", lambda *_, **__: None)
    with pytest.raises(UserError, match="cannot be written there; choose another folder"):
        report.write_video(frames, tmp_path / "film.mp4")
    with pytest.raises(UserError, match=r"folder.mp4' cannot be written: "):
        report.write_video(frames, tmp_path / "folder.mp4")


# -------------------------------------------------------------------------------- configs and seeds


def test_dataclasses_to_json_and_back(tmp_path: Path) -> None:
    config = {**experiment(tmp_path / "run").config(), "more": [Settings(seed=7), None, 1.5, "x"]}
    assert from_plain(json.loads(json.dumps(to_plain(config)))) == config


def test_seeds_of_purposes_do_not_meet() -> None:
    seeds = [derive(s, p) for s in range(50) for p in ("training", "acting", "torch", "numpy")]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**31 for seed in seeds)
    assert all(training_seed(s) % 2 == 0 and evaluation_seed(s, 0) % 2 == 1 for s in range(20))
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
