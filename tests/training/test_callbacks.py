"""Callbacks: when they are called and with what, and that a run does not notice them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from marl import Callback, Experiment
from marl.errors import UserError
from marl.training import own_callbacks, run_outcome
from marl.training.callbacks import numbers_to_log
from marl.types import Metrics, Rollout
from marl.utils.jsonl import read_jsonl
from tests.helpers.experiments import equal, experiment, outcome
from tests.utils.test_process_state import state


def run_with(directory: Path, *callbacks: Callback, task: str = "identity") -> Experiment:
    plain = experiment(directory / "unused", task=task)
    return Experiment(
        plain.task, None, teams=dict(plain.specs), settings=plain.settings,
        directory=directory / "run", callbacks=callbacks,
    )  # fmt: skip


class Notes(Callback):
    """Notes the moments, with the frames of the run, and what came with them."""

    def __init__(self) -> None:
        self.moments: list[tuple[str, int]] = []
        self.records: list[Any] = []
        self.rewards: list[float] = []
        self.stats: list[set[str]] = []

    def on_rollout(self, run: Experiment, rollout: Rollout) -> None:
        self.moments.append(("rollout", run.frames))
        self.rewards.append(float(sum(x.sum() for x in rollout.reward.values())))

    def on_update(self, run: Experiment, stats: Mapping[str, Metrics]) -> None:
        self.moments.append(("update", run.frames))
        self.stats.append({name for team in stats.values() for name in team})

    def on_evaluation(self, run: Experiment, record: Mapping[str, Any]) -> None:
        self.moments.append(("evaluation", run.frames))
        self.records.append(record)


def test_the_moments_of_a_run(tmp_path: Path) -> None:
    notes = Notes()
    run = run_with(tmp_path, notes)
    run.run()
    expected = [("evaluation", 0)]
    for frames in range(0, 240, 40):
        expected += [("rollout", frames), ("update", frames + 40)]
        expected += [("evaluation", frames + 40)] if (frames + 40) % 80 == 0 else []
    assert notes.moments == expected
    assert notes.records == read_jsonl(run.directory / "evaluations.jsonl")
    assert all("policy_loss" in names for names in notes.stats)
    rollout = run.collector.storage.rollout
    assert rollout is not None
    assert notes.rewards[-1] == float(sum(x.sum() for x in rollout.reward.values()))


def test_several_are_called_in_order(tmp_path: Path) -> None:
    called: list[str] = []

    class Named(Callback):
        def __init__(self, name: str):
            self.name = name

        def on_evaluation(self, run: Experiment, record: Mapping[str, Any]) -> None:
            called.append(self.name)

    run_with(tmp_path, Named("one"), Named("two")).run()
    assert called == ["one", "two"] * 4


class Draws(Callback):
    """Draws at every moment, and seeds the process's generators as a careless user would."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def on_rollout(self, run: Experiment, rollout: Rollout) -> None:
        self.drawn.append(float(torch.rand(())))

    def on_update(self, run: Experiment, stats: Mapping[str, Metrics]) -> None:
        self.drawn.append(random.random())
        random.seed(0)

    def on_evaluation(self, run: Experiment, record: Mapping[str, Any]) -> None:
        self.drawn.append(np.random.rand())  # noqa: NPY002  # the global one is meant


CARELESS = "tests.utils.test_process_state:Careless"  # draws from the global generators itself


def test_a_run_does_not_notice_what_callbacks_draw(tmp_path: Path) -> None:
    draws: Sequence[Draws] = [Draws(), Draws()]
    run_with(tmp_path / "none", task=CARELESS).run()
    for number, callback in enumerate(draws):
        before = state()
        run_with(tmp_path / str(number), callback, task=CARELESS).run()
        assert state() == before
        assert equal(outcome(tmp_path / str(number) / "run"), outcome(tmp_path / "none" / "run"))
    assert draws[0].drawn == draws[1].drawn  # they follow from the run's seed
    numbers = [x for x in draws[0].drawn if draws[0].drawn.count(x) == 1]
    assert len(numbers) >= 6 + 4  # torch's and numpy's go on from call to call


class Breaks(Callback):
    def on_update(self, run: Experiment, stats: Mapping[str, Metrics]) -> None:
        if run.iteration == 4:
            raise ZeroDivisionError("of the user")


def test_an_error_is_the_users_and_the_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    run_with(tmp_path / "whole").run()
    before = state()
    with pytest.raises(ZeroDivisionError, match="of the user"):
        run_with(tmp_path / "broken", Breaks()).run()
    assert state() == before
    notes = Notes()
    Experiment.load(tmp_path / "broken/run", callbacks=[notes]).run()
    assert notes.moments[0] == ("rollout", 120)
    found, expected = (outcome(tmp_path / name / "run") for name in ("broken", "whole"))
    assert equal(found, expected)


def test_named_callbacks_log_save_and_are_made_again(tmp_path: Path) -> None:
    """By a path in the settings: the file's new lines stand beside the run's, and a resumed run,
    which has the paths in its configuration, goes on calling them."""
    (tmp_path / "mine.py").write_text(NAMED)
    plain = experiment(tmp_path / "unused", task="identity")
    settings = replace(plain.settings, callbacks=[f"{tmp_path}/mine.py:Logs"], total_frames=80)
    run = Experiment(
        plain.task, None, teams=dict(plain.specs), settings=settings, directory=tmp_path / "run"
    )
    run.run()
    Experiment.load(tmp_path / "run", total_frames=120).run()
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [line["mine/frames"] for line in lines if "mine/frames" in line] == [40, 80, 120]
    assert all("mine/nan" not in line for line in lines)


class Ends(Callback):
    def on_update(self, run: Experiment, stats: Mapping[str, Metrics]) -> None:
        if run.frames >= 40:
            run.finish("enough")


def test_a_callback_ends_the_run(tmp_path: Path) -> None:
    run = run_with(tmp_path, Ends())
    run.run()
    assert run.frames == 40 and run_outcome.read(run.directory) == ("finished", "enough")
    assert read_jsonl(run.directory / "evaluations.jsonl")[-1]["frames"] == 40  # of the last policy
    again = Experiment.load(run.directory)
    again.run()
    assert again.frames == 40 and again.ending == "enough"
    longer = Experiment.load(run.directory, total_frames=160)
    longer.run()
    assert longer.frames == 160


def test_a_number_does_not_take_the_place_of_the_runs_own() -> None:
    assert numbers_to_log({"mine/x": 2, "mine/nan": math.nan}, ("frames",)) == {"mine/x": 2.0}
    with pytest.raises(UserError, match="such as 'mine/frames'"):
        numbers_to_log({"frames": 3}, ("frames",))


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("mine.py:Number", "is no callback but int"),
        ("mine.py:Needs", "it is called without arguments"),
        ("mine.py:Log", "did you mean 'Logs'"),
    ],
)
def test_what_is_no_callback_is_refused(tmp_path: Path, path: str, sentence: str) -> None:
    (tmp_path / "mine.py").write_text(NAMED)
    with pytest.raises(UserError, match=sentence):
        own_callbacks.named([f"{tmp_path}/{path}"])


NAMED = """
from marl import Callback

class Logs(Callback):
    def on_update(self, run, stats):
        run.log_metrics({"mine/frames": run.frames, "mine/nan": float("nan")})
        run.save()

class Needs(Callback):
    def __init__(self, number): ...

Number = 3
"""
