"""Seeds that are trained in one stack are what each of them is alone."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms import stacked_mappo
from marl.algorithms.happo import HAPPOConfig
from marl.algorithms.mappo import MAPPO, IPPOConfig, MAPPOConfig
from marl.algorithms.qmix import QMIXConfig
from marl.algorithms.scripted import RandomConfig
from marl.env import pure_env
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.informarl import InforMARL
from marl.networks.perceptron import Perceptron
from marl.policies.dag import BayesianNetworkConfig
from marl.stacked_run import StackedRun
from marl.training.checkpoint import Checkpoints, checksum_of
from marl.training.rollout_program import RolloutProgram
from marl.types import tree_tensors
from marl.utils.programs import eager
from tests.helpers.doubles import Doubles, default_doubles
from tests.helpers.experiments import Kill, equal, outcome

SPREAD, SEEDS = "mpe/simple_spread", (3, 5, 6)
CALM: dict[str, Any] = {"adam_eps": 1e-2, "epochs": 2, "chunk_length": 2, "max_grad_norm": 0.1}
ANNEALED = MAPPOConfig(**CALM, minibatch_size=20, anneal_lr=True)
SMALL = Perceptron(hidden=[4])


def run(
    folder: Path,
    seed: int,
    task: Any = None,
    algorithm: Any = None,
    model: Any = SMALL,
    sinks: Any = None,
    **changes: Any,
) -> Experiment:
    settings: dict[str, Any] = {
        "num_envs": 4, "steps": 10, "total_frames": 400, "evaluation_episodes": 2, "video": False,
        "progress": False, "evaluation_interval": 160, "checkpoint_interval": 120,
    }  # fmt: skip
    return Experiment(
        task or Task("games/climbing"), algorithm or ANNEALED, model,
        settings=Settings(**{**settings, **changes, "seed": seed}), directory=folder / str(seed),
        sinks=sinks,
    )  # fmt: skip


def runs(folder: Path, *parts: Any, **changes: Any) -> list[Experiment]:
    return [run(folder, seed, *parts, **changes) for seed in SEEDS]


def alone(one: Experiment) -> Experiment:
    """Trains a run as a program, which draws random numbers in the order of the stack."""
    env = pure_env(one.env)
    assert env is not None
    one.collector.program = RolloutProgram(env, one.teams, one.settings.steps, eager, pytest.fail)  # type: ignore[arg-type]  # pure actors
    one.run()
    return one


def states(one: Experiment) -> list[Tensor]:
    return [x for team in one.teams.values() for x in tree_tensors(team.state_dict())]


def numbers(one: Experiment) -> list[dict[str, float]]:
    """Metrics and evaluations."""
    texts = [(one.directory / f"{n}.jsonl").read_text() for n in ("metrics", "evaluations")]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def compare(stacked: Sequence[Experiment], single: Sequence[Experiment], tolerance: float) -> None:
    for one, other in zip(stacked, single, strict=True):
        for x, y in zip(states(one), states(other), strict=True):
            if x.is_floating_point():
                torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)
            else:
                assert torch.equal(x, y)
        for mine, theirs in zip(numbers(one), numbers(other), strict=True):
            assert mine.keys() == theirs.keys()
            for name, value in theirs.items():
                if isinstance(value, float):
                    assert mine[name] == pytest.approx(value, rel=100 * tolerance, abs=1e-5)


JOINT = BayesianNetworkConfig(graph="learned")
CELLS: dict[str, tuple[Any, ...]] = {
    "smallest": ("games/climbing", MAPPOConfig(**CALM, minibatch_size=20)),
    "memory": ("games/cue", MAPPOConfig(**CALM), Perceptron(hidden=[4], gru=4)),
    "two teams": ("mpe/simple_tag", IPPOConfig(**CALM, critic="all")),
    "vectors": (SPREAD, IPPOConfig(**CALM), SMALL, {"continuous_actions": True}),
    "own weights": ("mpe/simple_speaker_listener", MAPPOConfig(**CALM),
                    Perceptron(hidden=[4], sharing="per_agent", normalize_obs=True)),
    "graphs": ("navigation/target", MAPPOConfig(**CALM), InforMARL(hidden=[4], width=4), {"N": 2}),
    "joint": (SPREAD, MAPPOConfig(**CALM, joint=JOINT)),
    "foraging": ("foraging/8x8-2p-2f", MAPPOConfig(**CALM)),
}  # fmt: skip
FAST = ("smallest", "memory", "foraging")


@pytest.mark.parametrize("learns_stacked", [True, False])
@pytest.mark.parametrize(
    "cell", [c if c in FAST else pytest.param(c, marks=pytest.mark.slow) for c in CELLS]
)
def test_each_seed_is_the_run_alone(
    cell: str, learns_stacked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64 to 1e-8 after ten iterations; worlds round what agents observe to float32."""
    name, algorithm, *more = CELLS[cell]
    model = more[0] if more else SMALL
    monkeypatch.setattr(stacked_mappo, "MOST_ROWS", 10**9 if learns_stacked else 0)
    with default_doubles():
        task = Doubles(Task(name, kwargs=more[1] if len(more) > 1 else {}))
        stacked = runs(tmp_path / "stacked", task, algorithm, model)
        StackedRun(stacked).run()
        single = [alone(one) for one in runs(tmp_path / "alone", task, algorithm, model)]
    compare(stacked, single, 1e-8 if name.startswith(("games/", "foraging/")) else 1e-4)
    assert [one.iteration for one in stacked] == [10, 10, 10]


def test_seeds_differ(tmp_path: Path) -> None:
    """Else the comparisons above would hold of copies of one seed."""
    stacked = runs(tmp_path)
    StackedRun(stacked).run()
    weights = [torch.cat([x.flatten() for x in states(one) if x.is_floating_point()])
               for one in stacked]  # fmt: skip
    assert not torch.allclose(weights[0], weights[1]) and not torch.allclose(weights[1], weights[2])


# ----------------------------------------------------------------------------------------- resuming


def resumed(folder: Path) -> list[dict[str, Any]]:
    StackedRun([Experiment.load(folder / str(seed)) for seed in SEEDS]).run()
    return [outcome(folder / str(seed)) for seed in SEEDS]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("stack")
    StackedRun(runs(folder)).run()
    return [outcome(folder / str(seed)) for seed in SEEDS]


def same(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> bool:
    return all(equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("record", [2, 9])
def test_a_signal_stops_all_seeds_and_they_resume_exactly(
    record: int, tmp_path: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    sinks = [Kill(record, signal.SIGTERM)]
    stack = StackedRun([run(tmp_path, s, sinks=sinks if s == 5 else None) for s in SEEDS])
    stack.run()
    assert stack.stop.signal == signal.SIGTERM
    assert all(one.frames < 400 and one.stop.signal for one in stack.runs)
    states = [json.loads((one.directory / "state.json").read_text()) for one in stack.runs]
    assert [state["state"] for state in states] == ["stopped"] * 3
    assert same(resumed(tmp_path), uninterrupted)


@pytest.mark.parametrize("behind", [(5,), (3, 6)])
def test_seeds_that_were_saved_at_different_frames_catch_up(
    behind: tuple[int, ...], tmp_path: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    """As where the process is killed between the checkpoints of two seeds."""
    StackedRun(runs(tmp_path, sinks=[Kill(15, signal.SIGTERM)])).run()
    for seed in behind:
        last = Checkpoints(tmp_path / str(seed) / "checkpoints").last()
        assert last is not None
        last.unlink()
        checksum_of(last).unlink()
    frames = [Experiment.load(tmp_path / str(seed)).frames for seed in SEEDS]
    assert len(set(frames)) == 2
    assert same(resumed(tmp_path), uninterrupted)


def test_a_seed_goes_on_alone_and_the_others_without_it(
    tmp_path: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    StackedRun(runs(tmp_path, sinks=[Kill(9, signal.SIGTERM)])).run()
    Experiment.load(tmp_path / "5").run()
    after = resumed(tmp_path)
    assert same([after[0], after[2]], [uninterrupted[0], uninterrupted[2]])
    assert after[1]["frames"] == 400


def test_a_seeds_checkpoint_holds_its_own_weights_only(tmp_path: Path) -> None:
    StackedRun(runs(tmp_path / "stacked")).run()
    alone(run(tmp_path, 3))
    sizes = [
        sum(x.untyped_storage().nbytes() for x in tree_tensors(state["teams"]))
        for state in (
            Checkpoints(folder / "3" / "checkpoints").load_last(torch.device("cpu"))[1]
            for folder in (tmp_path / "stacked", tmp_path)
        )
    ]
    last = [Checkpoints(folder / "3" / "checkpoints").last() for folder in
            (tmp_path / "stacked", tmp_path)]  # fmt: skip
    assert sizes[0] == sizes[1]
    assert last[0] is not None and last[1] is not None
    assert last[0].stat().st_size < 1.1 * last[1].stat().st_size


# ----------------------------------------------------------------------------------- seeds that end


def test_a_seed_that_diverges_ends_alone(
    tmp_path: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    stacked = runs(tmp_path)
    policy: Any = stacked[1].teams["team"].policy
    with torch.no_grad():
        next(policy.parameters()).fill_(float("nan"))
    stack = StackedRun(stacked)
    stack.run()
    assert list(stack.diverged) == [stacked[1]]
    ends = [json.loads((one.directory / "state.json").read_text())["state"] for one in stacked]
    assert ends == ["finished", "diverged", "finished"]
    others = [outcome(tmp_path / str(seed)) for seed in (3, 6)]
    assert same(others, [uninterrupted[0], uninterrupted[2]])


def test_a_seed_that_has_learned_enough_ends_alone(
    tmp_path: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    stacked = runs(tmp_path)
    last, end = stacked[1].evaluations, stacked[1].early_stop
    play: Callable[[int], Any] = last.play

    def ending(frames: int) -> Any:
        end.request = "learned enough" if frames else ""
        return play(frames)

    last.play = ending  # type: ignore[method-assign]  # on this seed only
    StackedRun(stacked).run()
    assert stacked[1].frames == 160 and stacked[1].stop.why == "learned enough"
    saved = Checkpoints(stacked[1].directory / "checkpoints").load_last(torch.device("cpu"))[1]
    weights = tree_tensors(saved["teams"])
    mine = tree_tensors({name: team.state_dict() for name, team in stacked[1].teams.items()})
    assert all(torch.equal(x, y) for x, y in zip(weights, mine, strict=True))
    others = [outcome(tmp_path / str(seed)) for seed in (3, 6)]
    assert same(others, [uninterrupted[0], uninterrupted[2]])


# ----------------------------------------------------------------------------------------- refusals


class OwnUpdate(MAPPO):
    """Learns in a way that the stack does not know."""

    def update(self, rollout: Any) -> Any:
        return super().update(rollout)


class OwnUpdateConfig(MAPPOConfig):
    def build(self, context: Any) -> MAPPO:
        return OwnUpdate(self, context)


@pytest.mark.parametrize(
    ("task", "algorithm", "changes", "words"),
    [
        (None, QMIXConfig(), {}, "'team' learns by QMIX"),
        (None, HAPPOConfig(), {}, "'team' learns by HAPPO"),
        (None, OwnUpdateConfig(), {}, "'team' learns by OwnUpdate"),
        (None, RandomConfig(), {}, "'team' is frozen or scripted"),
        (Task("tests.helpers.toy_envs:identity"), None, {}, "stepped as tensors"),
        (None, MAPPOConfig(target_kl=0.1), {}, "target_kl"),
        (None, None, {"wandb": True}, "wandb=true"),
    ],
)
def test_what_cannot_be_stacked_is_told(
    task: Any, algorithm: Any, changes: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="stacked_seeds") as told:
        StackedRun(runs(tmp_path, task, algorithm, **changes))
    assert words in str(told.value) and "\n" not in str(told.value)


def test_runs_that_differ_in_more_than_their_seed_are_told(tmp_path: Path) -> None:
    longer = run(tmp_path, 1, total_frames=800)
    with pytest.raises(UserError, match="differ in total_frames: 400 and 800; make them alike"):
        StackedRun([run(tmp_path, 0), longer])
    with pytest.raises(UserError, match="differ in teams; make them alike"):
        StackedRun([run(tmp_path, 2), run(tmp_path, 3, algorithm=MAPPOConfig(gamma=0.5))])
