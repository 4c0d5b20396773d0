"""Teams against their past: what the pools hold and draw, who plays and who learns, resuming."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithm import Algorithm
from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.algorithms.scripted import RandomConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.training.selfplay import OpponentPool, SelfPlayConfig, policy_of, priorities
from marl.training.teams import Team
from tests.helpers.builders import SMALL, weights
from tests.helpers.experiments import SHORT

MODEL = Perceptron(**SMALL)
RIVALS = Task("tests.helpers.toy_envs:rivals")


def made(directory: Path, algorithm: Any = None, **options: Any) -> Experiment:
    selfplay = SelfPlayConfig(**{"share": 1.0, "interval": 40, **options.pop("selfplay", {})})
    settings = Settings(**{**SHORT, "total_frames": 400, "selfplay": selfplay, **options})
    return Experiment(
        RIVALS, algorithm or MAPPOConfig(epochs=1), MODEL, settings=settings, directory=directory
    )


def held(team: Algorithm) -> Tensor:
    return weights(policy_of(team))


def test_priorities() -> None:
    expected = torch.tensor([0.05, 0.3, 1.05, 1.05])
    torch.testing.assert_close(priorities([0.0, 0.5, 1.0, math.nan]), expected)


def test_a_pool_forgets_the_oldest_and_draws_by_its_rule() -> None:
    pool, random = OpponentPool(), torch.Generator().manual_seed(0)
    for value in range(5):
        pool.add({"weight": torch.tensor(float(value))}, 3)
    assert [s["weight"].item() for s in pool.snapshots] == [2, 3, 4]
    assert pool.draw("latest", random) == 2
    drawn = torch.tensor([pool.draw("uniform", random) for _ in range(3000)]).bincount() / 3000
    assert (drawn - 1 / 3).abs().max() < 0.04
    for number, wins in enumerate((0.0, 0.5, 1.0)):
        pool.credit(number, wins)
    drawn = torch.tensor([pool.draw("prioritised", random) for _ in range(3000)]).bincount() / 3000
    expected = torch.tensor([0.05, 0.3, 1.05]) / 1.4
    assert (drawn - expected).abs().max() < 0.04
    pool.credit(2, 0.0)
    assert pool.wins == [0.0, 0.5, pytest.approx(0.8)]


def test_teams_take_turns_and_play_as_they_were(tmp_path: Path) -> None:
    run = made(tmp_path / "run", selfplay={"rule": "latest"})
    left, right = (run.teams[name] for name in ("left", "right"))
    with run.selfplay.playing_past_selves(0) as playing:
        assert playing == {"right": 0}, "the left one learns first"
    with torch.no_grad():
        for parameter in policy_of(right).parameters():
            parameter.add_(1.0)
    now, other = held(right), held(left)
    with run.selfplay.playing_past_selves(10) as playing:
        assert playing == {"left": 0}
    with run.selfplay.playing_past_selves(20) as playing:
        torch.testing.assert_close(held(right), now - 1.0)
        rollout, _ = run.collector.collect()
    assert playing == {"right": 0}
    assert torch.equal(held(right), now) and torch.equal(held(left), other)
    run.selfplay.credit(playing, rollout)
    (wins,) = run.selfplay.pools["right"].wins
    assert wins == naive_wins(rollout.reward["right"], rollout.reward["left"])


def naive_wins(own: Tensor, other: Tensor) -> float:
    """The share of copies in which a team earned more, of ``[T, B, N]``; draws half."""
    copies = range(own.shape[1])
    sums = [(own[:, b].mean(-1).sum(), other[:, b].mean(-1).sum()) for b in copies]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in sums) / len(sums)


def test_a_win_is_more_than_every_other_team_earned(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    rollout, _ = run.collector.collect()
    reward = {name: torch.zeros_like(r) for name, r in rollout.reward.items()}
    reward["left"][3, 0], reward["right"][5, 1] = 1.0, 1.0  # a win, a loss, two draws
    with run.selfplay.playing_past_selves(0):
        pass
    run.selfplay.credit({"left": 0}, replace(rollout, reward=reward))
    assert run.selfplay.pools["left"].wins == [0.5]
    reward["left"][3, 1] = 2.0
    run.selfplay.pools["left"].wins = [math.nan]
    run.selfplay.credit({"left": 0}, replace(rollout, reward=reward))
    assert run.selfplay.pools["left"].wins == [0.75]
    run.selfplay.credit({}, rollout)


def test_an_error_leaves_everyone_as_it_is(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    with run.selfplay.playing_past_selves(0):
        pass
    right = run.teams["right"]
    with torch.no_grad():
        for parameter in policy_of(right).parameters():
            parameter.add_(1.0)
    now = held(right)
    with run.selfplay.playing_past_selves(10):
        pass
    with pytest.raises(OSError, match="gone"), run.selfplay.playing_past_selves(20) as playing:
        assert playing == {"right": 0} and not torch.equal(held(right), now)
        raise OSError("gone")
    assert torch.equal(held(right), now)


def test_who_plays_as_it_was_does_not_learn(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    before = {name: held(team) for name, team in run.teams.items()}
    run._iterate()
    assert not torch.equal(held(run.teams["left"]), before["left"])
    assert torch.equal(held(run.teams["right"]), before["right"])
    assert len(run.selfplay.pools["left"].snapshots) == 1
    run._iterate()
    assert not torch.equal(held(run.teams["right"]), before["right"])


def test_who_learns_from_the_replay_learns_on(tmp_path: Path) -> None:
    config = MADDPGConfig(warmup=0, batch_size=8, frames_per_update=20)
    run = made(tmp_path / "run", config)
    before = {name: held(team) for name, team in run.teams.items()}
    run._iterate()
    for name, team in run.teams.items():
        assert not torch.equal(held(team), before[name])


@pytest.mark.parametrize("rule", ["uniform", "prioritised"])
def test_a_stopped_run_resumes_exactly(tmp_path: Path, rule: str) -> None:
    options = {"selfplay": {"share": 0.7, "rule": rule}}
    whole = made(tmp_path / "whole", **options)
    whole.run()
    part = made(tmp_path / "part", **options, total_frames=200)
    part.run()
    again = Experiment.load(tmp_path / "part", total_frames=400)
    again.run()
    for name, team in whole.teams.items():
        assert torch.equal(held(team), held(again.teams[name]))
        assert whole.selfplay.pools[name].wins == pytest.approx(
            again.selfplay.pools[name].wins, nan_ok=True
        )
    assert len(again.selfplay.pools["left"].snapshots) > 3


def test_pools_begin_with_other_runs(tmp_path: Path) -> None:
    source = made(tmp_path / "source", checkpoints_kept=0)
    source.run()
    files = source.checkpoints.all()
    assert len(files) > 2
    run = made(tmp_path / "run", selfplay={"runs": [str(source.directory), str(files[0])]})
    for name, team in source.teams.items():
        snapshots = run.selfplay.pools[name].snapshots
        assert len(snapshots) == len(files) + 1
        now = policy_of(team).state_dict()
        assert all(torch.equal(now[key], value) for key, value in snapshots[-2].items())
        assert snapshots[-1].keys() == snapshots[0].keys()
    run.run()
    again = Experiment.load(tmp_path / "run", total_frames=440)
    assert len(again.selfplay.pools["left"].snapshots) > len(files) + 1


def test_a_run_killed_before_its_first_checkpoint_fills_its_pools_again(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    source.run()
    runs = {"runs": [str(source.directory)]}
    held = made(tmp_path / "run", selfplay=runs).selfplay.pools["left"].snapshots
    assert len(Experiment.load(tmp_path / "run").selfplay.pools["left"].snapshots) == len(held) == 2


def test_pools_without_anyone_are_told(tmp_path: Path) -> None:
    source = made(tmp_path / "source", total_frames=40)
    with pytest.raises(UserError, match=r"source' holds no checkpoint to play against"):
        made(tmp_path / "run", selfplay={"runs": [str(source.directory)]})
    source.run()
    wide = Experiment(
        RIVALS, MAPPOConfig(epochs=1), Perceptron([9]), directory=tmp_path / "wide",
        settings=Settings(**{**SHORT, "total_frames": 40}),
        teams={"right": Team(None, RandomConfig())},
    )  # fmt: skip
    wide.run()
    with pytest.raises(UserError, match="networks of another shape for team 'left'"):
        made(tmp_path / "run", selfplay={"runs": [str(wide.directory)]})
    last = wide.checkpoints.last()
    assert last is not None
    right = made(tmp_path / "other").selfplay
    right.pools = {"right": OpponentPool()}
    right.config.runs = [str(last)]
    with pytest.raises(UserError, match="no policy for team 'right'"):
        right.fill(wide.device)
    with pytest.raises(UserError, match=r"set selfplay\.share"):
        SelfPlayConfig(runs=["somewhere"])
    assert not (tmp_path / "run").exists()


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"selfplay\.rule"):
        SelfPlayConfig(rule="best")
    with pytest.raises(UserError, match=r"selfplay\.share requires two teams that learn.*right"):
        Experiment(
            RIVALS, MAPPOConfig(), MODEL, teams={"left": Team(None, RandomConfig())},
            settings=Settings(**{**SHORT, "selfplay": SelfPlayConfig(share=0.5)}),
            directory=tmp_path / "run",
        )  # fmt: skip
    with pytest.raises(UserError, match="critics with memory"):
        model = Perceptron(**SMALL, gru=4)
        Experiment(
            RIVALS, MAPPOConfig(), model, directory=tmp_path / "run",
            settings=Settings(**{**SHORT, "selfplay": SelfPlayConfig(share=0.5)}),
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
