"""Evaluations with sampled actions, and win rates against the pools of self-play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.training import pool_evaluation, run_directory
from marl.training.evaluation import Limit, evaluate
from marl.training.run_claim import change_settings
from marl.training.sampled_play import Sampling
from marl.training.selfplay import SelfPlayConfig, policy_of
from marl.utils.jsonl import read_jsonl, scalars
from tests.helpers.builders import weights
from tests.helpers.experiments import SHORT, equal, outcome

TINY: dict[str, Any] = {**SHORT, "total_frames": 160, "evaluation_episodes": 6}


def made(directory: Path, task: str = "identity", algorithm: Any = None, **settings: Any) -> Any:
    return Experiment(
        Task(f"tests.helpers.toy_envs:{task}"), algorithm or MAPPOConfig(epochs=1),
        Perceptron([8]), settings=Settings(**{**TINY, **settings}), directory=directory,
    )  # fmt: skip


def records(directory: Path) -> list[dict[str, Any]]:
    return read_jsonl(directory / "evaluations.jsonl")


def test_both_kinds_stand_beside_each_other_and_change_nothing(tmp_path: Path) -> None:
    """Greedy episodes are those of a greedy run, sampled ones those of a sampled run, and all
    three runs learn the same. The best checkpoint is that of the kind that stands first."""
    for kind in ("greedy", "sampled", "both"):
        made(tmp_path / kind, evaluation=kind, total_frames=80, evaluation_interval=40).run()
    greedy, sampled, both = (records(tmp_path / kind) for kind in ("greedy", "sampled", "both"))
    assert [r.pop("sampled") for r in both] == [
        {name: record[name] for name in ("returns", "metrics")} for record in sampled
    ]
    assert both == greedy != sampled
    one, two, three = (outcome(tmp_path / kind) for kind in ("greedy", "sampled", "both"))
    assert one["metrics"] == two["metrics"] == three["metrics"]
    assert all(map(torch.equal, one["teams"], two["teams"]))
    assert all(map(torch.equal, one["teams"], three["teams"]))
    assert (three["file"], three["evaluated"]) == (one["file"], one["evaluated"])
    assert two["evaluated"] != one["evaluated"]


def test_sampled_actions_have_the_noise_of_training_and_no_warm_up(tmp_path: Path) -> None:
    """A deterministic policy stays near its greedy actions, at random as the warm-up may be."""
    quiet = MADDPGConfig(warmup=1000, batch_size=8, noise=0.0, last_noise=0.0)
    run = made(tmp_path / "run", "continuous", quiet)
    env, (team,) = run.evaluation_env, run.teams.values()
    played = [
        evaluate(env, {"team": each}, 4, 1, explore)["returns"]
        for each, explore in ((team, False), (Sampling(team), True), (team, True))
    ]
    assert played[0] == played[1] != played[2]


def test_a_stopped_run_of_both_resumes_exactly(tmp_path: Path) -> None:
    selfplay = SelfPlayConfig(share=0.5, interval=40, episodes=5)
    settings = {"evaluation": "both", "selfplay": selfplay, "evaluation_interval": 40}
    made(tmp_path / "whole", "rivals", **settings).run()
    made(tmp_path / "part", "rivals", **settings, total_frames=80).run()
    Experiment.load(tmp_path / "part", total_frames=160).run()
    assert equal(outcome(tmp_path / "whole"), outcome(tmp_path / "part"))
    first, *others = records(tmp_path / "whole")
    assert first["pool"] == {}, "nobody has a past yet"
    for record in others:
        assert set(record["pool"]) == {"left", "right"}
        for rates in record["pool"].values():
            assert rates["episodes"] == 5 and 0 <= rates["draws"] / 2 <= rates["win_rate"] <= 1
        numbers = scalars("evaluations", record)
        assert numbers["evaluation/pool/win_rate/left"] == record["pool"]["left"]["win_rate"]
        assert "evaluation/sampled/return/left" in numbers
    made(
        tmp_path / "without",
        "rivals",
        **settings | {"selfplay": SelfPlayConfig(0.5, 40, episodes=0)},
    ).run()
    assert all("pool" not in record for record in records(tmp_path / "without"))
    teams = [outcome(tmp_path / name)["teams"] for name in ("whole", "without")]
    assert all(map(torch.equal, *teams)), "win rates are measured without a trace"


def test_win_rates_are_counted_over_rivals_of_the_past(tmp_path: Path, monkeypatch: Any) -> None:
    """Every round meets another policy of the pool, drawn anew for each evaluation; a win is a
    higher return, a draw half a win."""
    selfplay = SelfPlayConfig(share=1.0, interval=1, episodes=10)
    run = made(tmp_path / "run", "rivals", selfplay=selfplay, evaluation_episodes=3)
    policies = {name: policy_of(team) for name, team in run.teams.items()}
    present = {name: weights(policy) for name, policy in policies.items()}
    for shift in range(1, 9):  # the past is the present with shifted weights
        for name, policy in policies.items():
            shifted = {key: value + shift for key, value in policy.state_dict().items()}
            run.selfplay.pools[name].add(shifted, 20)
    met: list[tuple[str, int]] = []

    def played(env: Any, teams: Any, episodes: int, seed: int, explore: bool, limit: Limit) -> Any:
        assert explore and all(isinstance(team, Sampling) for team in teams.values())
        shifts = {n: round(float((weights(p) - present[n]).mean())) for n, p in policies.items()}
        ((past, shift),) = ((name, shift) for name, shift in shifts.items() if shift)
        met.append((past, shift))
        own = {"left": "right", "right": "left"}[past]
        return {"returns": {own: [2.0, 1.0, 0.0][:episodes], past: [1.0] * episodes}}

    monkeypatch.setattr(pool_evaluation, "evaluate", played)
    rates = pool_evaluation.win_rates(run.evaluation_env, run.teams, run.selfplay, 5, Limit())
    # Rounds of 3, 3, 2 and 2 episodes: each has a win and a draw, and two have a loss.
    assert rates == {n: {"win_rate": 0.6, "draws": 0.4, "episodes": 10} for n in policies}
    assert [past for past, _ in met] == ["right"] * 4 + ["left"] * 4
    assert len(set(met)) == 8, "without repetition"
    before, met[:] = list(met), []
    pool_evaluation.win_rates(run.evaluation_env, run.teams, run.selfplay, 6, Limit())
    assert met != before
    assert all(torch.equal(weights(policies[name]), present[name]) for name in policies)


def test_runs_of_before_go_on_without_win_rates(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "rivals", selfplay=SelfPlayConfig(share=0.5), total_frames=40)
    run.run()
    selfplay = run.config()["settings"].selfplay
    assert run_directory.read_config(tmp_path / "run")["settings"].selfplay.episodes == 64
    plain = {k: v for k, v in vars(selfplay).items() if k != "episodes"}
    change_settings(
        tmp_path / "run", {"selfplay": {"_type_": "marl.training.selfplay:SelfPlayConfig", **plain}}
    )
    assert run_directory.read_config(tmp_path / "run")["settings"].selfplay.episodes == 0


def test_other_words_are_refused() -> None:
    with pytest.raises(UserError, match="evaluation"):
        Settings(evaluation="random")
