"""Who learns with what; opponents that are random or frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import IPPOConfig, MAPPOConfig
from marl.algorithms.scripted import FrozenConfig, RandomConfig, ScriptedConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.policies.independent import IndependentPolicy
from marl.training import build, loading, run_directory
from marl.training.build import build_teams
from marl.training.evaluation import evaluate
from marl.training.selfplay import SelfPlayConfig
from marl.training.teams import RunShape, Team, resolve_teams
from marl.types import AgentGroup, GroupObservation
from marl.utils.jsonl import read_jsonl
from tests.helpers.builders import CPU, SMALL
from tests.helpers.experiments import SHORT, outcome
from tests.helpers.toy_envs import identity, rivals

MODEL, OTHER = Perceptron(**SMALL), Perceptron([4])
DEFAULT = Team(None, MAPPOConfig(), MODEL)


def resolved(make: Any = rivals, **wanted: Team) -> dict[str, Team]:
    return resolve_teams(make(2, CPU), wanted, DEFAULT)


# --------------------------------------------------------------------------------- who is in a team


def test_the_environments_own_teams() -> None:
    teams = resolved()
    assert {name: team.groups for name, team in teams.items()} == {
        "left": ["left"], "right": ["right"]
    }  # fmt: skip
    assert all(team.algorithm == MAPPOConfig() for team in teams.values())
    assert all(team.model == team.critic_model == MODEL for team in teams.values())


def test_a_new_team_takes_its_groups_from_others() -> None:
    teams = resolved(all=Team(["right", "left"]))
    assert {name: team.groups for name, team in teams.items()} == {"all": ["left", "right"]}
    teams = resolved(identity, second=Team(["right"]))
    assert {name: team.groups for name, team in teams.items()} == {
        "team": ["left"], "second": ["right"]
    }  # fmt: skip


def test_what_a_team_does_not_say_is_the_runs() -> None:
    teams = resolved(left=Team(None, IPPOConfig()), right=Team(None, None, OTHER))
    assert teams["left"].algorithm == IPPOConfig() and teams["left"].model == MODEL
    assert teams["right"].algorithm == MAPPOConfig()
    assert teams["right"].model == teams["right"].critic_model == OTHER


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"lft": Team()}, "unknown team 'lft' without groups; did you mean 'left'?"),
        ({"left": Team(["lefty"])}, "unknown group 'lefty' in teams.left; did you mean 'left'?"),
        ({"left": Team([])}, "teams.left has no groups"),
    ],
)
def test_errors(wanted: dict[str, Team], words: str) -> None:
    with pytest.raises(UserError, match=words):
        resolved(**wanted)


def test_a_team_without_an_algorithm_is_an_error() -> None:
    left = {"left": Team(None, MAPPOConfig())}
    with pytest.raises(UserError, match=r"'right' has no algorithm; set teams\.right\.algorithm="):
        resolve_teams(rivals(2, CPU), left, Team(None, None, MODEL))
    both = {**left, "right": Team(None, IPPOConfig())}
    assert len(resolve_teams(rivals(2, CPU), both, Team(None, None, MODEL))) == 2


def test_a_group_in_two_teams_is_an_error() -> None:
    with pytest.raises(UserError):
        resolved(one=Team(["left"]), two=Team(["left", "right"]))


def test_every_team_learns_for_itself() -> None:
    """Own algorithm, own random numbers, own weights; and sees the others' policies."""
    env = rivals(4, CPU)
    specs = resolved(left=Team(None, IPPOConfig()))
    built: Any = build_teams(env, specs, RunShape(4, 10, 1), seed=0)
    assert isinstance(built["left"].config, IPPOConfig)
    assert not isinstance(built["right"].config, IPPOConfig)
    seeds = {team.context.generator.initial_seed() for team in built.values()}
    assert len(seeds) == 2
    assert set(built["left"].context.policies) == {"left", "right"}
    assert list(built["left"].policy.groups) == ["left"]


# ----------------------------------------------------------------------------- opponents from a run


def run(directory: Path, teams: dict[str, Team] | None = None, **settings: Any) -> Experiment:
    made = Experiment(
        Task("tests.helpers.toy_envs:rivals"), MAPPOConfig(epochs=1), MODEL, teams=teams,
        settings=Settings(**{**SHORT, "total_frames": 80, **settings}), directory=directory,
    )  # fmt: skip
    made.run()
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Experiment:
    """A finished run of two learning teams."""
    return run(tmp_path_factory.mktemp("source") / "run")


def weights(experiment: Experiment, team: str) -> dict[str, torch.Tensor]:
    policy = experiment.teams[team].policy
    assert isinstance(policy, torch.nn.Module)
    return policy.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("by", ["run", "file"])
def test_a_frozen_team_is_its_source_and_stays_so(
    tmp_path: Path, source: Experiment, by: str
) -> None:
    path = source.directory if by == "run" else source.checkpoints.last()
    again = run(tmp_path / "run", {"right": Team(None, FrozenConfig(str(path)))}, seed=5)
    assert same(weights(again, "right"), weights(source, "right"))
    assert not same(weights(again, "left"), weights(source, "left"))
    policy = again.teams["right"].policy
    assert isinstance(policy, IndependentPolicy)
    assert not any(parameter.requires_grad for parameter in policy.parameters())


def test_a_frozen_team_is_found_by_name_or_groups(tmp_path: Path, source: Experiment) -> None:
    directory = str(source.directory)
    chosen = FrozenConfig(directory, source="left")
    assert same(weights(run(tmp_path / "a", {"left": Team(None, chosen)}), "left"),
                weights(source, "left"))  # fmt: skip
    wrong = FrozenConfig(directory, source="lfet")
    with pytest.raises(UserError, match=r"unknown team 'lfet' in run .*; did you mean 'left'"):
        run(tmp_path / "b", {"left": Team(None, wrong)})
    other = FrozenConfig(directory, source="right")
    with pytest.raises(UserError, match="does not fit here"):
        run(tmp_path / "c", {"left": Team(None, other)})


def test_a_frozen_team_explores_or_does_not(tmp_path: Path, source: Experiment) -> None:
    obs, start = rivals(4, CPU).reset(0), torch.ones(4, dtype=torch.bool)
    for explore, alike in ((True, False), (False, True)):
        chosen = Team(None, FrozenConfig(str(source.directory), explore=explore))
        team = run(tmp_path / str(explore), {"right": chosen}).teams["right"]
        draw = torch.Generator().manual_seed(0)
        drawn = torch.stack([team.act(obs, {}, start, draw).action["right"] for _ in range(20)])
        assert bool((drawn == drawn[0]).all()) is alike


def test_a_random_opponent_and_its_run_are_loaded_again(tmp_path: Path) -> None:
    made = run(tmp_path / "run", {"right": Team(None, RandomConfig())})
    directory, path, state = loading.load_checkpoint(made.directory, CPU)
    config, env = run_directory.read_config(directory), rivals(4, CPU)
    teams = build.load_teams(env, config["teams"], state["teams"], path)
    policy = teams["left"].policy
    assert isinstance(policy, IndependentPolicy)
    assert same(policy.state_dict(), weights(made, "left"))
    assert evaluate(env, teams, 5, 1)["returns"] == evaluate(env, made.teams, 5, 1)["returns"]


def follow(group: AgentGroup, seen: GroupObservation) -> Tensor:
    """What is seen, as an action."""
    return seen.obs[..., : group.action.encoded_size].argmax(-1)


def narrow(group: AgentGroup, seen: GroupObservation) -> Tensor:
    return seen.obs[0, :, 0]


def silent(group: AgentGroup, seen: GroupObservation) -> None: ...


def scripted(name: str) -> dict[str, Team]:
    return {"right": Team(None, ScriptedConfig(f"{__name__}:{name}"))}


def test_a_scripted_opponent_does_what_it_is_told(tmp_path: Path) -> None:
    made = run(tmp_path / "run", scripted("follow"))
    rollout, _ = made.collector.collect()
    seen = rollout.obs.groups["right"].obs
    assert torch.equal(rollout.action["right"], seen[..., :4].argmax(-1))
    assert list(made.evaluations.best) == ["left"]
    _, path, state = loading.load_checkpoint(made.directory, CPU)
    env = rivals(4, CPU)
    teams = build.load_teams(
        env, run_directory.read_config(made.directory)["teams"], state["teams"], path
    )
    assert evaluate(env, teams, 5, 1) == evaluate(env, made.teams, 5, 1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("narrow", r"actions of group 'right' must be a tensor \[4, 1\], not \[1\]"),
        ("silent", r"must be a tensor \[4, 1\], not NoneType"),
        ("nobody", "has no 'nobody'"),
        ("MODEL", "is no function"),
    ],
)
def test_a_script_that_tells_no_actions_is_told(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(tmp_path / "run", scripted(name), evaluation_interval=0)


def test_a_random_team_cannot_be_frozen(tmp_path: Path) -> None:
    made = run(tmp_path / "run", {"right": Team(None, RandomConfig())})
    again = {"right": Team(None, FrozenConfig(str(made.directory)))}
    with pytest.raises(UserError, match="holds no policy to load"):
        run(tmp_path / "again", again)


def test_a_run_with_a_frozen_team_resumes(tmp_path: Path, source: Experiment) -> None:
    chosen = {"right": Team(None, FrozenConfig(str(source.directory)))}
    run(tmp_path / "run", chosen)
    again = Experiment.load(tmp_path / "run", total_frames=120)
    again.run()
    assert again.frames == 120 and same(weights(again, "right"), weights(source, "right"))


def test_teams_on_and_off_policy_learn_together_and_resume(tmp_path: Path) -> None:
    """One from the rollout, the other from the replay; stopped and continued as if never."""
    off = MADDPGConfig(warmup=20, batch_size=8, frames_per_update=20, inference=True)
    teams = {"left": Team(None, MAPPOConfig(epochs=1)), "right": Team(None, off, OTHER)}
    settings = {"total_frames": 160, "selfplay": SelfPlayConfig(share=0.5, interval=40)}
    whole = run(tmp_path / "whole", teams, **settings)
    first = run(tmp_path / "parts", teams, **{**settings, "total_frames": 80})
    again = Experiment.load(tmp_path / "parts", total_frames=160)
    again.run()
    for team in teams:
        assert same(weights(again, team), weights(whole, team))
        assert not same(weights(again, team), weights(first, team))
    assert outcome(whole.directory)["evaluations"] == outcome(again.directory)["evaluations"]
    assert outcome(whole.directory)["metrics"] == outcome(again.directory)["metrics"]
    lines = read_jsonl(whole.directory / "metrics.jsonl")
    assert "kl/left" in lines[0] and "inference_kl/right" in lines[-1]
