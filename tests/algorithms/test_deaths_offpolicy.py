"""HASAC and MADDPG with deaths against naive loops over frames and agents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.haddpg import HADDPGConfig
from marl.algorithms.hasac import HASAC, HASACConfig, ISACConfig, MASACConfig
from marl.algorithms.maddpg import MADDPG, MADDPGConfig
from marl.learning.replay import ReplayBatch
from marl.policies.encoding import encoded_actions
from marl.types import Observation
from tests.helpers.off_policy import FAST, Play
from tests.helpers.toy_envs import mortal, multidiscrete

AGENTS = (("left", 0), ("left", 1), ("right", 0))
SOFT: dict[str, Any] = {**FAST, "warmup": 256, "alpha_lr": 3e-3, "entropy_target": 0.05}
COUNT = 32  # transitions of a batch
TEMPERATURES = (0.1, 0.5, 0.02, 0.3)  # of each agent, and of the team


def scene(config: Any) -> tuple[Any, ReplayBatch, list[Any]]:
    """A learner after a few updates, and a batch in which agents are dead before and after."""
    play = Play(mortal, config)
    play.iterate(3)
    algorithm: Any = play.first
    if isinstance(algorithm, HASAC):
        with torch.no_grad():
            algorithm.log_alpha.copy_(torch.tensor(TEMPERATURES).log())
    batch, noise = play.batch(COUNT)
    for obs in (batch.obs, batch.next_obs):
        alive = everyone(obs)
        assert (alive.sum(-1) == 1).any() and (alive.sum(-1) == 3).any()
        assert (alive.sum(0) < COUNT).all()
    return algorithm, batch, noise


def everyone(obs: Observation) -> Tensor:
    """Who is alive, ``[M, N]``, as numbers."""
    alive = [obs.groups[name].alive for name in ("left", "right")]
    return torch.cat([x.float() for x in alive if x is not None], dim=-1)


def drawn(algorithm: Any, obs: Observation, noise: Any) -> tuple[dict[str, Tensor], Tensor]:
    """Fresh actions straight from the distributions, zeros of the dead; log-probabilities of all,
    ``[M, N]``."""
    action, log_prob = {}, []
    numbers = algorithm.policy.distribution_params(obs, noise)
    for name, params in numbers.items():
        seen, distribution = obs.groups[name], algorithm.policy.distributions[name]
        given, each = distribution.rsample(params, seen.action_mask, noise.get(name))
        assert seen.alive is not None
        action[name] = given * seen.alive.unsqueeze(-1)
        log_prob.append(each)
    return action, torch.cat(log_prob, dim=-1)


# ------------------------------------------------------------------------------- what the dead do


@pytest.mark.parametrize("make", [mortal, multidiscrete])
def test_the_dead_do_nothing(make: Any) -> None:
    """Fresh, stored, rivals', single agents': zeros to critics, with log-probability 0; and a
    living agent's action is never all zeros."""
    play = Play(make, HASACConfig(**SOFT))
    play.iterate(2)
    algorithm, (batch, noise) = play.first, play.batch(COUNT)
    rivals = {"team": algorithm.policy}
    others = encoded_actions(rivals, batch.obs, torch.Generator().manual_seed(0))
    action, log_prob = algorithm.policy.rsample(batch.obs, noise[0])
    for name, seen in batch.obs.groups.items():
        alive = torch.ones_like(log_prob[name]) if seen.alive is None else seen.alive
        for given in (action[name], batch.action[name], others[name]):
            assert torch.equal(given.detach().bool().any(-1), alive.bool())
        assert not log_prob[name][~alive.bool()].any() and log_prob[name].any()
    for member, (name, row) in zip(algorithm.agent_policies, algorithm.agents, strict=True):
        own, log_prob_own = member.rsample(batch.obs, noise[0])
        torch.testing.assert_close(own[:, 0], action[name][:, row])
        torch.testing.assert_close(log_prob_own[:, 0], log_prob[name][:, row])


# ---------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("config", [HASACConfig(**SOFT), ISACConfig(**SOFT)], ids=["team", "own"])
def test_the_entropy_bonus_is_of_those_alive_next(config: Any) -> None:
    algorithm, batch, noise = scene(config)
    found = algorithm.target(batch, noise[0], {})
    action, log_prob = drawn(algorithm, batch.next_obs, noise[0])
    alive = everyone(batch.next_obs)
    q = algorithm.target_critic(batch.next_obs, action).amin(0).detach()
    for m in range(COUNT):
        bonus = [alpha * alive[m, i] * log_prob[m, i] for i, alpha in enumerate(TEMPERATURES[:3])]
        if isinstance(config, ISACConfig):
            expected = [
                batch.reward[m, i] + batch.discount[m, i] * (q[m, i] - bonus[i]) for i in range(3)
            ]
        else:
            total = sum(TEMPERATURES[3] * alive[m, i] * log_prob[m, i] for i in range(3))
            expected = [batch.reward[m, 0] + batch.discount[m, 0] * (q[m, 0] - total)]
        torch.testing.assert_close(found[m], torch.stack(expected).detach())


@pytest.mark.parametrize("config", [MASACConfig(**SOFT), ISACConfig(**SOFT)], ids=["team", "own"])
def test_critics_learn_the_team_s_return_and_the_livings_own(config: Any, monkeypatch) -> None:
    algorithm, batch, noise = scene(config)
    target = algorithm.target(batch, noise[0], {})
    q, alive = algorithm.critic(batch.obs, batch.action).detach(), everyone(batch.obs)
    monkeypatch.setattr(algorithm.critic_optimizer, "step", lambda loss: None)
    loss, mean = algorithm.update_critic(batch, noise[0], {}).values()
    weight = alive if isinstance(config, ISACConfig) else torch.ones(COUNT, 1)
    expected, values = torch.zeros(()), torch.zeros(())
    for k in range(2):
        for m in range(COUNT):
            for h in range(weight.shape[1]):
                expected += weight[m, h] * (q[k, m, h] - target[m, h]) ** 2
                values += weight[m, h] * q[k, m, h] / 2
    torch.testing.assert_close(loss, expected / weight.sum())
    torch.testing.assert_close(mean, values / weight.sum())


# ----------------------------------------------------------------------------------------- actors


@pytest.mark.parametrize("reward", ["team_mean", "own"])
def test_actors_together_minimise_what_the_living_cost(reward: str) -> None:
    """Three agents' mean over all who live; one value for all counts once in each frame."""
    algorithm, batch, noise = scene(MASACConfig(**SOFT, reward=reward))
    found, _ = algorithm.loss_simultaneous(batch, noise[1])
    action, log_prob = drawn(algorithm, batch.obs, noise[1])
    alive, total = everyone(batch.obs), torch.zeros(())
    for i, (name, row) in enumerate(AGENTS):
        others = {n: a.detach().clone() for n, a in action.items()}
        others[name][:, row] = action[name][:, row]
        q = algorithm.critic(batch.obs, others).amin(0)
        cost = TEMPERATURES[i] * log_prob[:, i]
        if reward == "own":
            cost = cost - q[:, i]
        total = total + (alive[:, i] * cost).sum()
    if reward != "own":
        q = algorithm.critic(batch.obs, action).amin(0)[:, 0]
        total = total - (q * alive.bool().any(-1)).sum()
    expected = 3 * total / alive.sum()
    torch.testing.assert_close(found, expected)
    parameters = list(algorithm.policy.parameters())
    gradients = (torch.autograd.grad(x, parameters) for x in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("exact", [False, True])
def test_an_actor_alone_learns_where_it_lives(exact: bool) -> None:
    algorithm, batch, noise = scene(HASACConfig(**SOFT, exact=exact))
    with torch.no_grad():
        action, _ = drawn(algorithm, batch.obs, noise[2])
    alive = everyone(batch.obs)
    for i, (name, row) in enumerate(AGENTS):
        found, each = algorithm.loss_of_agent(i, batch, noise[1], action)
        total = torch.zeros(())
        seen, size = batch.obs.groups[name], algorithm.team[name].action.n
        assert seen.action_mask is not None
        logits = algorithm.policy.distribution_params(batch.obs)[name][:, row]
        logits = logits.where(seen.action_mask[:, row], -1e9).log_softmax(-1)
        chosen = (logits + noise[1][name][:, row]).argmax(-1)
        for choice in range(size):
            joint = {n: a.clone() for n, a in action.items()}
            joint[name][:, row] = torch.eye(size)[choice]
            q = algorithm.critic(batch.obs, joint).amin(0)[:, 0].detach()
            weight = logits[:, choice].exp() if exact else (chosen == choice).float()
            total = total + (alive[:, i] * weight * (TEMPERATURES[i] * logits[:, choice] - q)).sum()
        torch.testing.assert_close(found, total / alive[:, i].sum())
        assert each.shape == (COUNT,)


@pytest.mark.parametrize("config", [MADDPGConfig, HADDPGConfig], ids=["maddpg", "haddpg"])
def test_penalties_and_values_are_of_the_living(config: Any) -> None:
    algorithm, batch, noise = scene(config(**FAST, output_penalty=0.3))
    assert isinstance(algorithm, MADDPG)
    numbers, alive = algorithm.policy.distribution_params(batch.obs), everyone(batch.obs)
    action, _ = drawn(algorithm, batch.obs, noise[1])
    costs = torch.zeros(3)
    stored = config is MADDPGConfig
    for i, (name, row) in enumerate(AGENTS):
        joint = {n: a.detach().clone() for n, a in (batch.action if stored else action).items()}
        joint[name][:, row] = action[name][:, row].detach()
        q = algorithm.critic(batch.obs, joint)[0][:, i if stored else 0].detach()
        cost = 0.3 * numbers[name][:, row].square().mean(-1) - q
        costs[i] = (alive[:, i] * cost.detach()).sum()
        if not stored:
            fresh = {n: a.detach() for n, a in action.items()}
            found, _ = algorithm.loss_of_agent(i, batch, noise[1], fresh)
            torch.testing.assert_close(found.detach(), costs[i] / alive[:, i].sum())
    if stored:
        found, _ = algorithm.loss_simultaneous(batch, noise[1])
        torch.testing.assert_close(found.detach(), 3 * costs.sum() / alive.sum())


# ----------------------------------------------------------------------------------- temperatures


def test_temperatures_and_the_entropy_are_those_of_the_living(monkeypatch) -> None:
    algorithm, batch, _ = scene(HASACConfig(**SOFT))
    alive, losses = everyone(batch.obs), []
    log_prob = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(1)) - 1
    monkeypatch.setattr(algorithm.alpha_optimizer, "step", losses.append)
    statistics = algorithm.update_temperature(log_prob, alive)
    errors, entropy = torch.zeros(4), torch.zeros(())
    for i in range(3):
        for m in range(COUNT):
            gap = alive[m, i] * (log_prob[m, i] + algorithm.entropy_target[i])
            errors[i] += gap / alive[:, i].sum()
            errors[3] += gap / COUNT
            entropy -= alive[m, i] * log_prob[m, i] / alive.sum()
    (gradient,) = torch.autograd.grad(losses[0], algorithm.log_alpha)
    torch.testing.assert_close(gradient, -errors)
    torch.testing.assert_close(statistics["entropy"], entropy)


def test_who_never_lives_is_no_reason_for_nan() -> None:
    algorithm, batch, _ = scene(HASACConfig(**SOFT))
    alive = everyone(batch.obs) * torch.tensor([1.0, 0.0, 1.0])
    stats = algorithm.update_temperature(torch.randn(COUNT, 3), alive)
    assert all(torch.isfinite(value) for value in stats.values())
    assert torch.isfinite(algorithm.log_alpha).all()


# ------------------------------------------------------------------------------ opponent models


def test_opponent_models_are_of_the_living() -> None:
    """The loss of models, and their divergence, against loops over learners, agents and frames."""
    algorithm, _, _ = scene(MADDPGConfig(**FAST, inference=True, inference_entropy=0.1))
    seen = algorithm.replay.take(torch.arange(64))
    models, alive = algorithm.opponent_models, everyone(seen.obs)
    total, count, gap = torch.zeros(()), 0.0, torch.zeros(())
    for i, learner in enumerate(AGENTS):
        for j, (name, row) in enumerate(AGENTS):
            mask = seen.obs.groups[name].action_mask
            assert mask is not None
            both = []
            for policy in (models.models[i], algorithm.policy):
                logits = policy.networks[name](seen.obs.groups[name].obs)[0][:, row]
                both.append(logits.where(mask[:, row], -1e9).log_softmax(-1).detach())
            for m in range(64):
                if (name, row) == learner or not alive[m, j]:
                    continue
                believed, true = both[0][m], both[1][m]
                total -= believed[seen.action[name][m, row]]
                total += 0.1 * (believed.exp() * believed).sum()
                gap += (true.exp() * (true - believed))[mask[m, row]].sum()
                count += 1
    found = models.divergence({"team": algorithm.policy}, seen.obs)
    torch.testing.assert_close(found, gap / count, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(models.fit(seen.obs, seen.action), total / count)
