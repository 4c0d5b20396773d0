"""A run directory has one owner: nobody else writes there, and nothing of it is lost."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from marl.algorithms.mappo import MAPPOConfig
from marl.algorithms.scripted import FrozenConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.training import provenance, run_claim, run_directory
from marl.training.selfplay import SelfPlayConfig
from marl.training.teams import Team
from marl.utils.files import LOCK, Lock, Taken
from marl.utils.jsonl import read_jsonl
from marl.utils.trust import accept_all
from tests.helpers.crashes import files
from tests.helpers.experiments import SHORT, WORDS, equal, experiment, outcome
from tests.helpers.processes import cli, start_cli, start_training

# --------------------------------------------------------------------------------- one at a time


class During:
    """A sink that does something at the ``number``-th record."""

    def __init__(self, number: int, what: Callable[[], None]):
        self.left, self.what = number, what

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            self.what()

    def close(self) -> None: ...


def refused(directory: Path) -> None:
    with pytest.raises(Taken, match=rf"process {os.getpid()} on {socket.gethostname()}; wait"):
        Experiment.load(directory).run()


def test_who_loads_a_run_that_trains_touches_nothing(tmp_path: Path) -> None:
    """Several records after its last checkpoint, which loading used to cut off."""
    directory, looked = tmp_path / "run", []

    def meddle() -> None:
        before = files(directory)
        Experiment.load(directory, total_frames=10_000).film()
        refused(directory)
        result = cli(tmp_path, "resume", "run", "total_frames=500")
        assert result.code == 2 and f"by process {os.getpid()} on" in result.err, result
        looked.append(files(directory) == before)

    experiment(directory, sinks=[During(12, meddle)], checkpoint_interval=1000).run()
    assert looked == [True]
    experiment(tmp_path / "alone", checkpoint_interval=1000).run()
    assert equal(outcome(directory), outcome(tmp_path / "alone"))


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    child = start_training(tmp_path / "run", total_frames=100_000)
    child.wait_for(tmp_path / "run" / "metrics.jsonl", 2)
    with pytest.raises(Taken, match=f"process {child.process.pid} on"):
        Lock(tmp_path / "run").check()
    child.kill()
    child.wait()
    Experiment.load(tmp_path / "run", total_frames=240).run()


def test_a_run_that_went_on_elsewhere_is_loaded_again(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run")
    old = Experiment.load(tmp_path / "run")
    run.run()
    before = files(tmp_path / "run")
    with pytest.raises(Taken, match="was trained on since it was loaded"):
        old.run()
    assert files(tmp_path / "run") == before


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.warns(UserWarning, match="keeps no locks"), Lock(tmp_path).hold():
        pass


# ------------------------------------------------------------------------------------ beginning


def create_at_once(directory: Path, numbered: bool, monkeypatch) -> list[Path | Taken]:
    """What eight threads get."""
    monkeypatch.setattr(provenance, "provenance", lambda _: {})
    barrier, found = threading.Barrier(8), []

    def create() -> None:
        barrier.wait()
        try:
            found.append(run_claim.create(directory, {"settings": {}}, numbered))
        except Taken as error:
            found.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_one_of_many_gets_a_directory(tmp_path: Path, monkeypatch) -> None:
    found = create_at_once(tmp_path / "deep" / "run", False, monkeypatch)
    assert sorted(isinstance(one, Taken) for one in found) == [False] + [True] * 7


def test_all_get_a_directory_that_nobody_named(tmp_path: Path, monkeypatch) -> None:
    found = create_at_once(tmp_path / "run", True, monkeypatch)
    expected = ["run", *(f"run-{number}" for number in range(2, 9))]
    assert sorted(Path(str(one)).name for one in found) == expected


def test_runs_that_begin_in_one_second_all_run(tmp_path: Path) -> None:
    words = ["task=tests.helpers.toy_envs:identity", "video=false", *WORDS, "total_frames=40"]
    children = [start_cli(tmp_path, "train", *words) for _ in range(3)]
    assert [child.wait().code for child in children] == [0, 0, 0]
    assert len(list((tmp_path / "runs").glob("*/config.json"))) == 3


def test_a_run_killed_before_it_began_leaves_its_directory_free(tmp_path: Path) -> None:
    for name in (LOCK, "provenance.json", ".config.json.123.tmp"):
        (tmp_path / name).write_text("")
    experiment(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(Taken, match="is not empty"):
        experiment(tmp_path)


# -------------------------------------------------------------------------------- what was lost


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("finished") / "run"
    experiment(directory, absolute_episodes=2).run()
    return directory


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def check_refused(directory: Path, words: str, **changes: Any) -> None:
    before = files(directory)
    with pytest.raises(UserError, match=words) as error:
        Experiment.load(directory, **changes)
    assert "\n" not in str(error.value) and files(directory) == before


@pytest.mark.parametrize("kind", ["metrics", "evaluations", "timing"])
@pytest.mark.parametrize("size", [None, -1])
def test_lost_records_are_not_made_up(copy: Path, kind: str, size: int | None) -> None:
    path = copy / f"{kind}.jsonl"
    path.write_bytes(b"" if size is None else path.read_bytes()[:size])
    check_refused(copy, rf"{kind}.jsonl' holds [\d,]+ bytes, and .* records were lost")


@pytest.mark.parametrize("lost", ["checkpoints/frames-*", "checkpoints/*"])
@pytest.mark.parametrize("older", [False, True])
def test_lost_checkpoints_are_not_trained_anew(copy: Path, lost: str, older: bool) -> None:
    for path in copy.glob(lost):
        path.unlink()
    for name in (LOCK, run_claim.CHECKPOINTED) if older else ():
        (copy / name).unlink()
    best = ".*its best policies remain" if lost.endswith("frames-*") else ""
    check_refused(copy, rf"the checkpoints to resume .* are missing \(it played 240 frames\){best}")


def test_a_run_without_a_checkpoint_yet_says_so(tmp_path: Path) -> None:
    run = experiment(tmp_path / "run", evaluation_interval=0, checkpoint_interval=200)
    run._iterate()
    run.log.close()
    result = cli(tmp_path, "resume", "run")
    assert result.code == 0 and "no checkpoint yet: the run starts from its beginning" in result.out
    assert len(read_jsonl(tmp_path / "run" / "metrics.jsonl")) == 6


# ---------------------------------------------------------------------------------- going on


def test_the_absolute_metric_of_a_longer_run_is_its_own(copy: Path) -> None:
    (copy / "curve.png").write_text("old")
    (copy / "video.mp4").write_text("old")
    (copy / "absolute.json").write_text('{"team": "old"}')
    meanwhile: list[str] = []
    run = Experiment.load(copy, total_frames=400)
    run.log.sinks.append(During(1, lambda: meanwhile.extend(p.name for p in copy.iterdir())))
    run.run()
    assert {"absolute.json", "curve.png", "video.mp4"}.isdisjoint(meanwhile) and meanwhile
    best = run.checkpoints.best("team")
    measured = json.loads((copy / "absolute.json").read_text())["team"]
    assert best is not None and measured["frames"] == int(best.stem[-12:])


def test_a_finished_run_stays_as_it_is(copy: Path) -> None:
    before = files(copy)
    Experiment.load(copy).run()
    assert files(copy) == {**before, LOCK: (copy / LOCK).read_bytes()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"total_frames": 239}, "total_frames=239 is less than the 240 frames that .* has played"),
        ({"total_frames": float("inf")}, "total_frames=inf is not a whole number"),
        ({"total_frames": float("nan")}, "total_frames=nan is not a whole number"),
        ({"total_frames": "400"}, "total_frames='400' is not a whole number"),
        ({"total_frames": True}, "total_frames=True is not a whole number"),
        ({"threads": -1}, "threads=-1 is out of range"),
        ({"threads": 1.5}, "threads=1.5 is not a whole number"),
        ({"replay_gib": float("nan")}, "replay_gib=nan is not a number"),
        ({"progress": "yes"}, "progress='yes' is not true or false"),
        ({"device": 0}, "device=0 is not text"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"wandb_tags": "a"}, "wandb_tags='a' is not a list of texts"),
        ({"total_frame": 400}, "unknown setting 'total_frame'; did you mean 'total_frames'"),
    ],
    ids=str,
)
def test_changes_are_checked_before_anything_is_written(
    copy: Path, changes: dict, words: str
) -> None:
    check_refused(copy, words, **changes)


def test_changes_are_kept(copy: Path) -> None:
    before = json.loads((copy / "config.json").read_text())
    Experiment.load(copy, total_frames=2.8e2).run()
    after = json.loads((copy / "config.json").read_text())
    assert after["settings"].pop("total_frames") == 280
    assert before["settings"].pop("total_frames") == 240 and after == before
    assert Experiment.load(copy).frames == 280


# -------------------------------------------------------------------------------------- moving


def duel(folder: Path, **selfplay: Any) -> Experiment:
    """Two teams that learn, without memories."""
    settings = Settings(**{**SHORT, "total_frames": 80}, selfplay=SelfPlayConfig(**selfplay))
    task, config = Task("tests.helpers.toy_envs:rivals"), MAPPOConfig(epochs=1)
    return Experiment(task, config, Perceptron([8]), settings=settings, directory=folder)


def referring(folder: Path, first: str | Path) -> Experiment:
    """A run against the policies of ``first`` and its past."""
    frozen = {"right": Team(None, FrozenConfig(str(first)))}
    return experiment(folder, task="rivals", teams=frozen, total_frames=80)


def played(folder: Path) -> Experiment:
    run = experiment(folder, task="rivals", total_frames=80)
    run.run()
    return run


@pytest.mark.parametrize("file", [False, True])
def test_runs_move_with_those_they_refer_to(tmp_path: Path, file: bool) -> None:
    last = played(tmp_path / "here" / "deep" / "first").checkpoints.last()
    assert last is not None
    referring(tmp_path / "here" / "second", last if file else last.parents[1]).run()
    (tmp_path / "here").rename(tmp_path / "there")
    run = Experiment.load(tmp_path / "there" / "second", total_frames=160)
    run.run()  # which writes its configuration anew
    (tmp_path / "there").rename(tmp_path / "elsewhere")
    second = tmp_path / "elsewhere" / "second"
    result = cli(tmp_path, "evaluate", str(second), "--episodes", "2")
    assert result.code == 0, result
    shutil.rmtree(tmp_path / "elsewhere" / "deep")
    before = files(second)
    with pytest.raises(
        UserError, match=r"run or checkpoint file '.*first.*' of a frozen team does not"
    ):
        Experiment.load(second)
    assert files(second) == before


def test_a_project_moves_with_its_environment(tmp_path: Path) -> None:
    """Its own file of an environment, and one of an algorithm, lie where they lay from the run."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    shutil.copy(Path(__file__).parents[1] / "helpers/tiny_env.py", old / "env.py")
    algorithm = "from dataclasses import dataclass\nfrom marl import MAPPOConfig\n\n\n"
    algorithm += "@dataclass\nclass Mine(MAPPOConfig):\n    pass\n"
    (old / "algorithm.py").write_text(algorithm)
    words = [word for word in WORDS if not word.startswith("total_frames")]
    words += ["task=./env.py:Tiny", "algorithm=./algorithm.py:Mine", "total_frames=40"]
    (old / "parts.py").write_text("def ended(transition):\n    return transition.done.float()\n")
    words += ["task.wrappers=[{metric: ./parts.py:ended}]"]
    assert cli(old, "train", *words, "directory=runs/one").code == 0
    old.rename(new)
    refusal = cli(tmp_path, "resume", "new/runs/one", "total_frames=80")
    assert refusal.code == 2 and "if the project was moved, add --trust" in refusal.err
    result = cli(tmp_path, "resume", "new/runs/one", "total_frames=80", "--trust")
    assert result.code == 0, result
    with accept_all():
        config = run_directory.read_config(new / "runs/one")
    assert config["task"].name == f"{new / 'env.py'}:Tiny"
    assert config["task"].wrappers == [{"metric": f"{new / 'parts.py'}:ended"}]


def test_a_run_may_move_alone(tmp_path: Path) -> None:
    played(tmp_path / "first")
    referring(tmp_path / "second", tmp_path / "first").run()
    (tmp_path / "away").mkdir()
    (tmp_path / "second").rename(tmp_path / "away" / "second")
    assert Experiment.load(tmp_path / "away" / "second").frames == 80


def test_selfplay_moves_with_the_runs_it_begins_with(tmp_path: Path) -> None:
    duel(tmp_path / "here" / "first").run()
    duel(tmp_path / "here" / "second", share=0.5, runs=[str(tmp_path / "here" / "first")])
    (tmp_path / "here").rename(tmp_path / "there")
    run = Experiment.load(tmp_path / "there" / "second")
    assert len(run.selfplay.pools["left"].snapshots) == 2
    shutil.rmtree(tmp_path / "there" / "first")
    with pytest.raises(UserError, match=r"selfplay.runs: run or checkpoint file .*first'"):
        Experiment.load(tmp_path / "there" / "second")


def test_damaged_returns_of_random_play_are_measured_again(tmp_path: Path) -> None:
    words = [word for word in WORDS if not word.startswith("total_frames")]
    words += ["task=tests.helpers.toy_envs:identity", "total_frames=40", "directory=run"]
    assert cli(tmp_path, "train", *words).code == 0
    path = tmp_path / "run/random.json"
    before = path.read_text()
    path.write_text("")
    assert cli(tmp_path, "resume", "run", "total_frames=80").code == 0
    assert path.read_text() == before
