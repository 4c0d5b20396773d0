"""Rollouts of a program are those of single steps, number for number."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from marl.algorithms.haddpg import HADDPGConfig
from marl.algorithms.happo import HAPPOConfig
from marl.algorithms.hasac import HASACConfig
from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.algorithms.qmix import QMIXConfig
from marl.algorithms.scripted import RandomConfig, ScriptedConfig
from marl.env import pure_env
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.policies.dag import BayesianNetworkConfig
from marl.training import execution
from marl.training.rollout_program import RolloutProgram, block_length
from marl.training.teams import Team
from marl.types import tree_tensors
from marl.utils import programs
from marl.utils.programs import Prepare
from tests.helpers.graphs import use_fake_graphs

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "my_pure.py:meeting"
STEPS, ITERATIONS = 15, 3  # three blocks
REPLAY: dict[str, Any] = {"warmup": 50, "frames_per_update": 20, "batch_size": 8}


def build(folder: Path, name: str, algorithm: Any, gru: int = 0, **options: Any) -> Experiment:
    """A tiny run: three iterations of fifteen steps in three copies."""
    words, teams = options.pop("settings", {}), options.pop("teams", None)
    settings = {"num_envs": 3, "steps": STEPS, "total_frames": 135, "replay_size": 450, **words}
    return Experiment(
        Task(name, kwargs=options), algorithm, Perceptron(hidden=[8], gru=gru), teams=teams,
        settings=Settings(progress=False, video=False, evaluation_episodes=1, **settings),
        directory=folder,
    )  # fmt: skip


def with_program(run: Experiment, prepare: Prepare) -> Experiment:
    """The run with a program that must not fall back."""

    def failed(error: Exception) -> None:
        raise error

    teams: Any = run.teams
    env, steps = pure_env(run.env), run.settings.steps
    assert env is not None
    run.collector.program = RolloutProgram(env, teams, steps, prepare, failed)
    return run


def follow(one: Experiment, other: Experiment, tolerance: float = 0.0) -> None:
    """Plays and learns side by side, and compares rollouts, metrics, and states at the end."""
    for run in (one, other):
        if hasattr(run.env, "_checks_ends") and getattr(run.env, "_may_terminate", True):
            run.env._checks_ends = False  # type: ignore[attr-defined]  # draws at every step
    for _ in range(ITERATIONS):
        compare(iteration(one), iteration(other), tolerance)
    first, second = (tree_tensors(run.collector.state_dict()) for run in (one, other))
    compare(first, second, tolerance)


def iteration(run: Experiment) -> list[torch.Tensor]:
    """The rollout and the metrics of an iteration; afterwards the run has learned from it."""
    with run.process.use():
        rollout, metrics = run.collector.collect()
        tensors = [x.clone() for x in tree_tensors((rollout, metrics))]
        run.learn(rollout)
    return tensors


def compare(one: list[torch.Tensor], other: list[torch.Tensor], tolerance: float) -> None:
    for x, y in zip(one, other, strict=True):
        if x.is_floating_point():
            torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)
        else:
            assert torch.equal(x, y)


CELLS: dict[str, Any] = {
    "spread": ("mpe/simple_spread", MAPPOConfig(epochs=1)),
    "spread, memory": ("mpe/simple_spread", MAPPOConfig(epochs=1, chunk_length=5), {"gru": 4}),
    "spread, vectors": ("mpe/simple_spread", HAPPOConfig(epochs=1), {"continuous_actions": True}),
    "two teams": ("mpe/simple_tag", MAPPOConfig(epochs=1), {"max_cycles": 4}),
    "ends by success": (
        "mpe/simple_tag", MAPPOConfig(epochs=1),
        {"terminate_on_success": True, "num_adversaries": 6},
    ),
    "game, joint policy": (
        "games/coordination", MAPPOConfig(epochs=1, joint=BayesianNetworkConfig(graph="learned")),
    ),
    "game of radio, memory": (
        "games/aloha", QMIXConfig(sequence_length=2, burn_in=2, epsilon_frames=60, **REPLAY),
        {"gru": 4},
    ),
    "foraging": ("foraging/8x8-2p-2f", MAPPOConfig(epochs=1)),
    "warm-up, ensembles": ("mpe/simple_spread", MADDPGConfig(ensemble=2, **REPLAY)),
    "warm-up, vectors": ("mpe/simple_spread", HASACConfig(**REPLAY), {"continuous_actions": True}),
    "scale of noise": ("mpe/simple_spread", HADDPGConfig(**REPLAY), {"continuous_actions": True}),
    "of the docs": (str(EXAMPLE), MAPPOConfig(epochs=1)),
    "random opponents": (
        "mpe/simple_tag", MAPPOConfig(epochs=1),
        {"teams": {"agent": Team(algorithm=RandomConfig())}},
    ),
}  # fmt: skip


# One cell of each kind of noise, memory, action and end; the others are slow.
FEW = ("spread", "spread, memory", "ends by success", "game of radio, memory", "foraging",
       "warm-up, ensembles", "of the docs")  # fmt: skip


def pair(cell: str, folder: Path) -> tuple[Experiment, Experiment]:
    parts: Any = (*CELLS[cell], {})
    name, algorithm, options = parts[:3]
    one, other = (build(folder / k, name, algorithm, **options.copy()) for k in "ab")
    return one, other


@pytest.mark.parametrize(
    "cell", [pytest.param(c, marks=[] if c in FEW else pytest.mark.slow) for c in CELLS]
)
def test_a_program_plays_what_single_steps_play(
    cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_graphs(monkeypatch)
    one, other = pair(cell, tmp_path)
    follow(one, with_program(other, programs.captured))


@pytest.mark.parametrize(("steps", "length"), [(128, 8), (25, 5), (100, 5), (12, 6), (11, 1)])
def test_a_block_is_the_longest_that_divides_a_rollout(steps: int, length: int) -> None:
    assert block_length(steps) == length


def words(folder: Path, name: str, word: str, algorithm: Any = None) -> Experiment:
    settings = {"execution": word}
    return build(folder, name, algorithm or MAPPOConfig(epochs=1), settings=settings)


@pytest.mark.parametrize(
    ("word", "name", "sentence"),
    [
        ("captured", "mpe/simple_spread", "needs device=cuda"),
        ("captured", "mpe2/simple_v3", "needs device=cuda"),
        ("graphs", "mpe/simple_spread", "auto"),
    ],
)
def test_a_word_that_cannot_be_is_refused(
    word: str, name: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        words(tmp_path / "run", name, word)


def test_python_environments_are_not_captured() -> None:
    env: Any = SimpleNamespace(device="cuda", steps_on_host=True)
    with pytest.raises(UserError, match="stepped in Python; set execution=eager"):
        execution.resolve("captured", env)
    assert execution.resolve("auto", env) == "eager"


def test_a_run_resumes_with_its_own_word_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words(tmp_path / "run", "games/climbing", "auto").run()
    config = tmp_path / "run" / "config.json"
    assert json.loads(config.read_text())["execution"] == "eager"
    with pytest.raises(UserError, match="began with execution=eager, and with execution=compiled"):
        Experiment.load(tmp_path / "run", execution="compiled")
    older = {k: v for k, v in json.loads(config.read_text()).items() if k != "execution"}
    config.write_text(json.dumps(older))
    assert Experiment.load(tmp_path / "run").execution == "eager"
    config.write_text(json.dumps({**older, "execution": "captured"}))  # on another machine
    assert Experiment.load(tmp_path / "run").execution == "eager"
    assert "the rest of the run is eager" in capsys.readouterr().err


def test_what_has_no_pure_step_falls_back_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    function = ScriptedConfig("marl.algorithms.scripted:idle")
    run = words(tmp_path / "run", "mpe/simple_spread", "compiled", function)
    assert run.collector.program is None
    assert capsys.readouterr().err.count("marl: execution=compiled: ") == 1


def test_a_block_that_does_not_compile_falls_back_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(function: Any, leaves: Any) -> Any:
        raise RuntimeError("no such\nkernel")

    monkeypatch.setitem(execution.PREPARE, "compiled", fails)
    one, other = (words(tmp_path / w, "games/climbing", w) for w in ("eager", "compiled"))
    (expected, _), (rollout, _) = (run.collector.collect() for run in (one, other))
    compare(tree_tensors(expected), tree_tensors(rollout), 0.0)
    err = capsys.readouterr().err
    assert "the rollout is eager, for RuntimeError: no such\n" in err


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cell", CELLS)
def test_a_compiled_program_plays_what_single_steps_play(cell: str, tmp_path: Path) -> None:
    one, other = pair(cell, tmp_path)
    follow(one, with_program(other, programs.compiled), 1e-4)
