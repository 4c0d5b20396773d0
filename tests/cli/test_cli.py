"""The command line as a user meets it: what it writes, and what it says to mistakes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import imageio.v2 as imageio
import pytest
from hydra.errors import MissingConfigException

from marl.cli import commands, compose, config_errors, speed
from marl.cli.main import COMMANDS
from marl.training.checkpoint import Checkpoints
from marl.utils.jsonl import read_jsonl
from tests.helpers.cli import TOY, called
from tests.helpers.processes import ROOT, cli


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The directory that ``marl train ... directory=run`` was called in."""
    folder = tmp_path_factory.mktemp("cli")
    result = cli(folder, "train", *TOY, "directory=run", "seed=3")
    assert result.code == 0, result
    (folder / "words").write_text(result.out)
    return folder


# --------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(capsys, command: str) -> None:
    code, out, _ = called(capsys, command, "--help")
    assert code == 0 and "example" in out and f"marl {command} " in out


def test_help_names_all_commands(capsys) -> None:
    code, out, _ = called(capsys, "--help")
    assert code == 0
    assert all(word in out for word in (*COMMANDS, "example:"))


def test_as_a_module() -> None:
    words = [sys.executable, "-m", "marl", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "train" in done.stdout and not done.stderr


@pytest.mark.parametrize(
    ("what", "some"),
    [
        ("tasks", {"vmas/balance", "mpe2/simple_spread_v3"}),
        ("algorithms", {"mappo", "ippo", "random", "scripted", "frozen"}),
        ("models", {"mlp", "gru", "cnn"}),
        ("experiments", {"default"}),
        ("sweeps", {"mappo", "maddpg", "hasac", "bayes", "informarl"}),
    ],
)
def test_lists(capsys, what: str, some: set[str]) -> None:
    code, out, _ = called(capsys, "list", what)
    assert code == 0 and some <= set(out.split())


def test_experiments_are_listed_with_their_first_sentences(capsys) -> None:
    _, out, _ = called(capsys, "list", "experiments")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["default"].startswith("The run of `make train`: four agents")
    assert not any("@package" in text for text in lines.values())


# -------------------------------------------------------------------------------------- a whole run


def test_nobody_reads_on() -> None:
    """As in ``marl list tasks | head``, once head has gone."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "marl", "list", "tasks"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_training_says_where_everything_lies(trained: Path) -> None:
    out = (trained / "words").read_text()
    for word in (
        "run ",
        "return   team:",
        "at frame 240; random play:",
        "record ",
        "curve ",
        "weights ",
        "video ",
    ):
        assert word in out
    said = [line.split(maxsplit=1) for line in out.splitlines()]
    named = [path for word, path in said if word not in ("return", "team")]
    assert all((trained / name).exists() for name in named)


def test_training_writes_records_and_pictures(trained: Path) -> None:
    run = trained / "run"
    assert [r["frames"] for r in read_jsonl(run / "evaluations.jsonl")] == [0, 80, 160, 240]
    assert imageio.imread(run / "curve.png").shape[0] > 200
    assert len(imageio.mimread(run / "video.mp4")) >= 1
    config = json.loads((run / "config.json").read_text())
    assert (
        config["settings"]["seed"] == 3
        and config["task"]["name"] == "tests.helpers.toy_envs:identity"
    )
    assert config["teams"]["team"]["algorithm"]["epochs"] == 1
    assert len(json.loads((run / "random.json").read_text())["returns"]["team"]) == 3


def test_evaluate(trained: Path) -> None:
    result = cli(trained, "evaluate", "run", "--episodes", "5", "--json", "--video", "film.gif")
    assert result.code == 0, result
    found = json.loads(result.out)
    assert len(found["returns"]["team"]) == 5 and found["frames"] == 240
    assert len(found["metrics"]["length"]) == 5
    assert (trained / "film.gif").read_bytes()[:4] == b"GIF8" and "film.gif" in result.err


def test_evaluate_in_words_with_options(trained: Path) -> None:
    plain = cli(trained, "evaluate", "run", "--best", "--seed", "4")
    assert plain.code == 0 and "over 32 episodes" in plain.out and "best-" in plain.out
    assert cli(trained, "evaluate", "run", "--best", "--seed", "4").out == plain.out
    sampled = cli(trained, "evaluate", "run", "--best", "--seed", "4", "--sample")
    assert sampled.code == 0 and sampled.out != plain.out


def test_evaluate_a_file(trained: Path) -> None:
    first = sorted((trained / "run" / "checkpoints").glob("frames-*.pt"))[0]
    for where, path in ((trained, str(first)), (first.parent, first.name)):
        result = cli(where, "evaluate", path, "--episodes", "1", "--json")
        assert first.name == f"frames-{json.loads(result.out)['frames']:012d}.pt"


def test_evaluate_a_corrupt_checkpoint_falls_back(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    before, last = sorted((tmp_path / "run" / "checkpoints").glob("frames-*.pt"))
    last.write_bytes(last.read_bytes()[:-1])
    result = cli(tmp_path, "evaluate", "run", "--episodes", "1", "--json")
    assert result.code == 0 and json.loads(result.out)["checkpoint"].endswith(before.name)
    assert "corrupt" in result.err


def test_frames_are_said_in_whole_iterations_once(capsys, tmp_path: Path) -> None:
    words = [*TOY, "total_frames=50", "video=false", "progress=true", f"directory={tmp_path / 'a'}"]
    code, out, _ = called(capsys, "train", *words)
    assert code == 0 and out.count("frames   80 for the 50 asked, in whole iterations of 40\n") == 1
    assert "0/80 frames" in out and "/50" not in out
    code, out, _ = called(capsys, "resume", str(tmp_path / "a"), "total_frames=120")
    assert code == 0 and " asked, " not in out and "/120 frames" in out


def test_resume_measures_the_absolute_metric_that_is_asked_for(
    capsys, trained: Path, tmp_path: Path
) -> None:
    """Of a finished run too; again where it became better or other episodes are asked for."""
    shutil.copytree(trained / "run", tmp_path / "run")
    path, played = tmp_path / "run" / "absolute.json", []
    for words in (["absolute_episodes=4"], ["absolute_episodes=5"], ["total_frames=320"]):
        assert called(capsys, "resume", str(tmp_path / "run"), "progress=false", *words)[0] == 0
        found = json.loads(path.read_text())["team"]
        best = Checkpoints(tmp_path / "run" / "checkpoints").best("team")
        assert best is not None and best.name == f"best-team-{found['frames']:012d}.pt"
        played.append(len(found["returns"]["team"]))
    assert played == [4, 5, 5]
    code, _, err = called(capsys, "resume", str(tmp_path / "run"), "num_envs=2")
    assert code == 2 and "resume changes only total_frames, absolute_episodes" in err


def test_resume_to_more_frames(capsys, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    words = [str(tmp_path / "run"), "total_frames=2.8e2", "progress=false"]
    assert called(capsys, "resume", *words)[0] == 0
    records = read_jsonl(tmp_path / "run" / "evaluations.jsonl")
    assert records[-1]["frames"] == 280
    before = (trained / "run" / "evaluations.jsonl").read_text()
    assert (tmp_path / "run" / "evaluations.jsonl").read_text().startswith(before)


def test_speed(capsys, tmp_path: Path) -> None:
    words = [*TOY, "--iterations", "2", "--json", str(tmp_path / "speed.jsonl")]
    code, out, _ = called(capsys, "speed", *words)
    assert code == 0 and "frames/s" in out
    (figures,) = read_jsonl(tmp_path / "speed.jsonl")
    parts = figures["seconds_per_iteration"]
    assert set(parts) == {"collect", "update", "evaluate"} and min(parts.values()) > 0
    expected = 40 / (parts["collect"] + parts["update"])
    assert figures["frames_per_second"] == pytest.approx(expected)
    assert os.listdir(tmp_path) == ["speed.jsonl"]


def test_speed_says_how_far_it_is(monkeypatch, capsys) -> None:
    seconds = iter(range(0, 100, 3))
    monkeypatch.setattr(speed.time, "monotonic", lambda: next(seconds))
    numbers = list(speed.iterations(Namespace(warmup=1, iterations=2)))
    lines = capsys.readouterr().err.splitlines()
    assert numbers == [-1, 0, 1]
    assert lines == ["iteration 1/3 (warm-up)  left 0:06", "iteration 2/3 (timed 1)  left 0:03"]


def test_speed_of_the_environment_alone(capsys, tmp_path: Path) -> None:
    words = [*TOY, "--environment", "--json", str(tmp_path / "speed.jsonl")]
    code, out, _ = called(capsys, "speed", *words)
    assert code == 0 and "steps of the environment" in out
    (figures,) = read_jsonl(tmp_path / "speed.jsonl")
    assert figures["algorithm"] == "environment alone" and figures["agents"] == 3
    rate = figures["steps"] * figures["num_envs"] / figures["seconds_per_iteration"]["step"]
    assert figures["frames_per_second"] == pytest.approx(rate)


def test_multirun(tmp_path: Path) -> None:
    words = ["total_frames=40", "video=false", "progress=false", "-m", "seed=0,1"]
    result = cli(tmp_path, "train", *TOY, *words)
    assert result.code == 0, result
    found = sorted(path.name for path in (tmp_path / "runs").glob("*-seed*"))
    assert len(found) == 2 and "seed0" in found[0] and "seed1" in found[1]
    assert result.out.startswith("multirun 2 runs, one after another\n")


@pytest.mark.slow
def test_a_grid_in_jobs_of_submitit(tmp_path: Path) -> None:
    """As on Slurm: every run in a process of its own, from a pickled job; of one seed, at one
    moment, each in its own directory."""
    words = ["total_frames=40", "video=false", "progress=false", "-m", "algorithm.gamma=0.8,0.9"]
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]
    result = cli(tmp_path, "train", *TOY, *words, *launcher)
    assert result.code == 0, result
    said = "multirun 2 runs, submitted by submitit_local; waiting for them to end\nlogs     "
    assert result.out.startswith(said) and "runs/.multirun/.submitit/JOB" in result.out
    found = sorted((tmp_path / "runs").glob("*-seed0-*-job?"), key=lambda path: path.name[-1])
    configs = [json.loads((path / "config.json").read_text()) for path in found]
    assert [c["teams"]["team"]["algorithm"]["gamma"] for c in configs] == [0.8, 0.9]
    assert all((path / "curve.png").exists() for path in found)
    assert list((tmp_path / "runs" / ".multirun" / ".submitit").glob("*/*_log.out"))


def test_launchers_that_are_not_there(capsys, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    code, _, err = called(capsys, "train", *TOY, "-m", "hydra/launcher=submitit_slurm")
    assert code == 2 and "no Slurm here" in err
    monkeypatch.setattr(sys, "argv", ["marl"])
    code, _, err = called(capsys, "train", *TOY, "-m", "hydra/launcher=submitit_locl")
    assert code == 2 and "unknown hydra/launcher 'submitit_locl'; did you mean" in err
    missing = MissingConfigException("", "hydra/launcher/submitit_slurm", ["basic"])
    assert "pip install 'marl-groups[slurm]'" in str(config_errors.missing_choice(missing))


def test_a_stopped_run_under_hydra_ends_with_its_code(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(commands, "run", lambda *_, **__: 143)
    monkeypatch.setattr(compose, "build", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["marl"])
    assert called(capsys, "train", *TOY, "--config-dir", str(tmp_path))[0] == 143


# --- mistakes in what is there


def test_bad_videos(capsys, trained: Path, monkeypatch) -> None:
    monkeypatch.chdir(trained)
    for name, said in (
        ("film.avi", ".mp4 or .gif"),
        ("no/film.gif", "directory 'no' for the video"),
    ):
        code, _, err = called(capsys, "evaluate", "run", "--video", name)
        assert code == 2 and said in err and err.count("\n") == 1


def test_evaluating_with_a_negative_seed(capsys, trained: Path, monkeypatch) -> None:
    monkeypatch.chdir(trained)
    code, _, err = called(capsys, "evaluate", "run", "--seed", "-1")
    assert code == 2 and "seed" in err


def test_training_into_a_used_directory(capsys, trained: Path, monkeypatch) -> None:
    monkeypatch.chdir(trained)
    before = {p: p.read_bytes() for p in (trained / "run").rglob("*") if p.is_file()}
    code, _, err = called(capsys, "train", *TOY, "directory=run")
    assert code == 2 and "is not empty" in err
    assert before == {p: p.read_bytes() for p in (trained / "run").rglob("*") if p.is_file()}


def test_evaluate_with_more_agents(capsys, tmp_path: Path, monkeypatch) -> None:
    """Trained with three: what the settings change is the task, and only in this evaluation."""
    monkeypatch.chdir(tmp_path)
    words = ["task=navigation/target", "model=informarl", "model.hidden=[8]", "total_frames=40"]
    words += ["num_envs=2", "steps=20", "evaluation_episodes=2", "video=false", "progress=false"]
    assert called(capsys, "train", *words, "directory=run")[0] == 0
    made = (tmp_path / "run" / "config.json").read_text()
    larger = ["task.kwargs.N=10", "task.kwargs.world_size=5"]
    code, said, _ = called(capsys, "evaluate", "run", "--episodes", "3", *larger, "--json")
    assert code == 0
    distance = json.loads(said)["metrics"]["distance"]
    _, before, _ = called(capsys, "evaluate", "run", "--episodes", "3", "--json")
    assert sum(distance) > sum(json.loads(before)["metrics"]["distance"])
    assert (tmp_path / "run" / "config.json").read_text() == made
    for change, told in (
        ("task.kwargs.M=3", "unknown option 'M'"),
        ("task.nme=x", "unknown setting 'nme'; did you mean 'name'?"),
        ("task.kwargs.information=global", "does not fit here"),
    ):
        code, _, errors = called(capsys, "evaluate", "run", change)
        assert code == 2 and told in errors and errors.count("\n") == 1
    versus = ["--versus", "run2"]
    assert "leave out --versus" in called(capsys, "evaluate", "run", *larger, *versus)[2]
