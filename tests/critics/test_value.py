"""What each scope of a critic sees, told by gradients; and whose value each head gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from marl.critics.inputs import SCOPES
from marl.critics.value import value_critic
from marl.errors import UserError
from marl.networks.perceptron import Perceptron
from marl.types import Observation, tree_map
from tests.helpers.builders import CPU, SMALL
from tests.helpers.toy_envs import images, rivals, stateful

ENV = rivals(3, CPU)
TEAM = {"left": ENV.groups["left"]}  # two agents, against one of "right"


def critic(scope: str, own: bool, state_size: int | None = 6, gru: int = 0) -> nn.Module:
    torch.manual_seed(0)
    built = value_critic(
        SCOPES[scope],
        team=TEAM,
        everyone=ENV.groups,
        state_size=state_size,
        heads=2 if own else 1,
        model=Perceptron(**SMALL, gru=gru),
    )
    assert isinstance(built, nn.Module)
    return built


def observation() -> Observation:
    seen = ENV.reset(0)
    groups = tree_map(lambda x: torch.randn_like(x).requires_grad_(), seen.groups)
    return Observation(groups, torch.randn(3, 6, requires_grad=True))


def influence(built: nn.Module, head: int) -> dict[str, list[bool]]:
    """Which agents' observations, and whether the state, move a head's value in its own copy."""
    obs = observation()
    value, _ = built(obs, built.initial_carry(3), torch.zeros(1, 3).bool())  # type: ignore[operator]
    inputs = {name: seen.obs for name, seen in obs.groups.items()} | {"state": obs.state}
    given: list[Tensor] = list(inputs.values())  # type: ignore[arg-type]  # a state is there
    grads = torch.autograd.grad(value[1, head], given, allow_unused=True)
    found = {}
    for name, grad in zip(inputs, grads, strict=True):
        moved = torch.zeros(3, 2) if grad is None else grad.flatten(2 if grad.dim() > 2 else 1)
        assert not moved[[0, 2]].any(), "a copy's value reads that copy only"
        row = moved[1].reshape(-1 if name == "state" else len(moved[1]), *moved.shape[2:])
        found[name] = [bool(row.any())] if name == "state" else [bool(r.any()) for r in row]
    return found


@pytest.mark.parametrize(
    ("scope", "own", "head", "left", "right", "state"),
    [
        ("agent", True, 0, [True, False], [False], [False]),
        ("agent", True, 1, [False, True], [False], [False]),
        ("agent", False, 1, [False, True], [False], [False]),
        ("team", True, 0, [True, True], [False], [False]),
        ("team", False, 0, [True, True], [False], [False]),
        ("all", True, 1, [True, True], [True], [False]),
        ("all", False, 0, [True, True], [True], [False]),
        ("state", False, 0, [False, False], [False], [True]),
        ("state", True, 1, [False, False], [False], [True]),
    ],
)
def test_scopes(
    scope: str, own: bool, head: int, left: list[bool], right: list[bool], state: list[bool]
) -> None:
    found = influence(critic(scope, own), head)
    assert any(found["left"]) == any(left) and any(found["right"]) == any(right)
    assert found["state"] == state
    if any(left):
        assert found["left"] == left


@pytest.mark.parametrize(
    ("word", "observed", "acting", "size"),
    [("agent", 1, 1, None), ("team", 1, 1, None), ("all", 2, 2, None), ("state", 1, 2, 6)],
)
def test_what_a_scope_reads(word: str, observed: int, acting: int, size: int | None) -> None:
    """Groups: 1 is the team's, 2 are all."""
    scope = SCOPES[word]
    assert len(scope.groups(TEAM, ENV.groups)) == observed
    assert len(scope.acting_groups(TEAM, ENV.groups)) == acting
    assert scope.state_size(6) == size
    assert (scope.local, scope.reads_state) == (word == "agent", word == "state")
    assert scope.reads_actions_of_others == (acting == 2)


@pytest.mark.parametrize(
    ("scope", "own", "heads"),
    [("agent", True, 2), ("agent", False, 2), ("team", True, 2), ("team", False, 1),
     ("all", True, 2), ("all", False, 1), ("state", False, 1)],
)  # fmt: skip
def test_heads(scope: str, own: bool, heads: int) -> None:
    """One per agent of the team, or one for all where they share a reward."""
    built = critic(scope, own)
    assert built.heads == heads
    assert built(observation(), {}, None)[0].shape == (3, heads)


def test_heads_of_a_shared_central_critic_differ() -> None:
    value, _ = critic("team", own=True)(observation(), {}, None)
    assert not torch.allclose(value[:, 0], value[:, 1])


def test_memory_of_a_central_critic_is_per_head() -> None:
    built = critic("all", own=True, gru=4)
    carry = built.initial_carry(3)  # type: ignore[operator]
    assert {name: memory.shape for name, memory in carry.items()} == {"team": (3, 2, 4)}
    obs = tree_map(lambda x: x.unsqueeze(0), observation())
    value, after = built(obs, carry, torch.zeros(1, 3).bool())
    assert value.shape == (1, 3, 2) and after["team"].any()


def test_images_pass_through_an_encoder() -> None:
    env = images(3, CPU)
    built = value_critic(
        SCOPES["all"],
        team=env.groups,
        everyone=env.groups,
        state_size=None,
        heads=1,
        model=Perceptron(**SMALL),
    )
    assert built(env.reset(0), {}, None)[0].shape == (3, 1)


def test_state_is_asked_for_where_there_is_none() -> None:
    with pytest.raises(UserError, match=r"critic 'state' needs .* take critic 'all'"):
        critic("state", own=False, state_size=None)


def test_state_critic_reads_a_toys_state() -> None:
    env = stateful(3, CPU)
    built = value_critic(
        SCOPES["state"],
        team=env.groups,
        everyone=env.groups,
        state_size=env.state_size,
        heads=1,
        model=Perceptron(),
    )
    assert built(env.reset(0), {}, None)[0].shape == (3, 1)
