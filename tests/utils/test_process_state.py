"""A run's process is its own while it is built and while it runs, and the caller's again after."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from marl.algorithms.mappo import MAPPOConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.utils import distributed, seeding
from marl.utils.process_state import ProcessState
from tests.helpers.builders import CPU
from tests.helpers.distributed import start_ranks, waited
from tests.helpers.experiments import SHORT, equal, outcome
from tests.helpers.tiny_env import Tiny


class Careless(Tiny):
    """Pays, and shows, what the global generators give: every step moves all three."""

    def observe(self, agent: Any) -> Any:
        drawn = np.random.rand(), random.random()  # noqa: NPY002  # the global ones are meant
        return np.array(drawn, np.float32)

    def reward(self, agent: Any, action: Any) -> float:
        return float(torch.rand(())) + action


def careless(directory: Path, seed: int = 0, threads: int = 1, sinks: Any = None) -> Experiment:
    return Experiment(
        Task("tests.utils.test_process_state:Careless"),
        MAPPOConfig(epochs=1, minibatch_size=20),
        Perceptron(hidden=[8]),
        settings=Settings(**{**SHORT, "seed": seed, "threads": threads}),
        directory=directory,
        sinks=sinks,
    )


def state() -> tuple[Any, ...]:
    """All that is the caller's of the process."""
    name, words, *rest = np.random.get_state()  # noqa: NPY002  # the global one is meant
    numpy = (name, np.asarray(words).tolist(), *rest)
    torch_state = torch.get_rng_state().tolist()
    return torch_state, numpy, random.getstate(), torch.get_num_threads(), dist.is_initialized()


@pytest.fixture
def caller() -> Iterator[None]:
    """A process that has been used, with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    _ = torch.rand(3), np.random.rand(3), random.gauss(0, 1)  # noqa: NPY002
    yield
    torch.set_num_threads(before)


class Look:
    """A sink that notes torch's threads, and at one record does what it is told."""

    def __init__(self, number: int = 0, action: Any = None):
        self.left, self.action = number, action
        self.threads: set[int] = set()

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        self.threads.add(torch.get_num_threads())
        self.left -= 1
        if self.left == 0:
            self.action()

    def close(self) -> None: ...


def test_making_and_running_leaves_the_process_as_it_was(caller, tmp_path: Path) -> None:
    before, look = state(), Look()
    run = careless(tmp_path / "run", sinks=[look])
    assert state() == before
    run.run()
    assert state() == before and look.threads == {1}
    Experiment.load(tmp_path / "run", total_frames=320).run()
    assert state() == before


def test_an_error_leaves_the_process_as_it_was(caller, tmp_path: Path) -> None:
    before = state()

    def fail() -> None:
        raise RuntimeError("of the sink")

    run = careless(tmp_path / "run", sinks=[Look(3, fail)])
    with pytest.raises(RuntimeError, match="of the sink"):
        run.run()
    assert state() == before
    with pytest.raises(UserError, match="is not empty"):
        careless(tmp_path / "run")
    assert state() == before


def test_runs_in_one_process_train_as_each_alone(caller, tmp_path: Path) -> None:
    """One runs in the midst of the other, both made before, in a process that draws as well."""
    alone = []
    for seed in (0, 1):
        careless(tmp_path / f"alone-{seed}", seed).run()
        alone.append(outcome(tmp_path / f"alone-{seed}"))
    assert alone[0]["metrics"] != alone[1]["metrics"]

    inner = careless(tmp_path / "inner", 1)
    outer = careless(tmp_path / "outer", 0, sinks=[Look(5, inner.run)])
    before = outer.process.random["python"]
    _ = random.random(), np.random.rand(), torch.rand(2)  # noqa: NPY002
    outer.run()
    assert equal(outcome(tmp_path / "inner"), alone[1])
    assert equal(outcome(tmp_path / "outer"), alone[0])
    assert outer.process.random["python"] != before  # it did draw from the global generators


def test_turns_in_one_process_are_as_alone(caller, tmp_path: Path) -> None:
    for seed in (0, 1):
        alone = careless(tmp_path / f"alone-{seed}", seed)
        with alone.process.use():
            for _ in range(3):
                alone._iterate()
        alone.save()
    runs = [careless(tmp_path / f"turns-{seed}", seed) for seed in (0, 1)]
    for _ in range(3):
        for run in runs:
            with run.process.use():
                run._iterate()
            _ = random.random(), np.random.rand(), torch.rand(2)  # noqa: NPY002
    for seed, run in enumerate(runs):
        run.save()
        assert _last(tmp_path / f"turns-{seed}") == _last(tmp_path / f"alone-{seed}")


def _last(directory: Path) -> str:
    found = outcome(directory)
    return str({name: found[name] for name in ("teams", "collector", "random", "frames")})


def test_weights_are_of_the_seed_alone(caller, tmp_path: Path) -> None:
    one = careless(tmp_path / "one")
    torch.manual_seed(7)
    torch.set_num_threads(1)
    other = careless(tmp_path / "other")
    for name, weight in one.teams["team"].policy.state_dict().items():  # type: ignore[attr-defined]
        assert torch.equal(weight, other.teams["team"].policy.state_dict()[name])  # type: ignore[attr-defined]
    assert one.process.random["python"] == other.process.random["python"]


def test_seeding_is_torchs_own() -> None:
    with seeding.fork_random_state(CPU):
        seeding.seed_everything(CPU, 5, "x")
        drawn = torch.rand(4)
        torch.manual_seed(seeding.derive(5, "torch", "x"))
        assert torch.equal(torch.rand(4), drawn)


def test_blocks_may_be_nested() -> None:
    process = ProcessState(CPU, 0)
    with process.use():
        torch.manual_seed(3)
        with process.use():
            first = torch.rand(2)
        second = torch.rand(2)
    torch.rand(5)
    with process.use():
        third = torch.rand(2)
    expected = torch.rand(6, generator=torch.Generator().manual_seed(3)).split(2)
    assert all(map(torch.equal, (first, second, third), expected))


# ------------------------------------------------------------------------------------------- ranks


def use_a_group_of_the_callers(folder: Path) -> None:
    """It serves the run, and is there afterwards."""
    dist.init_process_group("gloo")
    with distributed.joined(CPU):
        assert distributed.size() == 2
        with distributed.joined(CPU):
            careless(folder / "run").run()
        assert distributed.size() == 2
    assert distributed.size() == 1 and dist.is_initialized() and dist.get_world_size() == 2
    dist.destroy_process_group()


def test_a_process_group_of_the_callers_is_used_and_left(tmp_path: Path) -> None:
    for result in waited(start_ranks(tmp_path, 2, use_a_group_of_the_callers, tmp_path)):
        assert result.code == 0, result.err
    assert (tmp_path / "run/metrics.jsonl").exists()


def begin_and_end(folder: Path) -> None:
    with distributed.joined(CPU):
        careless(folder / "run").run()
        assert dist.is_initialized()
    assert not dist.is_initialized() and distributed.size() == 1


def test_joining_ends_with_its_block(tmp_path: Path) -> None:
    for result in waited(start_ranks(tmp_path, 2, begin_and_end, tmp_path)):
        assert result.code == 0, result.err


def test_ranks_that_have_not_joined_are_told_how(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"one of 2 .* within marl.utils.distributed.joined"):
        careless(tmp_path / "run")


# -------------------------------------------------------------------------------------- the command

QUIET = """
import torch
from marl.cli.main import main
torch.set_num_threads(2)
torch.manual_seed(1)
before = torch.get_rng_state()
try:
    main({words!r})
except SystemExit as end:
    assert not end.code
assert torch.get_num_threads() == 2 and torch.equal(torch.get_rng_state(), before)
"""


def test_the_command_leaves_its_process_as_it_was(tmp_path: Path) -> None:
    words = "train task=tests.helpers.toy_envs:identity directory=run total_frames=40 steps=10"
    words = [*words.split(), "num_envs=4", "progress=false", "video=false"]
    code = QUIET.format(words=words)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
