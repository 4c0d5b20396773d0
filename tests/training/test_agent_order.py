"""Agents are matched by name, whatever order an environment finds them in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gymnasium import spaces

from marl.algorithms.mappo import IPPOConfig, MAPPOConfig
from marl.algorithms.scripted import FrozenConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.policies.dag import BayesianNetworkConfig
from marl.training import agent_order, build, loading, run_directory
from marl.training.crossplay import enter
from marl.training.evaluation import evaluate
from marl.training.selfplay import SelfPlayConfig
from marl.training.teams import Team
from marl.utils import trust
from tests.helpers.builders import CPU
from tests.helpers.cli import called
from tests.helpers.experiments import SHORT, equal, outcome
from tests.helpers.processes import ROOT
from tests.helpers.tiny_env import Tiny


class Lineup(Tiny):
    """Each has a right choice of its own, the number in its name; there are two kinds."""

    names = ("unit_0", "unit_1", "unit_2", "boss_3")
    length = 1

    def action_space(self, agent: Any) -> spaces.Space:
        return spaces.Discrete(4)

    def reward(self, agent: Any, action: Any) -> float:
        return float(action == int(agent[-1]) % 4)


class Hashed(Lineup):
    """Its agents come from a set."""

    def __init__(self) -> None:
        super().__init__()
        self.possible_agents = list({"unit_0", "unit_1", "unit_2", "unit_3"})


OTHER = ("boss_3", "unit_2", "unit_0", "unit_1")
OWN = Perceptron([8], sharing="per_agent")


def run(
    directory: Path, model: Any = OWN, teams: Any = None, name: str = "Lineup", **settings: Any
) -> Experiment:
    made = Experiment(
        Task(f"{__name__}:{name}"), IPPOConfig(epochs=2, actor_lr=3e-3), model, teams=teams,
        settings=Settings(**{**SHORT, "num_envs": 20, "total_frames": 800, **settings}),
        directory=directory,
    )  # fmt: skip
    made.run()
    return made


def greedy(directory: Path, make: Any = None) -> dict[str, list[float]]:
    """Returns of the run's policies, as ``marl evaluate`` plays them."""
    config = run_directory.read_config(directory)
    _, path, state = loading.load_checkpoint(directory, CPU)
    saved = config.get("agents")
    arrange = partial(agent_order.arrange, saved=saved)
    env = agent_order.OrderedTask(make or config["task"], arrange)(4, CPU)
    teams = build.load_teams(env, config["teams"], state["teams"], path, saved)
    return evaluate(env, teams, 4, 1)["returns"]


@pytest.fixture
def as_found(monkeypatch) -> None:
    """Runs stand in the order found, as those of environments that take none would."""
    monkeypatch.setattr(agent_order, "new_order", lambda order: order)


@pytest.fixture
def trained(tmp_path: Path, as_found: None) -> Experiment:
    return run(tmp_path / "run")


def find(monkeypatch, *names: str) -> None:
    """From now on the environment finds these agents."""
    monkeypatch.setattr(Lineup, "names", names)


# ---------------------------------------------------------------------------------------- the order


def test_a_new_run_counts_the_agents_of_a_group() -> None:
    found = {"b": ["b_10", "b_9", "b_1"], "a": ["a_2", "a_1"], "c": ["left", "far"]}
    assert list(agent_order.new_order(found).items()) == [
        ("b", ["b_1", "b_9", "b_10"]), ("a", ["a_1", "a_2"]), ("c", ["far", "left"]),
    ]  # fmt: skip


def test_the_saved_order_comes_first() -> None:
    saved = {"a": ["a_2", "a_1"], "gone": ["x"], "b": ["b_1"]}
    found = {"b": ["b_1"], "new": ["n"], "a": ["a_0", "a_1", "a_2", "a_9"]}
    assert list(agent_order.arrange(found, saved).items()) == [
        ("a", ["a_2", "a_1", "a_0", "a_9"]), ("b", ["b_1"]), ("new", ["n"]),
    ]  # fmt: skip
    assert agent_order.arrange(found, None) is found


# ----------------------------------------------------------------- the same agents, elsewhere


def test_a_run_saves_who_stands_where(trained: Experiment) -> None:
    config = json.loads((trained.directory / "config.json").read_text())
    assert list(config["agents"].items()) == [
        ("unit", ["unit_0", "unit_1", "unit_2"]), ("boss", ["boss_3"])
    ]  # fmt: skip
    assert config["task"]["groups"] == {}


def test_training_does_not_depend_on_the_order_found(tmp_path: Path, monkeypatch) -> None:
    find(monkeypatch, "unit_0", "unit_1", "unit_2")
    run(tmp_path / "one")
    find(monkeypatch, "unit_2", "unit_0", "unit_1")
    run(tmp_path / "other")
    assert equal(outcome(tmp_path / "one"), outcome(tmp_path / "other"))


def test_evaluation_matches_by_name(trained: Experiment, monkeypatch, capsys) -> None:
    learned = trained.evaluations.returns["team"]
    assert sum(learned) == len(learned)
    find(monkeypatch, *OTHER)
    assert greedy(trained.directory) == {"team": [1.0] * 4}
    code, out, _ = called(capsys, "evaluate", str(trained.directory), "--json")
    assert code == 0 and set(json.loads(out)["returns"]["team"]) == {1.0}


def test_a_run_resumes_in_its_order(trained: Experiment, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(trained.directory, tmp_path / "other")
    Experiment.load(trained.directory, total_frames=1600).run()
    find(monkeypatch, *OTHER)
    again = Experiment.load(tmp_path / "other", total_frames=1600)
    again.run()
    assert equal(outcome(trained.directory), outcome(tmp_path / "other"))
    assert list(again.env.groups) == ["unit", "boss"] == list(again.evaluations.env.groups)
    assert again.config()["task"].groups == {}


def test_an_older_run_is_taken_as_it_is(trained: Experiment, monkeypatch) -> None:
    path = trained.directory / "config.json"
    config = json.loads(path.read_text())
    del config["agents"]
    path.write_text(json.dumps(config))
    with trust.accept_all():
        assert greedy(trained.directory) == {"team": [1.0] * 4}
        again = Experiment.load(trained.directory, total_frames=1600)
        again.run()
        assert again.frames == 1600 and greedy(trained.directory) == {"team": [1.0] * 4}


def test_cross_play_matches_by_name(tmp_path: Path, as_found: None, monkeypatch) -> None:
    teams = {"unit": Team(["unit"]), "boss": Team(["boss"])}
    for name in ("one", "two"):
        run(tmp_path / name, teams=teams, seed=len(name))
    find(monkeypatch, *OTHER)
    env, entrants = enter([tmp_path / "one", tmp_path / "two"], 4, CPU)
    for entrant in entrants:
        assert evaluate(env, entrant.teams, 4, 1)["returns"]["unit"] == [1.0] * 4
    run(tmp_path / "three", teams=teams)
    with pytest.raises(UserError, match=r"for the agents \(unit: unit_2, unit_0, unit_1\), each"):
        enter([tmp_path / "one", tmp_path / "three"], 4, CPU)


# ----------------------------------------------------------------------------------------- others


def test_a_run_is_not_resumed_with_others(trained: Experiment, monkeypatch) -> None:
    find(monkeypatch, "unit_0", "unit_1", "unit_3", "boss_3")
    with pytest.raises(UserError) as refused:
        Experiment.load(trained.directory)
    assert "with the agents (unit: unit_0, unit_1, unit_2; boss: boss_3)" in str(refused.value)
    assert "now has (unit: unit_0, unit_1, unit_3; boss: boss_3)" in str(refused.value)


def test_an_order_that_cannot_be_changed_is_refused(trained: Experiment, monkeypatch) -> None:
    """By a maker that reads no groups."""
    find(monkeypatch, *OTHER)
    config = run_directory.read_config(trained.directory)
    stubborn = lambda num_envs, device: config["task"](num_envs, device)  # noqa: E731
    with pytest.raises(UserError, match=r"each in its place, and here are \(unit: unit_2, unit_0"):
        greedy(trained.directory, stubborn)
    monkeypatch.setattr(agent_order.OrderedTask, "__call__", lambda self, *words: self.task(*words))
    with pytest.raises(UserError, match=r"and its environment now has \(boss: boss_3; unit: unit"):
        Experiment.load(trained.directory)


SHARED = Perceptron([8])
NUMBERED = Perceptron([8], agent_id=True)
LINE = MAPPOConfig(joint=BayesianNetworkConfig(graph="line"))


@pytest.mark.parametrize(
    "model", [OWN, NUMBERED, SHARED, LINE], ids=["own", "id", "shared", "line"]
)
@pytest.mark.parametrize("names", [("unit_4", "unit_5", "unit_6"), ("unit_0", "unit_1")])
def test_weights_of_ones_own_are_of_no_use_to_others(
    tmp_path: Path, monkeypatch, model: Any, names: tuple[str, ...]
) -> None:
    find(monkeypatch, "unit_0", "unit_1", "unit_2")
    alike = model is SHARED
    teams = {"team": Team(None, model)} if model is LINE else None
    made = run(tmp_path / "run", SHARED if model is LINE else model, teams, total_frames=200)
    find(monkeypatch, *names)
    if alike:
        assert len(greedy(made.directory)["team"]) == 4
        return
    as_many = rf"unit_0, unit_1, unit_2\), each in its place, and here are \(unit: {names[0]}"
    with pytest.raises(UserError, match=as_many if len(names) == 3 else "does not fit|each in its"):
        greedy(made.directory)


def test_a_frozen_team_is_of_the_same_agents(tmp_path: Path, as_found: None, monkeypatch) -> None:
    teams = {"unit": Team(["unit"]), "boss": Team(["boss"])}
    source = run(tmp_path / "source", teams=teams)
    frozen = {**teams, "unit": Team(["unit"], FrozenConfig(str(source.directory), explore=False))}
    again = run(tmp_path / "again", teams=frozen, total_frames=200)
    assert set(again.evaluations.returns["unit"]) == {1.0}
    find(monkeypatch, *OTHER)
    with pytest.raises(UserError, match=r"for the agents \(unit: unit_0, unit_1, unit_2\), each"):
        run(tmp_path / "refused", teams=frozen)
    Experiment.load(again.directory, total_frames=400).run()


def test_pools_are_of_the_same_agents(tmp_path: Path, as_found: None, monkeypatch) -> None:
    teams = {"unit": Team(["unit"]), "boss": Team(["boss"])}
    source = run(tmp_path / "source", teams=teams)
    selfplay = SelfPlayConfig(share=0.5, runs=[str(source.directory)])
    run(tmp_path / "again", teams=teams, selfplay=selfplay, total_frames=200)
    find(monkeypatch, *OTHER)
    with pytest.raises(UserError, match=r"\(unit: unit_0, unit_1, unit_2\), each in its place"):
        run(tmp_path / "refused", teams=teams, selfplay=selfplay)


# --------------------------------------------------------------------------------------- processes

STEPS = f"""
import sys
from pathlib import Path
from marl.experiment import Experiment
from {__name__} import Hashed, greedy, run
folder, first = Path(sys.argv[1]), sys.argv[2] == "first"
made = run(folder, name="Hashed") if first else Experiment.load(folder, total_frames=840)
before = greedy(folder)["team"]
returns = made.run() if not first else made.evaluations.returns
print(Hashed().possible_agents, before == [1.0] * 4, set(returns["team"]) == {{1.0}})
"""


def child(seed: int, *words: str) -> str:
    environ = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", *words], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow  # its orders are given by hand in the tests above
def test_processes_that_hash_otherwise(tmp_path: Path) -> None:
    """Trained in one, evaluated and resumed in another that finds the agents in another order."""
    names = "print(list({'unit_0', 'unit_1', 'unit_2', 'unit_3'}))"
    first, other = list({child(seed, names): seed for seed in range(4)}.values())[:2]
    said = [child(first, STEPS, str(tmp_path / "run"), "first")]
    said.append(child(other, STEPS, str(tmp_path / "run"), "then"))
    assert [line.endswith("True True\n") for line in said] == [True, True], said
    assert said[0] != said[1]
