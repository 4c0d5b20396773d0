"""MAPPO against losses written by hand, and its switches one by one."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.mappo import MAPPO, IPPOConfig, MAPPOConfig
from marl.errors import UserError
from marl.networks.perceptron import Perceptron
from marl.types import Rollout, tree_map
from tests.helpers.builders import CPU, SMALL, collector, context, mappo, rollout_of, weights
from tests.helpers.toy_envs import identity, single
from tests.learning.test_returns import naive

# PPO with these is A2C.
A2C = {
    "epochs": 1, "value_clip": None, "huber": None, "normalize_advantage": False,
    "normalize_value": False, "max_grad_norm": 1e9, "chunk_length": 10,
}  # fmt: skip
GRU = Perceptron(**SMALL, gru=8)


def gradients(algorithm: MAPPO, part: str) -> list[Tensor]:
    """Of the first step, clipped: Adam's first moment is a tenth of it."""
    assert steps_taken(algorithm) == 1
    return [moment / 0.1 for moment in algorithm.optimizer.first[part]]


def steps_taken(algorithm: MAPPO) -> int:
    return int(algorithm.optimizer.steps["actor"][0])


# ---------------------------------------------------------------------- against an independent loss


def advantages(algorithm: MAPPO, rollout: Rollout, value: Tensor, after: Tensor) -> Tensor:
    """By the naive double loop, for the team's mean reward and the single head."""
    reward = torch.cat([rollout.reward[name] for name in algorithm.team], -1).mean(-1)
    config, columns = algorithm.config, []
    cut = torch.cat([rollout.truncated[name] for name in algorithm.team], -1)
    terminated = rollout.done & ~cut.any(-1)
    for b in range(reward.shape[1]):
        one = [x[:, b] for x in (reward, value[..., 0], after[..., 0], terminated, rollout.done)]
        columns.append(naive(one, config.gamma, config.gae_lambda))
    return torch.stack(columns, dim=1).unsqueeze(-1)


def a2c_losses(algorithm: MAPPO, rollout: Rollout) -> tuple[Tensor, Tensor]:
    """``-log pi A - c H`` and ``(V - R)^2 / 2``, with A and R held fixed."""
    never = torch.zeros_like(rollout.start)
    critic, carry = algorithm.critic, algorithm.critic_carry
    value, _ = critic(rollout.obs, carry, rollout.start)
    with torch.no_grad():
        recurrent = bool(carry)
        after = (successors(algorithm, rollout) if recurrent
                 else critic(rollout.next_obs, {}, never)[0])  # fmt: skip
        advantage = advantages(algorithm, rollout, value, after)
        target = advantage + value
    log_probs, entropies = algorithm.policy.evaluate(
        rollout.obs, rollout.action, rollout.carry, rollout.start, rollout.aux
    )
    log_prob = torch.cat([log_probs[name] for name in algorithm.team], -1)
    entropy = torch.cat([entropies[name] for name in algorithm.team], -1)
    actor = -(log_prob * advantage).mean() - algorithm.config.entropy * entropy.mean()
    return actor, 0.5 * (value - target).square().mean()


def successors(algorithm: MAPPO, rollout: Rollout) -> Tensor:
    """Values of the successors with a memory, one prefix of the rollout at a time."""
    never, values = torch.zeros_like(rollout.start[:1]), []
    for t in range(rollout.steps):
        obs, after = (
            tree_map(lambda x, now=now: x[now], tree)
            for tree, now in ((rollout.obs, slice(0, t + 1)), (rollout.next_obs, slice(t, t + 1)))
        )
        _, carry = algorithm.critic(obs, algorithm.critic_carry, rollout.start[: t + 1])
        values.append(algorithm.critic(after, carry, never)[0])
    return torch.cat(values)


@pytest.mark.parametrize("kind", ["identity", "continuous", "multidiscrete"])
@pytest.mark.parametrize("model", [Perceptron(**SMALL), GRU], ids=["mlp", "gru"])
def test_a2c_is_a_special_case(kind: str, model: Perceptron) -> None:
    algorithm = mappo(kind, model, **A2C)
    rollout, reference = rollout_of(kind, algorithm), copy.deepcopy(algorithm)
    algorithm.update(rollout)
    actor, critic = a2c_losses(reference, rollout)
    (actor + critic).backward()
    for part, module in (("actor", reference.policy), ("critic", reference.critic)):
        theirs = [p.grad for p in module.parameters() if p.grad is not None]
        assert max(g.abs().max() for g in theirs) > 1e-4
        for one, other in zip(gradients(algorithm, part), theirs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-3)


def test_ippo_is_mappo_with_local_critics_and_own_rewards() -> None:
    """For one agent alone every scope and reward is the same."""
    found = []
    for config in (
        IPPOConfig(),
        MAPPOConfig(critic="agent", reward="own"),
        MAPPOConfig(critic="team", reward="team_mean"),
        MAPPOConfig(critic="all", reward="team_sum"),
    ):
        torch.manual_seed(0)
        algorithm = config.build(context(single(4, CPU)))
        algorithm.update(rollout_of("single", algorithm))
        found.append(torch.cat([weights(algorithm.policy), weights(algorithm.critic)]))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, atol=1e-6, rtol=1e-5)


# ----------------------------------------------------------------------------------------- switches


def test_nothing_has_moved_before_the_first_step() -> None:
    algorithm = mappo("continuous", GRU, epochs=1)
    metrics = algorithm.update(rollout_of("continuous", algorithm))
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)
    assert float(metrics["clip_fraction"]) == 0
    metrics = algorithm.update(rollout_of("continuous", algorithm))
    assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("target", "steps"), [(None, 10), (1e9, 10), (1e-9, 2)])
def test_target_kl_stops_the_epochs(target: float | None, steps: int) -> None:
    """The first epoch's only step cannot have moved yet; the second's has."""
    algorithm = mappo("identity", target_kl=target, actor_lr=0.01)
    algorithm.update(rollout_of("identity", algorithm))
    assert steps_taken(algorithm) == steps


def test_target_kl_is_compared_with_the_mean_over_minibatches() -> None:
    """Chunks of 5 in minibatches of 7 frames: eight of one chunk each."""
    options = {"minibatch_size": 7, "chunk_length": 5, "actor_lr": 0.02}
    first = mappo("identity", GRU, epochs=1, **options)
    rollout = rollout_of("identity", first)
    kl = float(first.update(rollout)["kl"])
    for factor, steps in ((1.1, 16), (0.9, 8)):
        algorithm = mappo("identity", GRU, epochs=2, target_kl=kl * factor / 1.5, **options)
        algorithm.update(rollout)
        assert steps_taken(algorithm) == steps, factor


def test_learning_rates_fall_to_zero_over_the_run() -> None:
    algorithm = mappo("identity", iterations=4, anneal_lr=True, actor_lr=0.1, critic_lr=0.2)
    found = []
    for _ in range(4):
        algorithm.update(rollout_of("identity", algorithm))
        found.append([float(lr) for lr in algorithm.optimizer.lr.values()])
    expected = [[0.1 * f, 0.2 * f] for f in (1, 0.75, 0.5, 0.25)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))


def test_gradients_are_clipped_to_the_norm() -> None:
    algorithm = mappo("identity", max_grad_norm=1e-3, epochs=1)
    metrics = algorithm.update(rollout_of("identity", algorithm))
    for name in ("actor", "critic"):
        norm = torch.cat([g.flatten() for g in gradients(algorithm, name)]).norm()
        assert float(norm) == pytest.approx(1e-3, rel=1e-2), f"{name}: each part by itself"
        assert float(metrics[f"{name}_grad_norm"]) > 1e-2


@pytest.mark.parametrize("kind", ["identity", "stateful"])
def test_state_round_trip_continues_identically(kind: str) -> None:
    critic = "state" if kind == "stateful" else "team"
    options: dict[str, Any] = {
        "critic": critic, "minibatch_size": 10, "anneal_lr": True, "epochs": 2
    }  # fmt: skip
    one, other = (mappo(kind, GRU, **options) for _ in range(2))
    collect = collector(kind, one)
    one.update(collect.collect()[0])
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    rollout, _ = collect.collect()  # begins in the middle of episodes, so that memories count
    for algorithm in (one, other):
        algorithm.update(rollout)
    assert torch.equal(weights(one.policy), weights(other.policy))
    assert torch.equal(weights(one.critic), weights(other.critic))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"critic": "al"}, "unknown critic 'al'; did you mean 'all'"),
        ({"reward": "mine"}, "unknown reward 'mine'"),
        ({"gamma": 1.1}, "gamma=1.1 is out of range; expected 0 to 1"),
        ({"epochs": 0}, "epochs=0 is out of range"),
        ({"clip": -0.1}, "clip=-0.1"),
        ({"actor_lr": float("nan")}, "actor_lr=nan"),
    ],
)
def test_bad_options_are_told(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        MAPPOConfig(**options)


def test_chunks_must_divide_the_rollout_where_there_is_memory() -> None:
    with pytest.raises(UserError, match="chunk_length=3 must divide steps=10"):
        MAPPOConfig(chunk_length=3).build(context(identity(4, CPU), GRU))
    MAPPOConfig(chunk_length=3).build(context(identity(4, CPU)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [Perceptron(**SMALL, normalize_obs=True), GRU], ids=["mlp", "gru"]
)
def test_compiled_updates_equal_eager_ones(model: Perceptron) -> None:
    """The second too, before which the critic was rescaled and moments of observations moved."""
    found = []
    for compiled in (False, True):
        algorithm = mappo("continuous", model, compile=compiled, epochs=2)
        rollout = rollout_of("continuous", algorithm)
        for _ in range(2):
            algorithm.update(rollout)
        found.append(torch.cat([weights(algorithm.policy), weights(algorithm.critic)]))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)
