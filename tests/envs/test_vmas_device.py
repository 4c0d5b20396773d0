"""Steps of VMAS that do not wait for the device."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from marl.envs.graph import GraphOptions
from marl.envs.vmas.capture import COPIES, SELECTS, WAITS, find_reads
from marl.envs.vmas.env import SCENARIOS, VmasEnv
from marl.envs.vmas.quiet import make_quiet
from tests.envs.test_vmas import SMALL, make
from tests.helpers.vmas import actions, assert_same

SOME = ("balance", "navigation", "simple_tag")  # gravity, rewards that ask for contacts, crowds


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(name, marks=[] if name in SOME else [pytest.mark.slow]) for name in SCENARIOS],
)
def test_quiet_worlds_are_equal(scenario: str) -> None:
    """Through restarts and a saved state, which loads into either world."""
    env, quiet = make(scenario, max_steps=7), make(scenario, max_steps=7)
    make_quiet(quiet._vmas.world)
    obs = env.reset(3)
    quiet.reset(3)
    for t in range(12):
        action = actions(env, obs, seed=t)
        expected, transition = env.step(action), quiet.step(action)
        assert_same(expected, transition)
        obs = expected.obs
        if t == 8:
            state = env.state_dict()
            env.load_state_dict(quiet.state_dict())
            quiet.load_state_dict(state)


@pytest.mark.parametrize(
    ("scenario", "cause"),
    [
        ("het_mass", ""),
        ("simple", ""),
        ("wheel", f"a step of vmas/wheel {COPIES} in _get_constraint_forces (core.py)"),
        ("simple_spread", f"a step of vmas/simple_spread {SELECTS} in reward (simple_spread.py)"),
        ("flocking", f"a step of vmas/flocking {WAITS} in action_callback (core.py)"),
        ("dropout", "vmas/dropout ends episodes by itself, which the host has to read"),
    ],
)
def test_what_keeps_a_step_from_being_recorded(scenario: str, cause: str) -> None:
    env = make(scenario)
    before = torch.get_rng_state()
    assert env.capturable() == cause
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow  # some scenarios take seconds to build
def test_the_table_in_the_docs() -> None:
    text = Path("docs/environments.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if "`het_mass`, `simple`," in line]
    free = {name for name in SCENARIOS if not make(name).capturable()}
    assert free == set(re.findall(r"`(\w+)`", rows[0][2]))


def test_the_graph_is_built_on_the_device() -> None:
    assert make("het_mass", graph=GraphOptions("world")).capturable() == ""


def test_ends_by_time_are_known_on_the_host() -> None:
    """Even of copies that end apart from each other, as after loading a state."""
    env = make("simple", max_steps=3)
    make_quiet(env._vmas.world)
    assert find_reads(env, steps=2) == []  # up to the end of the episodes
    state = env.state_dict()
    state["steps"] = torch.tensor([0, 1, 2])
    env.load_state_dict(state)
    action = actions(env, env.reset(0), seed=0)
    env.load_state_dict(state)
    done = torch.stack([env.step(action).done for _ in range(6)])
    assert torch.equal(done, torch.eye(3, dtype=torch.bool).flip(0).repeat(2, 1))


def test_observed_and_paid_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """And observed once more where episodes begin."""
    env = VmasEnv("simple_spread", 2, max_steps=3, **SMALL.get("simple_spread", {}))
    calls: Counter[str] = Counter()
    action = actions(env, env.reset(0), seed=0)
    for name in ("observation", "reward", "done", "info"):
        _count(monkeypatch, env, name, calls)
    agents = len(env._vmas.agents)
    env.step(action)
    assert calls == {"observation": agents, "reward": agents, "info": agents}
    calls.clear()
    env.step(action)
    assert env.step(action).done.all()
    assert calls == {"observation": 3 * agents, "reward": 2 * agents, "info": 2 * agents}


def _count(monkeypatch: pytest.MonkeyPatch, env: VmasEnv, name: str, calls: Counter[str]) -> None:
    method = getattr(env._vmas.scenario, name)

    def counted(*arguments: Any) -> Any:
        calls[name] += 1
        return method(*arguments)

    monkeypatch.setattr(type(env._vmas.scenario), name, lambda _, *a: counted(*a))
