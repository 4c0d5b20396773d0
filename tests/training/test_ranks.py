"""One run in two ranks over gloo: the same updates as alone, the same decisions, the same files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from marl.algorithms.hasac import HASACConfig
from marl.cli import commands
from marl.errors import UserError
from marl.experiment import Experiment
from marl.training.checkpoint import Checkpoints, load, of_rank
from marl.types import tree_tensors
from marl.utils import distributed
from marl.utils.jsonl import read_jsonl
from tests.helpers.builders import CPU, mappo
from tests.helpers.distributed import (
    OFF_POLICY,
    ON_POLICY,
    VALUE_BASED,
    cli_in_ranks,
    differ,
    share_words,
    start_ranks,
    train_in_ranks,
    train_replaying,
    updates,
    waited,
)
from tests.helpers.experiments import WORDS, equal, outcome
from tests.helpers.off_policy import Play
from tests.helpers.processes import ROOT, read_jsonl_safely
from tests.helpers.toy_envs import identity

LONG: dict[str, Any] = {"total_frames": 480, "checkpoint_interval": 120}


# ------------------------------------------------------------------------------- the same updates


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, Any]]:
    """What every algorithm is after an update of the whole batch, and in two ranks of halves."""
    folder = tmp_path_factory.mktemp("updates")
    children = [start_ranks(folder, size, updates, folder / "of") for size in (1, 2)]
    for result in waited([child for group in children for child in group]):
        assert result.code == 0, result
    return [torch.load(folder / name) for name in ("of1-0", "of2-0", "of2-1")]


@pytest.mark.parametrize("name", [*ON_POLICY, *OFF_POLICY, *VALUE_BASED])
def test_halves_move_as_the_whole(found: list[dict], name: str) -> None:
    whole, first, second = (each[name] for each in found)
    for what in whole.keys() - {"alive"}:
        for one, other in zip(whole[what], first[what], strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-4)
    for one, other in zip(first["weights"], second["weights"], strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_compiled_halves_move_as_the_whole(tmp_path: Path, found: list[dict]) -> None:
    """With the exchange inside the graph."""
    for result in waited(start_ranks(tmp_path, 2, updates, tmp_path / "of", True), 900):
        assert result.code == 0, result
    for name, compiled in torch.load(tmp_path / "of2-0").items():
        for what in compiled.keys() - {"alive"}:
            for one, other in zip(found[0][name][what], compiled[what], strict=True):
                torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-4)


def test_halves_have_different_counts(found: list[dict]) -> None:
    """Or means of means would pass."""
    alive = torch.cat(found[0]["ippo"]["alive"], dim=-1)
    one, other = alive.float().mean(-1).chunk(2)
    assert one.sum() != other.sum()


# ----------------------------------------------------------------------------------------- parts


def test_what_does_not_divide_is_named(tmp_path: Path, monkeypatch) -> None:
    for result in waited(train_in_ranks(tmp_path / "run", num_envs=3)):
        assert "UserError: num_envs=3 cannot be divided among 2 ranks; take num_envs=" in result.err
    monkeypatch.setattr(distributed, "_ranks", distributed.Ranks(size=2))
    with pytest.raises(UserError, match=r"minibatch_size=15 cannot .* take minibatch_size=16"):
        mappo("identity", minibatch_size=15)
    with pytest.raises(UserError, match=r"batch_size=33 cannot .* take batch_size=32"):
        Play(identity, HASACConfig(batch_size=33))


def test_parts(monkeypatch) -> None:
    assert distributed.share("num_envs", 7) == 7
    monkeypatch.setattr(distributed, "_ranks", distributed.Ranks(size=3))
    assert distributed.share("num_envs", 9) == 3
    with pytest.raises(UserError, match=r"batch_size=256 cannot .* 3 ranks; take batch_size=255"):
        distributed.share("batch_size", 256)


def test_other_weights_are_noticed(tmp_path: Path) -> None:
    for result in waited(start_ranks(tmp_path, 2, differ)):
        assert result.code == 1 and "the ranks began with different weights" in result.err


def test_a_metric_that_one_rank_alone_knows(tmp_path: Path) -> None:
    for result in waited(start_ranks(tmp_path, 2, share_words)):
        assert result.code == 0, result.err


# ------------------------------------------------------------------------------------ whole runs


def outcomes(directory: Path) -> dict[str, Any]:
    """As ``outcome``, with the state of the second rank."""
    last = Checkpoints(directory / "checkpoints").last()
    assert last is not None
    state = load(of_rank(last, 1), CPU)
    parts = {f"second_{name}": tree_tensors(part) for name, part in state.items()}
    return {**outcome(directory), **parts}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("reference") / "run"
    for result in waited(train_in_ranks(directory, **LONG)):
        assert result.code == 0, result
    return directory


def test_ranks_play_apart_and_agree(uninterrupted: Path) -> None:
    last = Checkpoints(uninterrupted / "checkpoints").last()
    assert last is not None
    one, other = (load(of_rank(last, rank), CPU) for rank in (0, 1))
    weights = [tree_tensors(s["teams"]["team"][k]) for k in ("policy", "critic", "value_norm",
               "optimizer") for s in (one, other)]  # fmt: skip
    for mine, theirs in zip(weights[::2], weights[1::2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert not torch.equal(one["collector"]["generator"], other["collector"]["generator"])
    assert not torch.equal(one["collector"]["obs"][0], other["collector"]["obs"][0])
    assert not torch.equal(one["random"]["torch"], other["random"]["torch"])
    assert one["frames"] == other["frames"] == 480
    assert one["collector"]["start"].shape == (2,)  # of num_envs=4


def test_the_first_rank_keeps_the_records(uninterrupted: Path) -> None:
    frames = [record["frames"] for record in read_jsonl(uninterrupted / "metrics.jsonl")]
    assert frames == list(range(40, 481, 40))
    evaluated = [record["frames"] for record in read_jsonl(uninterrupted / "evaluations.jsonl")]
    assert evaluated == list(range(0, 481, 80))
    files = sorted(p.name for p in (uninterrupted / "checkpoints").glob("*.pt"))
    kept = [name.partition("-")[2] for name in files if name.startswith("frames")]
    assert len(kept) == 2
    assert [f"rank1-{name}" for name in kept] == [n for n in files if n.startswith("rank1")]


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_signal_to_one_stops_all_and_resumes_exactly(
    tmp_path: Path, uninterrupted: Path, rank: int
) -> None:
    directory = tmp_path / "run"
    children = train_in_ranks(directory, **LONG)
    children[0].wait_for(directory / "metrics.jsonl", 2)
    children[rank].kill(signal.SIGTERM)
    assert [result.code for result in waited(children)] == [0, 0]
    frames = Checkpoints(directory / "checkpoints").load_last(CPU)[1]["frames"]
    assert 80 <= frames < 480
    assert len(read_jsonl(directory / "metrics.jsonl")) == frames / 40
    waited(train_in_ranks(directory, resume=True))
    assert equal(outcomes(directory), outcomes(uninterrupted))


def test_killed_or_damaged_it_resumes_exactly(tmp_path: Path, uninterrupted: Path) -> None:
    """The second rank's newest file is damaged: both fall back to the one before."""
    directory = tmp_path / "run"
    children = train_in_ranks(directory, **LONG)
    children[0].wait_for(directory / "metrics.jsonl", 8)
    for child in children:
        child.kill()
    waited(children)
    last = Checkpoints(directory / "checkpoints").all()[-1]
    of_rank(last, 1).write_bytes(b"damaged")
    results = waited(train_in_ranks(directory, resume=True))
    assert "falling back" in results[1].err, results
    assert equal(outcomes(directory), outcomes(uninterrupted))


def test_replays_resume_exactly(tmp_path: Path) -> None:
    """The second run has another checkpoint in between, and starts again from it."""
    for directory, resume, frames in (
        ("whole", False, 240),
        ("parts", False, 120),
        ("parts", True, 240),
    ):
        children = start_ranks(tmp_path, 2, train_replaying, tmp_path / directory, resume, frames)
        for result in waited(children):
            assert result.code == 0, result
    one, other = outcomes(tmp_path / "whole"), outcomes(tmp_path / "parts")
    assert len(one["replay"]) > 5 and one["metrics"].count(b"critic_loss") == 5
    ended = {"evaluations", "evaluated", "file", "second_evaluations"}  # the parts did so twice
    same = one.keys() - ended
    assert equal({name: one[name] for name in same}, {name: other[name] for name in same})


def test_another_number_of_ranks_is_refused(tmp_path: Path, uninterrupted: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    with pytest.raises(UserError, match="of 2 ranks, and here is 1; resume it with torchrun --npr"):
        Experiment.load(tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").glob("rank1-*"):
        file.unlink()
    for result in cli_in_ranks(tmp_path, 2, "resume", "run"):
        assert result.code == 2
        assert "of 1 ranks, and here are 2; resume it with marl alone" in result.err


def test_two_ranks_learn(tmp_path: Path) -> None:
    """4 for perfect play, about 1.2 by chance."""
    words = ["task=tests.helpers.toy_envs:identity", "task.kwargs.end=0", "num_envs=32", "steps=8",
             "total_frames=5120", "evaluation_interval=0", "progress=false", "video=false",
             "algorithm.actor_lr=1e-2", "algorithm.critic_lr=1e-2", "algorithm.epochs=4",
             "algorithm.gamma=0.9", "model.hidden=[32]", "directory=run"]  # fmt: skip
    first, second = cli_in_ranks(tmp_path, 2, "train", *words)
    assert first.code == second.code == 0, (first, second)
    assert second.out == "" and "return   team:" in first.out
    (record,) = read_jsonl(tmp_path / "run" / "evaluations.jsonl")
    returns = record["returns"]["team"]
    assert sum(returns) / len(returns) > 3.6


def test_hydra_is_not_for_ranks(monkeypatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        UserError, match="do not work under torchrun, which starts one run; leave out"
    ):
        commands.train(Namespace(settings=["-m", "seed=0,1"]))


@pytest.mark.slow
def test_torchrun_ends_all_ranks_on_sigterm(tmp_path: Path) -> None:
    """The command of the README, told to stop; then to the end."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
             "-m", "marl"]  # fmt: skip
    words = ["task=tests.helpers.toy_envs:identity", "directory=run", "video=false", *WORDS]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*start, "train", *words, "total_frames=40000", "evaluation_interval=0"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, text=True, stdout=subprocess.PIPE
    ) as run:
        while len(read_jsonl_safely(tmp_path / "run" / "metrics.jsonl")) < 3:
            assert run.poll() is None
            time.sleep(0.1)
        run.terminate()
        out, _ = run.communicate(timeout=60)
    assert "stopped and saved; continue with: marl resume run" in out
    frames = Checkpoints(tmp_path / "run" / "checkpoints").load_last(CPU)[1]["frames"]
    assert len(read_jsonl(tmp_path / "run" / "metrics.jsonl")) == frames / 40
    command = [*start, "resume", "run", f"total_frames={frames + 80}"]
    ended = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stdout.count("return   team:") == 1, ended
    assert len(read_jsonl(tmp_path / "run" / "metrics.jsonl")) == frames / 40 + 2
