"""The PettingZoo adapter: parity with the raw environments, the contract, names."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from marl.env import VectorEnv, check_env, copy_seeds, random_action
from marl.envs.pettingzoo import env as pettingzoo
from marl.envs.pettingzoo.env import PettingZooEnv
from marl.envs.pettingzoo.factories import MPE2, REGISTRY
from marl.errors import UserError
from marl.types import TensorSpec
from tests.helpers.adapted_envs import UNIT, numbers, scripted
from tests.helpers.scripted_envs import Counting, Step

ROOT = Path(__file__).parents[2]

# ------------------------------------------------------------------------- parity with raw mpe2


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("name", ["simple_spread_v3", "simple_tag_v3"])
def test_mpe2_trajectories_are_the_raw_environments(name: str, continuous: bool) -> None:
    env = pettingzoo.make(
        f"mpe2/{name}", 2, continuous_actions=continuous, max_cycles=6, state=True
    )
    raws = [env_of(name, continuous) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    seen = env.reset(10)
    for raw, seed in zip(raws, copy_seeds(10, 2), strict=True):
        raw.reset(seed=seed)
    for step in range(15):
        action = {n: random_action(g, seen.groups[n], generator) for n, g in env.groups.items()}
        transition = env.step(action)
        for copy, raw in enumerate(raws):
            compare_step(
                env, transition, raw, copy, {n: a[copy].numpy() for n, a in action.items()}
            )
        assert transition.done.tolist() == [step % 6 == 5] * 2
        assert all(torch.equal(x.all(1), transition.done) for x in transition.truncated.values())
        seen = transition.obs


def env_of(name: str, continuous: bool) -> Any:
    module = __import__(f"mpe2.{name}", fromlist=["parallel_env"])
    return module.parallel_env(continuous_actions=continuous, max_cycles=6)


def compare_step(
    env: PettingZooEnv, transition: Any, raw: Any, copy: int, action: Mapping[str, np.ndarray]
) -> None:
    agents = [(n, i, agent) for n, g in env.groups.items() for i, agent in enumerate(g.agents)]
    raw_obs, rewards, terminated, _, _ = raw.step({agent: action[n][i] for n, i, agent in agents})
    assert np.array_equal(transition.next_obs.state[copy].numpy(), raw.state())
    for n, i, agent in agents:
        found = transition.next_obs.groups[n].obs[copy, i].numpy()
        assert np.array_equal(found, raw_obs[agent].astype(np.float32))
        assert transition.reward[n][copy, i].item() == np.float32(rewards[agent])
        assert transition.terminated[n][copy, i].item() == terminated[agent]
    if not raw.agents:
        raw_obs, _ = raw.reset()
    for n, i, agent in agents:
        found = transition.obs.groups[n].obs[copy, i].numpy()
        assert np.array_equal(found, raw_obs[agent].astype(np.float32))
    assert np.array_equal(transition.obs.state[copy].numpy(), raw.state())


# ------------------------------------------------------------------------------------ the contract


@pytest.mark.parametrize("name", MPE2)
def test_mpe2_environments_keep_the_contract(name: str) -> None:
    env = pettingzoo.make(f"mpe2/{name}", 2)
    assert isinstance(env, VectorEnv)
    check_env(env, steps=30)
    assert not any(group.mortal for group in env.groups.values())
    env.close()


def test_rock_paper_scissors() -> None:
    env = pettingzoo.make("pettingzoo/classic/rps-v2", 3)
    check_env(env, steps=40)
    assert env.groups["player"].observation == TensorSpec((4,))
    with pytest.raises(UserError, match=r"no usable state\(\)"):
        pettingzoo.make("pettingzoo/classic/rps-v2", 1, state=True)


@pytest.mark.parametrize(
    "name",
    [name for name in REGISTRY if name != "classic/rps-v2"],
)
def test_other_environments_keep_the_contract_where_they_are_installed(name: str) -> None:
    try:
        env = pettingzoo.make(f"pettingzoo/{name}", 2)
    except UserError as error:
        assert f"pip install 'marl-groups[{name.partition('/')[0]}]'" in str(error)
        pytest.skip(str(error))
    check_env(env, steps=30)
    image = env.render(1)
    assert image.dtype == np.uint8 and image.ndim == 3
    env.close()


def test_mortal_agents_and_state_keep_the_contract() -> None:
    env = PettingZooEnv(Counting, 3, state=True)
    check_env(env, steps=20)
    assert env.state_size == 2 and env.groups["agent"].mortal
    assert env.state_dict() is None


def global_random_states() -> tuple[Any, Any, Any]:
    numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002  # the global one is meant
    return numpy["key"].tolist(), torch.get_rng_state().tolist(), random.getstate()


def test_copies_differ_and_global_random_states_stay() -> None:
    before = global_random_states()
    env = pettingzoo.make("mpe2/simple_spread", 2)
    seen = env.reset(0).groups["agent"].obs
    env.step({"agent": torch.zeros(2, 3, dtype=torch.int64)})
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(env.reset(0).groups["agent"].obs, seen)
    assert global_random_states() == before


def test_render() -> None:
    env = pettingzoo.make("mpe2/simple_spread", 1)
    env.reset(0)
    assert env.render().shape == (700, 700, 3) and env.render().dtype == np.uint8
    env = scripted([Step(numbers(a_0=0), ["a_0"])], {"a_0": UNIT})
    with pytest.raises(NotImplementedError):
        env.render()


# -------------------------------------------------------------------------------------- names


def test_names_are_those_of_the_installed_package() -> None:
    from mpe2.all_modules import mpe_environments
    from pettingzoo import parallel_registry

    names = pettingzoo.names()
    installed = {name.partition("/")[2] for name in mpe_environments}
    assert {name[5:] for name in names if name.startswith("mpe2/")} == installed
    known = {f"pettingzoo/{name}" for name in parallel_registry if not name.startswith("atari/")}
    assert {name for name in names if name.startswith("pettingzoo/")} == known


def test_importing_the_adapter_is_cheap() -> None:
    code = (
        "import sys, marl.envs.pettingzoo.env as p; p.names(); "
        "heavy = {'pettingzoo', 'gymnasium', 'pygame', 'mpe2'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mpe2/simple_spraed_v3", "unknown task .*; did you mean 'mpe2/simple_spread_v3'"),
        ("pettingzoo/sisl/multiwaker-v9", "did you mean 'pettingzoo/sisl/multiwalker-v9'"),
        ("pettingzoo/classic/chess-v6", "turn-based"),
        ("nonsense", "unknown task 'nonsense'"),
        ("no_module:factory", "cannot import"),
        ("tests.helpers.scripted_envs:Nothing", "cannot import"),
        ("tests.helpers.scripted_envs:np", "expected a function that returns an environment"),
    ],
)
def test_names_that_are_wrong(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        pettingzoo.make(name, 1)


def test_arguments_that_are_wrong() -> None:
    with pytest.raises(UserError, match=r"does not take .*'speed': 3"):
        pettingzoo.make("mpe2/simple_spread_v3", 1, speed=3)
    for num_envs, workers, max_steps in ((0, 0, 1), (1, -1, 1), (1, 0, 0)):
        with pytest.raises(UserError, match=r"expected [01] or more"):
            pettingzoo.make("mpe2/simple", num_envs, workers=workers, max_steps=max_steps)


def test_import_paths_and_arguments() -> None:
    env = pettingzoo.make("tests.helpers.scripted_envs:Counting", 2, length=2)
    transitions = play_counting(env, 2)
    assert transitions[-1].done.all()


def play_counting(env: PettingZooEnv, steps: int) -> list[Any]:
    env.reset(0)
    return [env.step({"agent": torch.zeros(2, 2, dtype=torch.int64)}) for _ in range(steps)]
