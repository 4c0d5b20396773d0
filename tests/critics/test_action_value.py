"""Action-value critics: each sees exactly what its scope says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from marl.critics.action_value import q_critics
from marl.critics.inputs import SCOPES
from marl.critics.joint_actions import joint_actions
from marl.errors import UserError
from marl.networks.perceptron import Perceptron
from marl.types import Observation, tree_map
from tests.helpers.builders import CPU
from tests.helpers.toy_envs import Game, identity, images, random_actions, rivals, stateful

MODEL = Perceptron([16])
TEAM = ("left",)  # of rivals, whose groups are left (2 agents) and right (1)


def scene(make=rivals) -> tuple[Game, Observation, dict[str, Tensor]]:
    env = make(5, CPU)
    obs = env.reset(0)
    action = random_actions(env, obs)
    return env, obs, {n: g.action.encode(action[n]) for n, g in env.groups.items()}


def changed(action: dict[str, Tensor], group: str, row: int) -> dict[str, Tensor]:
    other = action[group].clone()
    other[:, row] = other[:, row].roll(1, dims=-1)
    return {**action, group: other}


def critics(scope: str, own: bool, env: Game, names=TEAM):
    team = {name: env.groups[name] for name in names}
    torch.manual_seed(0)
    return q_critics(
        2,
        SCOPES[scope],
        team=team,
        everyone=env.groups,
        state_size=env.state_size,
        heads=sum(group.size for group in team.values()) if own else 1,
        model=MODEL,
    )


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("scope", "sees_mate", "sees_rival"), [("team", True, False), ("all", True, True)]
)
def test_central_critics_see_their_scope(
    scope: str, own: bool, sees_mate: bool, sees_rival: bool
) -> None:
    """Whose action changes whose value; and the same of observations."""
    env, obs, action = scene()
    critic = critics(scope, own, env)
    before = critic(obs, action)
    assert before.shape == (2, 5, 2 if own else 1)
    assert not torch.equal(before[0], before[1]), "the two differ"
    assert torch.equal(before, critic(obs, changed(action, "left", 1))) != sees_mate
    assert torch.equal(before, critic(obs, changed(action, "right", 0))) != sees_rival
    for group, sees in (("left", sees_mate), ("right", sees_rival)):
        groups = {**obs.groups, group: tree_map(lambda x: x + 1, obs.groups[group])}
        assert torch.equal(before, critic(Observation(groups), action)) != sees


def test_local_critics_see_their_agent() -> None:
    env, obs, action = scene()
    critic = critics("agent", True, env)
    before, after = critic(obs, action), critic(obs, changed(action, "left", 1))
    assert torch.equal(before[..., 0], after[..., 0])
    assert not torch.equal(before[..., 1], after[..., 1])
    assert torch.equal(before, critic(obs, changed(action, "right", 0)))


def test_a_critic_of_the_state_reads_it_and_all_actions() -> None:
    env, obs, action = scene(stateful)
    critic = critics("state", False, env, ("left", "right"))
    assert obs.state is not None
    before = critic(obs, action)
    assert not torch.equal(before, critic(Observation(obs.groups, obs.state + 1), action))
    assert not torch.equal(before, critic(obs, changed(action, "right", 0)))
    blind = {name: tree_map(torch.zeros_like, seen) for name, seen in obs.groups.items()}
    assert torch.equal(before, critic(Observation(blind, obs.state), action))


@pytest.mark.parametrize(
    ("scope", "own"),
    [("agent", True), ("team", True), ("team", False), ("all", True), ("all", False)],
)
def test_one_more_axis_of_actions(scope: str, own: bool) -> None:
    """Each entry has the value it would have alone."""
    env, obs, action = scene()
    critic = critics(scope, own, env)
    other = changed(changed(action, "left", 0), "right", 0)
    both = {n: torch.stack([action[n], other[n]], dim=1) for n in action}
    together = critic(obs, both)
    torch.testing.assert_close(together[:, :, 0], critic(obs, action))
    torch.testing.assert_close(together[:, :, 1], critic(obs, other))


@pytest.mark.parametrize("own", [True, False])
def test_each_head_reads_its_own_joint_action(own: bool) -> None:
    """Against a loop over agents that puts one fresh action at a time into the stored ones."""
    env, obs, action = scene(identity)
    names = ("left", "right")
    critic = critics("team", own, env, names)
    fresh = {n: torch.rand_like(a) for n, a in action.items()}
    found = critic(obs, joint_actions(fresh, action), each=True)
    assert found.shape == (2, 5, 3)
    for agent, (name, row) in enumerate([("left", 0), ("left", 1), ("right", 0)]):
        one = {n: a.clone() for n, a in action.items()}
        one[name][:, row] = fresh[name][:, row]
        expected = critic(obs, one)[..., agent if own else 0]
        torch.testing.assert_close(found[..., agent], expected)


def test_joint_actions_keep_other_teams() -> None:
    _, _, action = scene()
    joint = joint_actions({"left": torch.zeros(5, 2, 3)}, action)
    assert joint["left"].shape == (5, 2, 2, 3) and joint["right"].shape == (5, 2, 1, 4)
    assert torch.equal(joint["right"], action["right"].unsqueeze(1).expand(-1, 2, -1, -1))
    assert not joint["left"][:, 0, 0].any() and not joint["left"][:, 1, 1].any()
    assert torch.equal(joint["left"][:, 0, 1], action["left"][:, 1])


def test_mistakes_are_told() -> None:
    env, _, _ = scene()
    with pytest.raises(UserError, match="critic 'state' needs an environment that gives"):
        critics("state", False, env)
    with pytest.raises(UserError, match="reads no images"):
        critics("agent", True, images(2, CPU), ("eyes",))
