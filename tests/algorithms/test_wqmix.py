"""Weighted QMIX: its targets by a naive loop, its weights by hand, and QMIX as the case alpha=1."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from marl.algorithms.qmix import QMIXConfig
from marl.algorithms.registry import ALGORITHMS
from marl.algorithms.wqmix import CWQMIXConfig, OWQMIXConfig, WeightedQMIX
from marl.errors import UserError
from marl.learning.replay import Sequences
from marl.networks.perceptron import Perceptron
from marl.types import tree_map
from tests.helpers.decomposition import ExactPlay
from tests.helpers.off_policy import Play
from tests.helpers.toy_envs import identity, mortal

FAST: dict[str, Any] = {
    "lr": 1e-2, "gamma": 0.9, "batch_size": 48, "frames_per_update": 64, "warmup": 256,
    "sequence_length": 4, "mixing_units": 4, "hyper_units": 8,
}  # fmt: skip
WEIGHTED: dict[str, Any] = {**FAST, "burn_in": 3, "central_units": 8}
GRU = Perceptron([8], activation="relu", gru=4)


def weighted(
    name: str, make: Any = mortal, model: Any = GRU, learn: bool = True, **config: Any
) -> Any:
    """A learner after some play, with updates or without, and one batch of it."""
    play = Play(make, ALGORITHMS[name](**{**WEIGHTED, **config}), model)
    play.iterate(4, learn)
    learner: Any = play.first
    assert isinstance(learner, WeightedQMIX) and (learner.updates > 0) == learn
    index = play.replay.draw_windows(6, learner.burn_in + learner.length, generator())
    return learner, learner.read(index)


def prepared(learner: Any, whole: Sequences) -> tuple[Any, Any, Any]:
    """The steps to learn from, and the online and the central target networks' memories."""
    zeros = learner.policy.initial_carry(whole.start.shape[1])
    before = learner.carry_after_burn_in
    online = before(learner.policy, whole, learner.stored_carry(whole))
    return learner.after_burn_in(whole), online, before(learner.target_central, whole, zeros)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def at(tree: Any, t: int) -> Any:
    return tree_map(lambda x: x[t], tree)


def naive(learner: Any, batch: Sequences) -> tuple[Tensor, Tensor]:
    """One-step targets and Q*'(s, u*) of all steps, one step after the other."""
    target = learner.target_central
    carry = {n: batch.aux[n]["carry"][0] for n in batch.aux}
    central = target.initial_carry(batch.start.shape[1])
    y, best = [], []
    for t in range(len(batch.start)):
        obs, after, start = at(batch.obs, t), at(batch.next_obs, t), batch.start[t]
        mine, carry = learner.policy.step_params(obs, carry, start)
        theirs, central = target.step_params(obs, central, start)
        best.append(central_value(learner, obs, mine, theirs))
        going = torch.zeros_like(start)
        mine, _ = learner.policy.step_params(after, carry, going)
        theirs, _ = target.step_params(after, central, going)
        value = central_value(learner, after, mine, theirs)
        y.append(batch.reward[t] + 0.9 * torch.where(batch.terminated[t], 0.0, value))
    return torch.stack(y)[learner.burn_in :], torch.stack(best)[learner.burn_in :]


def central_value(learner: Any, obs: Any, mine: Any, theirs: Any) -> Tensor:
    """The central target mixer's value of what agents prefer by their own utilities."""
    columns = []
    for name, values in mine.items():
        group = obs.groups[name]
        allowed = values.masked_fill(~group.action_mask, -torch.inf).argmax(-1, keepdim=True)
        columns.append(theirs[name].gather(-1, allowed).squeeze(-1) * group.alive)
    q = torch.cat(columns, -1)
    return learner.target_central_mixer(obs, q, q, q)


def test_targets_are_those_of_a_naive_loop() -> None:
    """With deaths, masks, limits, and memories from what was stored and from zeros."""
    learner, whole = weighted("cwqmix")
    batch, memory, carry = prepared(learner, whole)
    utilities, memories = learner.policy.unroll(batch.obs, memory, batch.start)
    found = learner.central_targets(batch, utilities, memories, carry)
    assert batch.terminated.any() and not found[0].requires_grad
    for tensor, expected in zip(found, naive(learner, whole), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-5)


def test_weights_by_hand() -> None:
    value, y, best = (torch.tensor(x) for x in ([1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 0.0, 1.0],
                                                [1.0, 1.0, 1.0, 3.0]))  # fmt: skip
    greedy = torch.tensor([False, True, False, False])
    expected = {"cwqmix": [1.0, 1.0, 0.25, 0.25], "owqmix": [1.0, 0.25, 0.25, 0.25]}
    for name, weights in expected.items():
        learner, _ = weighted(name, identity, Perceptron([8]), alpha=0.25)
        assert learner.weights(value, y, best, greedy).tolist() == weights


def test_greedy_joint_actions_count_the_living_only() -> None:
    learner, whole = weighted("cwqmix")
    batch, memory, _ = prepared(learner, whole)
    utilities, _ = learner.policy.unroll(batch.obs, memory, batch.start)
    found = learner.greedy(utilities, batch).squeeze(-1)
    expected = torch.ones_like(found)
    for name, values in utilities.items():
        group = batch.obs.groups[name]
        own = values.masked_fill(~group.action_mask, -torch.inf).argmax(-1)
        expected &= ((own == batch.action[name]) | ~group.alive).all(-1)
    assert torch.equal(found, expected) and found.any() and not found.all()


@pytest.mark.parametrize("name", ["cwqmix", "owqmix"])
def test_with_alpha_one_it_is_qmix_with_central_targets(name: str) -> None:
    learner, batch = weighted(name, identity, learn=False, alpha=1.0)
    plain: Any = Play(identity, QMIXConfig(**FAST, burn_in=3), GRU).first  # of the same weights
    steps, memory, carry = prepared(learner, batch)
    utilities, memories = learner.policy.unroll(steps.obs, memory, steps.start)
    y, _ = learner.central_targets(steps, utilities, memories, carry)
    before = parameters(learner)
    learner.update_utilities(batch)
    with patch.object(plain, "targets", lambda *_: y):
        plain.update_utilities(batch)
    assert not torch.equal(before, parameters(learner))
    torch.testing.assert_close(parameters(learner), parameters(plain))


def parameters(learner: Any) -> Tensor:
    """All that QMIX learns."""
    found = [*learner.policy.parameters(), *learner.mixer.parameters()]
    return torch.cat([p.detach().flatten().clone() for p in found])


def test_with_alpha_zero_optimism_learns_nothing_from_values_that_are_too_high() -> None:
    payoff = np.full((3, 3), 50.0)
    for sign, learns in ((-1, False), (1, True)):
        play = ExactPlay("owqmix", sign * payoff, alpha=0.0, central_units=8)
        before, central = parameters(play.learner), play.values("central")
        play.learn(1)
        assert torch.equal(before, parameters(play.learner)) != learns
        assert (play.values("central") != central).all(), "the central value learns from all"


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="leave double=true"):
        CWQMIXConfig(double=False)
    with pytest.raises(UserError, match="alpha"):
        OWQMIXConfig(alpha=1.5)
    with pytest.raises(UserError, match="reward='own': a mixer values the team's one return"):
        OWQMIXConfig(reward="own")
