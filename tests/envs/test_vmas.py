"""The VMAS adapter in all scenarios: parity with VMAS, restarts, states and random numbers."""

from __future__ import annotations

import ast
import io
import pickle
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import marl.envs.vmas.env
from marl.env import VectorEnv, check_env
from marl.envs.vmas.env import SCENARIOS, VmasEnv
from marl.types import Transition, tree_tensors
from tests.helpers.vmas import actions, assert_same, play, raw_actions

B = 3
# Fewer agents and cells where VMAS takes long.
SMALL: dict[str, dict[str, Any]] = {
    "sampling": {"grid_spacing": 0.5},
    "road_traffic": {"n_agents": 3},
    "pollock": {"n_agents": 2, "n_lines": 2, "n_boxes": 2},
    "football": {"n_blue_agents": 2, "n_red_agents": 2, "ai_red_agents": False},
}
# What these have only once for all copies is drawn anew when all restart, and kept when some do.
COMMON = (
    "het_mass",
    "simple_adversary",
    "simple_push",
    "simple_reference",
    "simple_speaker_listener",
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(scenario: str, **arguments: Any) -> VmasEnv:
    return VmasEnv(scenario, B, **{**SMALL.get(scenario, {}), **arguments})


def make_raw(scenario: str, seed: int, **arguments: Any) -> Any:
    import vmas

    small = SMALL.get(scenario, {})
    return vmas.make_env(scenario, B, seed=seed, terminated_truncated=True, **small, **arguments)


def saved(env: VmasEnv) -> dict[str, Any]:
    """A state, through a file."""
    file = io.BytesIO()
    torch.save(env.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def global_random_states() -> tuple[Any, ...]:
    numpy_state = pickle.dumps(np.random.get_state())  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), numpy_state


# ------------------------------------------------------------------------------------ all scenarios


def test_scenarios_are_vmas_own():
    import vmas

    assert sorted(vmas.scenarios + vmas.mpe_scenarios + vmas.debug_scenarios) == list(SCENARIOS)


def test_scenarios_are_known_without_importing_vmas():
    for path in Path(marl.envs.vmas.env.__file__).parent.glob("vmas*.py"):
        for node in ast.parse(path.read_text()).body:  # at the top, not inside of functions
            imported = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else ""
            assert not re.match(r"(import|from) (vmas|gym|pyglet)\b", imported)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_contract_and_isolation(scenario: str):
    import vmas.simulator.environment as simulator

    before, initialized = global_random_states(), torch.cuda.is_initialized()
    shared = pickle.dumps(simulator.Environment.vmas_random_state)
    env = make(scenario, max_steps=1)
    assert isinstance(env, VectorEnv)
    check_env(env, steps=2)
    assert global_random_states() == before
    assert pickle.dumps(simulator.Environment.vmas_random_state) == shared
    assert torch.cuda.is_initialized() == initialized


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_parity_with_vmas(scenario: str):
    env, raw = make(scenario), make_raw(scenario, seed=5)
    obs, seen = env.reset(5), raw.reset(seed=5)
    kept: list[tuple[Transition, list[Tensor]]] = []
    places = {agent.name: place for place, agent in enumerate(raw.agents)}
    for t in range(2):
        for name, group in env.groups.items():
            expected = torch.stack([seen[places[agent]] for agent in group.agents], dim=1)
            assert torch.equal(obs.groups[name].obs, expected)
        action = actions(env, obs, seed=t)
        with torch.no_grad():
            seen, reward, terminated, _, _ = raw.step(raw_actions(env, action))
        transition = env.step(action)
        kept.append((transition, [tensor.clone() for tensor in tree_tensors(transition)]))
        for name, group in env.groups.items():
            expected = [reward[places[agent]].reshape(B) for agent in group.agents]
            assert torch.equal(transition.reward[name], torch.stack(expected, dim=1))
            assert torch.equal(transition.terminated[name][:, 0], terminated)
        if transition.done.any():
            break
        obs = transition.obs
    for transition, copies in kept:  # nothing that was returned has changed since
        assert_same(transition, copies)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_state_and_restarts(scenario: str):
    """From one state the same step three times: as it goes on; reloaded, with copies 0 and 2 at
    their time limit; and reloaded with all copies there."""
    env = make(scenario, max_steps=50)
    last = play(env, env.reset(3), steps=2)[-1]
    assert not last.done.any(), "choose another seed"
    state, action = saved(env), actions(env, last.obs, seed=9)
    some, every = make(scenario, max_steps=50), make(scenario, max_steps=50)
    state["steps"][0] = state["steps"][2] = 49
    some.load_state_dict(state)
    state["steps"][1] = 49
    every.load_state_dict(state)
    straight, partial, full = (e.step(action) for e in (env, some, every))
    assert not straight.done.any(), "choose another seed"
    # The state is exact, and the successors are the true ones.
    assert_same(outcome(straight), outcome(partial))
    assert_same(outcome(straight), outcome(full))
    ended = torch.tensor([True, False, True])
    assert torch.equal(partial.done, ended)
    assert all(torch.equal(x.all(1), ended) for x in partial.truncated.values())
    assert partial.next_obs is not partial.obs
    assert_same(partial.obs, straight.obs, ~ended)
    if scenario not in COMMON:
        assert_same(partial.obs, full.obs, ended)  # as if everything had been reset
    # With equal random numbers, what went on and what restarted stay what they are.
    numbers = some.state_dict()["random"]
    env.load_state_dict({**env.state_dict(), "random": numbers})
    every.load_state_dict({**every.state_dict(), "random": numbers})
    action = actions(some, partial.obs, seed=20)
    straight, partial, full = (e.step(action) for e in (env, some, every))
    assert_same(outcome(straight), outcome(partial), ~ended)
    if scenario not in COMMON:
        assert_same(outcome(full), outcome(partial), ended)


def outcome(transition: Transition) -> Any:
    return transition.next_obs, transition.reward, transition.terminated, transition.info
