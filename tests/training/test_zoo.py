"""Policies as files: what is written is read, and the zoo plays what its records say."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import marl
from marl.algorithms.mappo import MAPPOConfig
from marl.algorithms.scripted import FrozenConfig
from marl.cli.zoo import listed
from marl.errors import UserError
from marl.training import build, joint_evaluation, loading, policy_file, run_directory, zoo
from marl.training.agent_order import OrderedTask, arrange
from marl.training.teams import Team
from marl.utils.seeding import evaluation_seed
from tests.helpers.builders import CPU

ROOT = Path(__file__).parents[2]
SPACES = {"state_size": None, "groups": {}}
STATES = {
    "a/b": {"frames": 10, "teams": {"a/b": {"policy": {"net.0": torch.rand(2, 3)}}}},
    "a": {"frames": 20, "teams": {"a": {"policy": {"n": torch.tensor(3)}, "other": 1}}},
}
SPECS = {name: Team(None, MAPPOConfig()) for name in STATES}


def test_each_team_gets_its_own_weights_back(tmp_path: Path) -> None:
    policy_file.write(tmp_path / policy_file.NAME, STATES, SPACES, SPECS)
    state = policy_file.read(tmp_path / policy_file.NAME, CPU)
    assert state["frames"] == 20 and state["spaces"] == SPACES
    assert list(state["teams"]) == ["a/b", "a"]
    for team, written in STATES.items():
        read, expected = state["teams"][team]["policy"], written["teams"][team]["policy"]
        assert read.keys() == expected.keys()
        assert all(
            torch.equal(read[k], x) and read[k].dtype == x.dtype for k, x in expected.items()
        )


def test_a_damaged_file_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / policy_file.NAME
    policy_file.write(path, STATES, SPACES, SPECS)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="not a policy file of this program, or it is damaged"):
        policy_file.read(path, CPU)
    for about in ("{}", "[]", '{"frames": {}, "format": 2, "spaces": {}}', '{"frames": 3}'):
        path.write_bytes(save({"a/b": torch.zeros(1)}, {policy_file.ABOUT: about}))
        with pytest.raises(UserError, match="not a policy file of this program"):
            policy_file.read(path, CPU)
    with pytest.raises(UserError, match="does not exist"):
        policy_file.read(tmp_path / "none.safetensors", CPU)


@pytest.mark.parametrize("name", ["bayes/coordination/learned", "mpe/spread/mappo"])
def test_a_policy_of_the_zoo_plays_its_record_again(name: str) -> None:
    directory, file, state = loading.load_checkpoint(Path(f"zoo:{name}"), CPU)
    config = run_directory.read_config(directory)
    settings, agents = config["settings"], config["agents"]
    env = OrderedTask(config["task"], partial(arrange, saved=agents))(32, CPU)
    teams = build.load_teams(env, config["teams"], state["teams"], file, agents)
    seed = evaluation_seed(settings.seed, "absolute")
    result = joint_evaluation.play(env, teams, settings.absolute_episodes, seed)
    record = json.loads((directory / "absolute.json").read_text())["team"]
    assert result["returns"] == record["returns"]


def test_every_policy_of_the_zoo_acts() -> None:
    policies = dict(zoo.names())
    assert len(policies) == 87 == len(listed())
    for name, path in policies.items():
        policy = marl.load_policy(f"zoo:{name}")
        assert {n for group in policy.groups.values() for n in group.agents}
        assert path.stat().st_size <= 400_000
    shown = (ROOT / "docs/_static/zoo").glob("*.mp4")
    assert {film.stem.replace("-", "/") for film in shown} <= set(policies)


def test_a_copied_record_is_a_policy(tmp_path: Path) -> None:
    source = zoo.find("zoo:bayes/coordination/ippo").parent
    for name in ("config.json", policy_file.NAME):
        shutil.copy(source / name, tmp_path)
    policy = marl.load_policy(tmp_path)
    assert repr(policy).startswith("LoadedPolicy(IndependentPolicy of ")
    obs = {
        name: torch.zeros(len(g.agents), *g.observation.shape) for name, g in policy.groups.items()
    }
    expected = marl.load_policy("zoo:bayes/coordination/ippo")(obs)
    assert all(torch.equal(action, expected[name]) for name, action in policy(obs).items())
    other = zoo.find("zoo:mpe/spread/hasac").parent
    shutil.copy(other / policy_file.NAME, tmp_path)
    with pytest.raises(UserError, match=r"what HASACConfig has trained .* is of IPPOConfig"):
        marl.load_policy(tmp_path)
    with pytest.raises(UserError, match="holds best policies only"):
        marl.load_policy(tmp_path, checkpoint="last")


def test_a_name_stays_what_it_is_in_settings() -> None:
    assert FrozenConfig("zoo:mpe/spread/hasac").checkpoint == "zoo:mpe/spread/hasac"


def test_errors_name_what_there_is() -> None:
    record = Path(loading.policies_of(Path("zoo:mpe/spread/hasac")) or "").parents[1] / "seed_1"
    with pytest.raises(UserError, match="seed_1' is a record without a policy; "):
        loading.load_checkpoint(record, CPU)
    with pytest.raises(UserError, match="did you mean 'mpe/spread/hasac'"):
        marl.load_policy("zoo:mpe/spred/hasac")
    with pytest.raises(UserError, match="unknown team 'tem'"):
        loading.load_checkpoint(Path("zoo:mpe/spread/hasac"), CPU, "tem")
