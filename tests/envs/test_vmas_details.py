"""The VMAS adapter: ends, episode numbers, actions, groups, errors and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from marl.env import check_env
from marl.envs.vmas.env import VmasEnv
from marl.envs.vmas.render import Renderer
from marl.errors import UserError
from marl.types import Continuous, Discrete, MultiDiscrete, Transition, tree_tensors
from tests.helpers.vmas import actions, assert_same, play, raw_actions

B = 3


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(scenario: str, **arguments: Any) -> VmasEnv:
    return VmasEnv(scenario, B, **arguments)


def make_raw(scenario: str, seed: int, **arguments: Any) -> Any:
    import vmas

    return vmas.make_env(scenario, B, seed=seed, **arguments)


# --------------------------------------------------------------------------------------------- ends


def test_terminations_are_no_truncations():
    env = make("navigation", max_steps=2)
    obs = env.reset(0)
    first = env.step(actions(env, obs, seed=0))
    assert not first.done.any() and first.next_obs is first.obs
    env._vmas.scenario.done = lambda: torch.tensor([True, False, True])
    second = env.step(actions(env, obs, seed=1))
    assert second.terminated["agent"].tolist() == [[True] * 4, [False] * 4, [True] * 4]
    assert second.truncated["agent"].tolist() == [[False] * 4, [True] * 4, [False] * 4]
    assert second.done.all()
    third = env.step(actions(env, obs, seed=2))
    assert third.done.tolist() == [True, False, True]  # one step after all began anew
    assert not third.truncated["agent"].any()


def test_info_sums_over_episodes():
    env, raw = make("balance", max_steps=3), make_raw("balance", seed=0)
    obs = env.reset(0)
    raw.reset(seed=0)
    total = torch.zeros(B)
    for t in range(3):
        action = actions(env, obs, seed=t)
        infos = raw.step(raw_actions(env, action))[-1]
        total += torch.stack([info["pos_rew"] for info in infos]).mean(0)
        transition = env.step(action)
        obs = transition.obs
        assert set(transition.info) == {"pos_rew", "ground_rew"}
        torch.testing.assert_close(transition.info["pos_rew"], total)
    after = env.step(actions(env, obs, seed=3))
    assert (after.info["pos_rew"] != total).all()


# ----------------------------------------------------------------------------------- random numbers


def test_evaluation_leaves_training_alone():
    def train(interrupted: bool) -> list[Transition]:
        env = VmasEnv("het_mass", 4, max_steps=3)  # draws from torch and numpy at every reset
        transitions, obs = [], env.reset(0)
        for t in range(5):
            transitions.append(env.step(actions(env, obs, seed=t)))
            if interrupted:
                other = VmasEnv("het_mass", 2, max_steps=2)
                play(other, other.reset(t), steps=3)
                other.render()
        return transitions

    assert_same(train(interrupted=False), train(interrupted=True))


def test_seeds_decide():
    env = make("navigation")
    first = env.reset(11)
    again, other = env.reset(11), env.reset(12)
    assert_same(first, again)
    assert not torch.equal(tree_tensors(first)[0], tree_tensors(other)[0])


# ------------------------------------------------------------------------------------------ actions


@pytest.mark.parametrize("scenario", ["balance", "simple_reference", "simple_crypto", "drone"])
@pytest.mark.parametrize("kind", ["discrete", "multidiscrete"])
def test_discrete_actions_mean_what_vmas_means(scenario: str, kind: str):
    env = make(scenario, actions=kind)
    options = {"continuous_actions": False, "multidiscrete_actions": kind == "multidiscrete"}
    raw = make_raw(scenario, seed=1, **options)
    obs = env.reset(1)
    raw.reset(seed=1)
    for group in env.groups.values():
        assert isinstance(group.action, Discrete if kind == "discrete" else MultiDiscrete)
    for t in range(6):
        action = actions(env, obs, seed=t)
        raw.step(raw_actions(env, action))
        obs = env.step(action).obs
        for ours, theirs in zip(env._vmas.agents, raw.agents, strict=True):
            assert torch.equal(ours.action.u, theirs.action.u)
            assert torch.equal(ours.state.pos, theirs.state.pos)
            if theirs.action.c is not None:
                assert torch.equal(ours.action.c, theirs.action.c)


def test_continuous_actions_are_clamped_and_left_alone():
    one, other = make("simple_speaker_listener"), make("simple_speaker_listener")
    wild, tame = {}, {}
    for name, group in one.groups.items():
        sign = torch.tensor([-1.0, 1.0, -1.0])[:, None, None]
        wild[name] = 9 * sign.expand(B, group.size, group.action.encoded_size).clone()
        assert isinstance(group.action, Continuous)
        low, high = torch.tensor(group.action.low), torch.tensor(group.action.high)
        tame[name] = wild[name].clamp(low, high)
    given = {name: action.clone() for name, action in wild.items()}
    one.reset(0)
    other.reset(0)
    assert_same(one.step(wild), other.step(tame))
    assert_same(wild, given)


# ----------------------------------------------------------------------------------- groups, errors


def test_groups_and_teams():
    tag = make("simple_tag")
    assert {name: group.size for name, group in tag.groups.items()} == {"adversary": 3, "agent": 1}
    assert tag.teams == {"agent": ("agent",), "adversary": ("adversary",)}
    football = VmasEnv("football", 1, n_blue_agents=2, n_red_agents=2, ai_red_agents=False)
    assert football.groups["agent_red"].agents == ("agent_red_0", "agent_red_1")
    assert football.teams == {"agent_blue": ("agent_blue",), "agent_red": ("agent_red",)}
    own = make(
        "navigation", groups={"left": ["agent_0", "agent_2"], "right": ["agent_3", "agent_1"]}
    )
    assert own.groups["right"].agents == ("agent_3", "agent_1")
    check_env(own, steps=2)


def test_dictionary_observations():
    env = make("football", dict_obs=True)
    check_env(env, steps=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenario": "balence"}, "unknown task 'vmas/balence'; did you mean 'vmas/balance'?"),
        ({"actions": "discreet"}, "did you mean 'discrete'?"),
        ({"n_agent": 2}, "unknown argument 'n_agent' of vmas/navigation; did you mean 'n_agents'?"),
        ({"n_agents": "two"}, "vmas/navigation cannot be built"),
        ({"num_envs": 0}, "num_envs=0 is out of range"),
        ({"max_steps": 0}, "max_steps=0 is out of range"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"device": "cuda:99"}, "device 'cuda:99' does not exist"),
        ({"device": "meta"}, "is not supported"),
        ({"groups": {"a": ["agent_9"]}}, "agent_9"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str):
    with pytest.raises(UserError) as error:
        VmasEnv(**{"scenario": "navigation", "num_envs": 1, **arguments})
    assert message in str(error.value)


def test_states_of_other_tasks_are_refused():
    with pytest.raises(UserError):
        make("balance").load_state_dict(make("navigation").state_dict())
    with pytest.raises(UserError, match="of 3 environments, expected 2"):
        VmasEnv("balance", 2).load_state_dict(make("balance").state_dict())


# ----------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("scenario", ["football", "navigation", "diff_drive", "transport"])
def test_drawn_pictures(scenario: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Renderer, "own_pictures", False)
    env = make(scenario)
    env.reset(0)
    picture = env.render(1)
    height, width, channels = picture.shape
    assert channels == 3 and picture.dtype == np.uint8
    assert height % 2 == 0 and width % 2 == 0 and abs(height * width - 512 * 512) < 2000
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5
    env.close()


def test_no_entity_leaves_the_picture(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Renderer, "own_pictures", False)
    env = make("simple_spread")
    env.reset(0)
    near = env.render(0)
    env._vmas.agents[0].state.pos[:] = torch.tensor([7.0, 0.0])
    far = env.render(0)
    blue = (far[..., 2] > 150) & (far[..., 0] < 120)
    assert near.shape == far.shape and blue[:, 256:].any()


def test_pictures_change_nothing():
    """Whichever way this machine makes them; and one failure of VMAS's own is enough."""
    env, other = make("navigation"), make("navigation")
    obs = env.reset(0)
    other.reset(0)
    assert len(np.unique(env.render(0))) > 5
    with pytest.raises(UserError):
        env.render(B)
    assert_same(env.step(actions(env, obs, 0)), other.step(actions(env, obs, 0)))
    env.close()


def test_vmas_own_pictures_are_tried_once(monkeypatch: pytest.MonkeyPatch):
    env, tries = make("navigation"), []

    def fail(*_: object) -> None:
        tries.append(1)
        raise ImportError("no EGL here")

    monkeypatch.setattr(Renderer, "own_pictures", True)
    monkeypatch.setattr(env._vmas, "render", fail, raising=False)
    assert env.render().shape == env.render().shape == (512, 512, 3)
    assert len(tries) == 1
