"""Curricula: stages of a run in which the options of its task differ."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import marl
from marl.algorithms.hasac import MASACConfig
from marl.algorithms.maddpg import IDDPGConfig
from marl.algorithms.mappo import IPPOConfig, MAPPOConfig
from marl.cli import compose
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.training import stage_borders
from marl.training.curriculum import changed_task
from marl.training.fitting import flat
from marl.training.run_directory import read_config
from marl.utils.jsonl import read_jsonl
from tests.helpers.distributed import cli_in_ranks

TINY: dict[str, Any] = {
    "total_frames": 120, "num_envs": 2, "steps": 10, "evaluation_interval": 20,
    "evaluation_episodes": 2, "progress": False, "video": False, "replay_size": 100,
    "checkpoint_interval": 1000,
}  # fmt: skip
THREE = [
    {"until": 30, "task.kwargs.agents": 2},
    {"until": 80, "task.kwargs.agents": 4, "task.kwargs.length": 6},
    {"task.kwargs.agents": 3},
]
OFF_POLICY: dict[str, Any] = {"warmup": 10, "batch_size": 4, "frames_per_update": 10}
IDDPG = IDDPGConfig(**OFF_POLICY)
MASAC = MASACConfig(**OFF_POLICY)
IPPO = IPPOConfig(epochs=1, chunk_length=5, anneal_lr=True)


def run(
    directory: Path,
    algorithm: Any = IPPO,
    curriculum: Any = THREE,
    task: str = "crowd",
    sinks: Any = None,
    **settings: Any,
) -> Experiment:
    return Experiment(
        Task(f"tests.helpers.toy_envs:{task}"),
        algorithm,
        Perceptron(hidden=[8], normalize_obs=True, gru=8 if algorithm is IPPO else 0),
        settings=Settings(**{**TINY, "curriculum": curriculum, **settings}),
        directory=directory,
        sinks=sinks,
    )


class KillAt:
    """A sink that signals its own process when a kind of record of so many frames is logged."""

    def __init__(self, kind: str, frames: int):
        self.kind, self.frames = kind, frames

    def log(self, kind: str, record: Mapping[str, Any]) -> None:
        if (kind, record["frames"]) == (self.kind, self.frames):
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self) -> None: ...


def files(directory: Path) -> dict[str, bytes]:
    names = ("evaluations.jsonl", "metrics.jsonl")
    return {name: (directory / name).read_bytes() for name in names}


@pytest.mark.parametrize(
    "algorithm", [IPPO, pytest.param(IDDPG, marks=pytest.mark.slow)], ids=["ippo", "iddpg"]
)
def test_stages_change_the_task_and_are_resumed_exactly(tmp_path: Path, algorithm: Any) -> None:
    """Within a stage, at its border and across it: the same records and weights, also of a replay
    that is emptied at a border."""
    whole = run(tmp_path / "whole", algorithm)
    whole.run()
    stages = [r["stage"] for r in read_jsonl(tmp_path / "whole" / "metrics.jsonl")]
    assert stages == [1, 1, 2, 2, 3, 3]  # borders at the first iterations from 30 and 80 frames on
    evaluated = read_jsonl(tmp_path / "whole" / "evaluations.jsonl")
    assert [(r["frames"], r["stage"]) for r in evaluated] == [
        (0, 1), (20, 1), (40, 1), (60, 2), (80, 2), (100, 3), (120, 3)
    ]  # fmt: skip
    assert whole.env.groups["agent"].size == whole.evaluation_env.groups["agent"].size == 3
    for kind, frames in (("evaluations", 40), ("metrics", 60), ("metrics", 100)):
        directory = tmp_path / f"{kind}-{frames}"
        killed = run(directory, algorithm, sinks=[KillAt(kind, frames)])
        killed.run()
        assert killed.stop.signal and killed.frames < 120
        resumed = Experiment.load(directory)
        resumed.run()
        assert files(directory) == files(tmp_path / "whole"), directory
        state = resumed.teams["team"].state_dict()
        for name, part in whole.teams["team"].state_dict().items():
            for key, tensor in flat(part).items():
                assert torch.equal(tensor, flat(state[name])[key]), (name, key)


@pytest.mark.parametrize("algorithm", [IPPO, IDDPG], ids=["ippo", "iddpg"])
def test_what_was_learned_goes_on_at_a_border(tmp_path: Path, algorithm: Any) -> None:
    """Weights, optimizers, counters and random numbers; only memories are of the new agents."""
    short = run(tmp_path / "run", algorithm)
    with short.process.use():
        for _ in range(2):
            short.learn(short.collector.collect()[0])
        before = {name: clone(part) for name, part in short.teams["team"].state_dict().items()}
        stage_borders.enter(short, 1)
    after = short.teams["team"].state_dict()
    assert short.collector.obs.groups["agent"].obs.shape[:2] == (2, 4)
    assert before.keys() == after.keys() and any("optimizer" in name for name in after)
    for name, part in after.items():
        if name != "critic_carry":
            assert clone(part).keys() == before[name].keys(), name
            assert all(torch.equal(x, before[name][key]) for key, x in clone(part).items()), name
    short.close()


def clone(part: Any) -> dict[str, torch.Tensor]:
    """Copies of the tensors of a part of a state; of a number itself."""
    tensors = {"": torch.tensor(part)} if isinstance(part, int) else flat(part)
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def test_who_reads_the_run_plays_its_last_stage(tmp_path: Path) -> None:
    run(tmp_path / "run", curriculum=[*THREE[:2], {"task.kwargs.agents": 5}]).run()
    assert read_config(tmp_path / "run")["task"].kwargs == {"agents": 5}
    assert marl.load_policy(tmp_path / "run").groups["agent"].size == 5


def test_ends_by_evaluations(tmp_path: Path) -> None:
    """A return, of one team of several, and a metric: the stage ends after the evaluation that
    reaches it, and so it does where the run is killed in between. One that is not reached
    lasts."""
    first: dict[str, Any] = {"until_return": {"left": -100}, "until": 35}
    curriculum = [first, {"task.kwargs.end": 0.5}]
    whole = run(tmp_path / "a", curriculum=curriculum, task="rivals", total_frames=40)
    whole.run()
    evaluated = read_jsonl(tmp_path / "a" / "evaluations.jsonl")
    assert [r["stage"] for r in evaluated] == [1, 2, 2]
    killed = run(
        tmp_path / "b", curriculum=curriculum, task="rivals", total_frames=40,
        sinks=[KillAt("evaluations", 0)],
    )  # fmt: skip
    killed.run()
    assert killed.stages.number == 0 and killed.stages.passed
    Experiment.load(tmp_path / "b").run()
    assert files(tmp_path / "b") == files(tmp_path / "a")

    never = [{"until_metric": {"won": 3}}, {"task.kwargs.end": 0.5}]
    lasting = run(tmp_path / "c", curriculum=never, task="winning", total_frames=40)
    lasting.run()
    assert lasting.stages.number == 0 and lasting.stages.record() == {"stage": 1}
    reached = [{"until_metric_below": {"won": 2}}, {"task.kwargs.end": 0.5}]
    passed = run(tmp_path / "d", curriculum=reached, task="winning", stop_at_return=-100)
    passed.run()
    assert passed.stages.is_last and passed.frames == 20  # an early end counts from there on


def test_a_replay_of_the_same_shapes_stays(tmp_path: Path) -> None:
    """And so do the algorithms; returns of different tasks do not compete for the best."""
    changes = [{"until": 60}, {"task.kwargs.length": 2, "evaluation_episodes": 3}]
    short = run(tmp_path / "run", IDDPG, changes)
    team, replay = short.teams["team"], short.replay
    short.run()
    assert short.teams["team"] is team and short.replay is replay and replay is not None
    assert replay.stored_frames == 100
    evaluated = read_jsonl(tmp_path / "run" / "evaluations.jsonl")
    assert [len(r["returns"]["team"]) for r in evaluated] == [2, 2, 2, 2, 3, 3, 3]
    assert max(evaluated[-1]["returns"]["team"]) <= 2 and short.evaluations.best["team"] <= 2


@pytest.mark.parametrize(
    ("algorithm", "curriculum", "words"),
    [
        (MAPPOConfig(), THREE, r"critic.network.body.0.weight .* is \[8, 6\] in stage 1 and"),
        (MASAC, THREE, r"stage 2 .task.kwargs.agents=4 .* does not fit stage 1"),
        (IPPO, [{"until": 30}, {"task.kwargs.name": "x"}], "has the groups x, and stage 1 agent"),
        (IPPO, [{"until": 30}, {"task.kwargs.choices": 2}], r"is \[3\] in stage 1 and \[2\] in"),
        (IPPO, [{"until": 30}, {"task.state": True}], "stage 2: task.state=True changes nothing"),
        (IPPO, [{"until": 30}, {"task.max_stps": 2}], "did you mean 'task.max_steps'"),
        (IPPO, [{"until_metric": {"won": 1}}, {}], "unknown metric 'won' in stage 1"),
        (IPPO, [{"until_return": {"tem": 1}}, {}], "unknown team 'tem' in stage 1"),
        (IPPO, [{"until": 30}], "single stage"),
        (IPPO, [{"until": 30}, {"until": 60}], "the last, must have no end"),
        (IPPO, [{"until": 30}, {}, {}], "stage 2 of 3 never ends"),
        (IPPO, [{"until": 30}, {"until": 30}, {}], "more than the 30 at which it begins"),
        (IPPO, [{"until": 120}, {}], "total_frames=120"),
        (IPPO, [{"until": "soon"}, {}], "until='soon' of stage 1 is no number"),
        (IPPO, [{"untl": 3}, {}], "unknown key 'untl' in stage 1 of curriculum, beside options"),
        (IPPO, [{"until_return": "high"}, {}], "is no bound"),
        (IPPO, [{"until": 30}, {"kwargs.N": 3}], "did you mean 'task.kwargs.N'"),
        (IPPO, [{"until": 30}, {"task.max_steps": "a"}], "task.max_steps='a' is of a wrong type"),
        (IPPO, [3, {}], "stage 1 is 3; expected a mapping"),
        (IPPO, {"until": 3}, "is not a list of mappings"),
    ],
)  # fmt: skip
def test_what_cannot_advance_is_refused(
    tmp_path: Path, algorithm: Any, curriculum: Any, words: str
) -> None:
    """Before anything is written: every stage is looked at."""
    with pytest.raises(UserError, match=words):
        run(tmp_path / "run", algorithm, curriculum)
    assert not (tmp_path / "run").exists()


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluation_interval=0 evaluates at the end"):
        run(tmp_path / "run", curriculum=[{"until_return": 1}, {}], evaluation_interval=0)
    with pytest.raises(UserError, match="names no team, and left, right learn"):
        run(tmp_path / "run", curriculum=[{"until_return": 1}, {}], task="rivals")
    with pytest.raises(UserError, match="a Python function, which has none"):
        changed_task(lambda num_envs, device: None, {"kwargs.agents": 2})


@pytest.mark.parametrize("word", ["[until:500,{}]", "{until:500}", "null", "[{until: 5}, 3]"])
def test_words_of_the_command_line(word: str) -> None:
    """Without quotes a shell takes the braces."""
    stages = compose.composed(["curriculum=[{until: 2e3, task.kwargs.N: 3}, {}]"]).curriculum
    assert stages == [{"until": 2000, "task.kwargs.N": 3}, {}]
    with pytest.raises(UserError, match="put it in quotes"):
        compose.composed([f"curriculum={word}"])


@pytest.mark.slow
def test_two_ranks(tmp_path: Path) -> None:
    """They enter each stage and end early at the same moments, and another resume goes on."""
    stages = "[{until_return: -100}, {until: 120, task.kwargs.agents: 3}, {task.kwargs.agents: 4}]"
    words = [
        "task=tests.helpers.toy_envs:crowd", "algorithm=ippo", "model.hidden=[8]", "video=false",
        f"curriculum={stages}", "num_envs=4", "steps=10", "evaluation_interval=40",
        "evaluation_episodes=2", "total_frames=400", "stop_after_no_improvement=2",
    ]  # fmt: skip
    first, second = cli_in_ranks(tmp_path, 2, "train", *words, "directory=run")
    assert first.code == second.code == 0, (first, second)
    records = read_jsonl(tmp_path / "run" / "evaluations.jsonl")
    assert [r["stage"] for r in records][:4] == [1, 2, 2, 2] and records[-1]["stage"] == 3
    assert "finished team 'team' has not surpassed" in first.out and records[-1]["frames"] < 400
    on = "stop_after_no_improvement=0"
    assert [r.code for r in cli_in_ranks(tmp_path, 2, "resume", "run", on)] == [0, 0]
    assert read_jsonl(tmp_path / "run" / "evaluations.jsonl")[-1]["frames"] == 400
