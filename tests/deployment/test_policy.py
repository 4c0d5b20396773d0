"""``marl.load_policy``: the actions of a trained policy, without its environment."""

from __future__ import annotations

import json
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import marl
from marl.cli import compose
from marl.deployment.conversion import Converter
from marl.deployment.policy import LoadedPolicy, load_policy
from marl.errors import UserError
from marl.training import build, collector, loading, run_directory, stored_groups
from marl.types import (
    AgentGroup,
    Continuous,
    Discrete,
    EntitySpec,
    GroupObservation,
    MultiDiscrete,
    Observation,
    TensorSpec,
)
from tests.golden import older_runs
from tests.helpers.builders import CPU

COMMON = (
    "total_frames=40 num_envs=2 steps=10 evaluation_episodes=2 video=false progress=false "
    "model.hidden=[8]"
)
OFF = "algorithm.warmup=20 algorithm.batch_size=8 algorithm.frames_per_update=20"
RUNS = {
    "discrete": "task=mpe/simple_spread algorithm=mappo",
    "memory": "task=mpe/simple_spread algorithm=mappo model=gru algorithm.chunk_length=5",
    "continuous": "task=mpe/simple_spread task.kwargs.continuous_actions=true algorithm=mappo",
    "soft": f"task=mpe/simple_spread task.kwargs.continuous_actions=true algorithm=hasac {OFF}",
    "deterministic": f"task=mpe/simple_tag algorithm=maddpg {OFF}",
    "ensemble": f"task=mpe/simple_spread algorithm=maddpg algorithm.ensemble=2 {OFF}",
    "joint": "task=mpe/simple_spread algorithm=mappo algorithm.joint.graph=learned",
    "entities": "task=navigation/target algorithm=mappo model=informarl model.hidden=[16]",
    "mortal": "task=tests.helpers.toy_envs:mortal algorithm=mappo",
    "images": "task=tests.helpers.toy_envs:images algorithm=mappo "
    "model.kernels=[3] model.strides=[2] model.channels=[4]",
    "choices": "task=tests.helpers.toy_envs:multidiscrete algorithm=mappo",
    "stacked": "task=tests.helpers.toy_envs:identity algorithm=mappo "
    "task.wrappers=[{stack_observations:3},{reward_scale:0.1}]",
    "scripted": "task=mpe/simple_tag algorithm=mappo teams.agent.algorithm=random",
}


def run(name: str, directory: Path) -> Path:
    words = [*COMMON.split(), *RUNS[name].split(), f"directory={directory}"]
    compose.build(compose.composed(words)).run()
    return directory


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("runs")
    return cache(lambda name: run(name, folder / name))


def in_environment(directory: Path) -> tuple[Any, Any]:
    """The run's environment, and its newest policies built from it: the way of ``evaluate``."""
    config = run_directory.read_config(directory)
    _, path, state = loading.load_checkpoint(directory, CPU)
    env = config["task"](3, CPU)
    return env, build.load_teams(env, config["teams"], state["teams"], path, config["agents"])


def pettingzoo(group: GroupObservation, agent: int) -> Any:
    """What one agent of the first environment observes, as PettingZoo gives it."""
    if group.action_mask is None:
        return group.obs[0, agent]
    return {"observation": group.obs[0, agent], "action_mask": group.action_mask[0, agent]}


def copied(obs: Observation) -> dict[str, Any]:
    """Observations by agent, with PettingZoo's dicts where there are masks."""
    return {
        name: {"observation": group.obs, "action_mask": group.action_mask}
        if group.action_mask is not None
        else group.obs
        for name, group in obs.groups.items()
    }


@pytest.mark.parametrize(
    "name", [name for name in RUNS if name not in ("mortal", "scripted", "stacked")]
)
def test_it_acts_as_the_run_does_in_its_environment(runs: Any, name: str) -> None:
    directory = runs(name)
    env, teams = in_environment(directory)
    policy = load_policy(directory, "last")
    random, obs = torch.Generator(), env.reset(0)
    carry = collector.initial_carry(teams, 3)
    start = torch.ones(3, dtype=torch.bool)
    for _ in range(30):  # beyond an episode's end
        step = collector.act(teams, obs, carry, start, random, explore=False)
        action = policy(copied(obs), graph=obs.graph)
        assert action.keys() == step.action.keys()
        assert all(torch.equal(action[g], step.action[g]) for g in action)
        transition = env.step(step.action)
        obs, carry, start = transition.obs, step.carry, transition.done
        policy.reset(start)


def test_it_stacks_observations_as_the_run_did(runs: Any) -> None:
    """Through restarts of single environments too; stacks of the run's own environment will do."""
    directory = runs("stacked")
    env, teams = in_environment(directory)
    policy, other = load_policy(directory, "last"), load_policy(directory, "last")
    sizes = {name: group.observation.shape[-1] for name, group in policy.groups.items()}
    assert {n: 3 * size for n, size in sizes.items()} == {
        name: group.observation.shape[-1] for name, group in env.groups.items()
    }
    start, obs, ends = torch.ones(3, dtype=torch.bool), env.reset(0), []
    for _ in range(30):
        step = collector.act(teams, obs, {}, start, torch.Generator(), explore=False)
        newest = {n: group.obs[..., -sizes[n] :] for n, group in obs.groups.items()}
        for action in (policy(newest), other(obs)):
            assert all(torch.equal(action[g], step.action[g]) for g in step.action)
        transition = env.step(step.action)
        obs, start = transition.obs, transition.done
        policy.reset(start)
        ends.append(int(start.sum()))
    assert {1, 2} & set(ends)


def test_by_agent_without_a_batch_it_is_the_same(runs: Any) -> None:
    env, teams = in_environment(runs("memory"))
    policy, obs = load_policy(runs("memory"), "last"), env.reset(0)
    carry, start = collector.initial_carry(teams, 3), torch.ones(3, dtype=torch.bool)
    (group,) = env.groups.values()
    for _ in range(4):
        step = collector.act(teams, obs, carry, start, torch.Generator(), explore=False)
        by_agent = {a: obs.groups[group.name].obs[0, i].numpy() for i, a in enumerate(group.agents)}
        action = policy(by_agent)
        assert list(action) == list(group.agents)
        assert [int(action[a]) for a in group.agents] == step.action[group.name][0].tolist()
        assert all(isinstance(x, np.integer) for x in action.values())
        transition = env.step(step.action)
        obs, carry, start = transition.obs, step.carry, transition.done


def test_agents_that_left_are_missing(runs: Any) -> None:
    env, teams = in_environment(runs("mortal"))
    policy, obs = load_policy(runs("mortal"), "last"), env.reset(0)
    carry, start = collector.initial_carry(teams, 3), torch.ones(3, dtype=torch.bool)
    gone = 0
    for _ in range(12):
        step = collector.act(teams, obs, carry, start, torch.Generator(), explore=False)
        for name, group in env.groups.items():
            alive = obs.groups[name].alive
            assert group.mortal and alive is not None
        given = {
            agent: pettingzoo(obs.groups[name], i)
            for name, group in env.groups.items()
            for i, agent in enumerate(group.agents)
            if obs.groups[name].alive[0, i]
        }
        if given:
            policy.reset()  # no memory here
            action = policy(given)
            assert action.keys() == given.keys()
            for name, group in env.groups.items():
                for i, agent in enumerate(group.agents):
                    if agent in given:
                        assert torch.equal(action[agent], step.action[name][0, i])
        gone += len(given) < sum(g.size for g in env.groups.values())
        transition = env.step(step.action)
        obs, carry, start = transition.obs, step.carry, transition.done
    assert gone


def test_exploring_repeats_with_the_seed(runs: Any) -> None:
    obs = {"agent": np.zeros((2, 3, 18), np.float32)}
    draws = [
        [load_policy(runs("discrete"), seed=seed)(obs, explore=True)["agent"] for _ in range(1)]
        for seed in (1, 1, 2, 3, 4)
    ]
    assert (draws[0][0] == draws[1][0]).all()
    assert any((draws[0][0] != other[0]).any() for other in draws[2:])


def test_the_example_plays_in_pettingzoo(runs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: the same episode of mpe2, with the policy that the environment of the run made."""
    example = Path(__file__).parents[2] / "docs/examples/use_policy.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["use_policy.py", str(runs("discrete"))])
        runpy.run_path(str(example))
    printed = capsys.readouterr().out
    from mpe2 import simple_spread_v3

    _, teams = in_environment(runs("discrete"))
    env = simple_spread_v3.parallel_env(max_cycles=25)
    observations, _ = env.reset(seed=0)
    total = 0.0
    while env.agents:
        rows = torch.stack([torch.as_tensor(observations[a]) for a in env.agents]).float()
        obs = Observation({"agent": GroupObservation(rows.unsqueeze(0))})
        start = torch.zeros(1, dtype=torch.bool)
        step = collector.act(teams, obs, {}, start, torch.Generator(), explore=False)
        action = dict(zip(env.agents, step.action["agent"][0].tolist(), strict=True))
        observations, rewards, *_ = env.step(action)
        total += sum(rewards.values()) / len(rewards)
    assert printed == f"return {total:.2f}\n"


def test_one_team_of_several(runs: Any) -> None:
    policy = load_policy(runs("deterministic"), team="adversary")
    assert list(policy.groups) == ["adversary"]
    both = load_policy(runs("deterministic"))
    assert list(both.groups) == ["adversary", "agent"]
    observations = {
        agent: np.ones(group.observation.shape, np.float32)
        for group in both.groups.values()
        for agent in group.agents
    }
    expected = {agent: x for agent, x in both(observations).items() if "adversary" in agent}
    assert policy(observations) == expected and len(expected) == 3  # the others' are passed over
    with pytest.raises(UserError, match=r"unknown team 'adversry' in run .*did you mean"):
        load_policy(runs("deterministic"), team="adversry")


def test_a_team_that_does_not_learn_acts_too(runs: Any) -> None:
    policy = load_policy(runs("scripted"))
    env, _ = in_environment(runs("scripted"))
    action = policy(copied(env.reset(0)))
    assert action["agent"].shape == (3, 1)


def test_no_environment_is_made(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marl.envs.task.Task.__call__", None)
    assert isinstance(load_policy(runs("soft")), LoadedPolicy)


def test_a_run_that_trains_is_only_read(runs: Any) -> None:
    files = {p: p.stat().st_mtime_ns for p in runs("discrete").rglob("*")}
    load_policy(runs("discrete"))
    assert files == {p: p.stat().st_mtime_ns for p in runs("discrete").rglob("*")}


@pytest.mark.parametrize(
    "older", sorted(older_runs.FOLDER.glob("format_1/*")), ids=lambda p: p.name
)
def test_older_runs_ask_their_environment(older: Path) -> None:
    config = json.loads((older / "config.json").read_text())
    assert "spaces" not in config
    policy = load_policy(older, "last")
    env, teams = in_environment(older)
    obs = env.reset(0)
    carry, start = collector.initial_carry(teams, 3), torch.ones(3, dtype=torch.bool)
    step = collector.act(teams, obs, carry, start, torch.Generator(), explore=False)
    action = policy(copied(obs))
    assert all(torch.equal(action[g], step.action[g]) for g in action)


IMAGE = TensorSpec((4, 5, 2), torch.uint8)
GROUPS = [
    AgentGroup("a", ("x", "y"), TensorSpec((3,)), Discrete(4), masked=True),
    AgentGroup("b", ("z",), IMAGE, MultiDiscrete((2, 3)), mortal=True),
    AgentGroup(
        "c", ("w",), TensorSpec((2,)), Continuous((-1.0, 0.0), (1.0, 2.5)),
        entities=EntitySpec(2, 3),
    ),
]  # fmt: skip


def test_groups_are_stored_exactly() -> None:
    groups = {group.name: group for group in GROUPS}
    plain = json.loads(json.dumps(stored_groups.groups_to_plain(groups, 7)))
    again = stored_groups.groups_from_plain(plain, CPU)
    assert again.groups == groups and again.state_size == 7


def test_an_agent_alone_in_a_group_of_its_name() -> None:
    """PettingZoo's arrays are without the axis N, and so are the actions."""
    group = AgentGroup("red", ("red",), TensorSpec((3,)), Discrete(2))
    converter, action = Converter({"red": group}, CPU), {"red": torch.ones(2, 1, dtype=torch.long)}
    for shape, expected in {(3,): (), (2, 3): (2,), (1, 3): (1,), (2, 1, 3): (2, 1)}.items():
        obs, form = converter.observation({"red": np.zeros(shape)}, None, None)
        assert obs.groups["red"].obs.shape == (form.size, 1, 3)
        assert np.shape(converter.actions(action, form)["red"]) == expected


def bad_calls() -> dict[str, tuple[Any, str]]:
    zeros = np.zeros
    return {
        "shape": ({"agent": zeros((3, 17))}, r"agent has the shape \(3, 17\); expected \(3, 18\)"),
        "name": ({"agent_9": zeros(18)}, "unknown agent or group 'agent_9' of this policy"),
        "few": ({"agent_0": zeros(18)}, "agent_1, agent_2 are missing"),
        "none": ({}, "there are no observations"),
        "array": (np.zeros(3), "expected by agent or group, such as .* not ndarray"),
        "mask": (
            {"agent": {"observation": zeros((3, 18)), "action_mask": zeros((3, 5))}},
            "trained without action masks; leave them out",
        ),
        "dict": ({"agent": {"obs": zeros((3, 18))}}, "a dict of obs; expected an array"),
        "sizes": (
            {f"agent_{i}": zeros((1 + i % 2, 18)) for i in range(3)},
            "different numbers of environments",
        ),
    }


@pytest.mark.parametrize("case", bad_calls())
def test_wrong_observations_are_refused(runs: Any, case: str) -> None:
    observations, message = bad_calls()[case]
    with pytest.raises(UserError, match=message):
        load_policy(runs("discrete"))(observations)


def test_another_batch_needs_a_reset(runs: Any) -> None:
    policy = load_policy(runs("memory"))
    policy({"agent": np.zeros((2, 3, 18))})
    with pytest.raises(UserError, match=r"of 4 environments, .* of 2; call reset\(\)"):
        policy({"agent": np.zeros((4, 3, 18))})
    with pytest.raises(UserError, match=r"reset\(mask\) has 3 entries"):
        policy.reset([True, False, True])
    policy.reset()
    assert policy({"agent": np.zeros((4, 3, 18))})["agent"].shape == (4, 3)


def test_a_graph_policy_needs_its_graph(runs: Any) -> None:
    policy = load_policy(runs("entities"))
    (group,) = policy.groups.values()
    with pytest.raises(UserError, match="reads a graph of entities; give it by graph="):
        policy({group.name: np.zeros((group.size, *group.observation.shape))})


def test_wrong_checkpoints_are_refused(runs: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown checkpoint 'bset'"):
        load_policy(runs("discrete"), "bset")
    with pytest.raises(UserError, match="does not exist"):
        load_policy(tmp_path / "none")
    newest = sorted((runs("discrete") / "checkpoints").glob("frames-*.pt"))[-1]
    assert marl.load_policy(newest).groups.keys() == {"agent"}
    assert load_policy(runs("discrete"), newest.name).groups.keys() == {"agent"}
