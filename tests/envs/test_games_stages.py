"""Games of several stages by hand, and by enumeration of whole episodes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from marl.envs.games.env import GameEnv
from marl.envs.games.tasks import make
from tests.helpers.games import always, chance, close, joint, play


def test_matrices_of_qtran_and_qplex() -> None:
    for name, payoff in (
        ("games/qtran", [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]),
        ("games/qplex", [[8, -12, -12], [-12, 6, 0], [-12, 0, 6]]),
    ):
        pairs = torch.tensor(list(itertools.product(range(3), repeat=2)))
        returns, _ = play(make(name, 9), lambda *_, pairs=pairs: pairs)
        assert returns[:, 0].reshape(3, 3).tolist() == payoff


def test_two_step_by_enumeration() -> None:
    """All sixteen episodes; agent_1 has no say in the first step."""
    moves = torch.tensor(list(itertools.product(range(2), repeat=4))).unflatten(-1, (2, 2))
    env = make("games/two_step", 16)
    returns, info = play(env, lambda _, step: moves[:, step])
    payoff = torch.tensor([[0.0, 1.0], [1.0, 8.0]])
    in_b, (first, second) = moves[:, 0, 0] == 1, moves[:, 1].unbind(-1)
    expected = torch.where(in_b, payoff[first, second], 7)
    assert torch.equal(returns, expected.unsqueeze(-1).expand(-1, 2))
    assert torch.equal(info["chose_b"].bool(), in_b) and torch.equal(info["optimal"], expected // 8)


def test_two_step_shows_its_stage_to_agents_and_critics() -> None:
    env = make("games/two_step", 2, max_steps=4)
    seen = [env.reset(0)]
    moves = [[[0, 1], [1, 0]], [[1, 1], [1, 1]], [[1, 1], [0, 1]]]
    seen += [env.step(joint(env, torch.tensor(m))).obs for m in moves]
    stages = torch.eye(3)[torch.tensor([[0, 0], [1, 2], [0, 0], [2, 1]])]  # it begins again
    for obs, stage in zip(seen, stages, strict=True):
        assert env.state_size == 3 and torch.equal(obs.state, stage)  # type: ignore[arg-type]  # it has one
        assert torch.equal(obs.groups["agent"].obs, stage.unsqueeze(1).expand(2, 2, 3))


def test_the_two_state_game_by_hand() -> None:
    env = make("games/mmdp", 1)
    env.reset(0)
    played = [([0, 0], 1, 0), ([0, 1], 0, 0), ([1, 0], 0, 0), ([0, 0], 1, 0),
              ([1, 1], 0, 1), ([0, 0], 0, 1), ([0, 1], 0, 1)]  # fmt: skip
    for action, earned, lost in played:
        seen = env.step(joint(env, torch.tensor([action])))
        assert seen.reward["agent"].tolist() == [[earned] * 2]
        assert seen.obs.state is not None and seen.obs.state.tolist() == [[1 - lost, lost]]
    returns, info = play(env, always(0, 0))
    assert returns.tolist() == [[100, 100]] and info["good"].tolist() == [1]
    many = make("games/mmdp", 4000)
    assert close(play(many, chance(many))[0][:, 0], 1)


def remembering(env: GameEnv, _: int) -> Tensor:
    return env.play.state.cue


@pytest.mark.parametrize(("length", "cues", "agents"), [(6, 4, 2), (3, 2, 3), (1, 5, 1)])
def test_a_cue_is_worth_one_with_memory_and_its_share_without(
    length: int, cues: int, agents: int
) -> None:
    env = make("games/cue", 4000, length=length, cues=cues, agents=agents)
    returns, info = play(env, remembering)
    assert (returns == 1).all() and (info["correct"] == 1).all() and env.max_steps == length
    returns, _ = play(env, always(*[cues - 1] * agents))
    assert close(returns[:, 0], 1 / cues)
    shares = torch.arange(agents + 1) / agents
    assert torch.isin(returns, shares).all() and returns.unique().numel() == agents + 1


def test_a_cue_is_shown_once_and_its_answer_counts_once() -> None:
    env = make("games/cue", 50, length=3)
    seen = env.reset(0)
    cue = torch.eye(4)[env.play.state.cue]  # [B, N, 4]
    shown = seen.groups["agent"].obs
    assert torch.equal(shown[..., :4], cue) and not shown[..., 4].any()
    right, wrong = env.play.state.cue, (env.play.state.cue + 1) % 4
    for step, (action, last, passed) in enumerate([(right, 0, 1), (right, 1, 2), (wrong, 0, 3)]):
        one = env.step(joint(env, action))
        obs = one.next_obs.groups["agent"].obs
        assert not obs[..., :4].any() and (obs[..., 4] == last).all()
        assert not one.reward["agent"].any(), "the last answer alone counts, and it is wrong"
        state = one.next_obs.state
        assert state is not None and torch.equal(state[:, :8], cue.flatten(1))
        torch.testing.assert_close(state[:, 8], torch.full((50,), passed / 3))
        assert one.terminated["agent"].all().item() == (step == 2)
    assert not torch.equal(one.obs.state, seen.state), "new cues"  # type: ignore[arg-type]  # it has one
