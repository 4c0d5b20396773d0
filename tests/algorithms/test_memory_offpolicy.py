"""Off-policy actor-critics with memory against loops over single steps; and what memory solves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.haddpg import HADDPGConfig, HATD3Config
from marl.algorithms.hasac import HASAC, HASACConfig, ISACConfig, MASACConfig
from marl.algorithms.maddpg import IDDPGConfig, MADDPGConfig, MATD3Config
from marl.envs.games.tasks import make as game
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.learning.recurrent import (
    SequenceBatch,
    carry_before,
    next_carry,
    next_policy_carry,
    params_of,
    q_of_stored,
    sequence_batch,
)
from marl.networks.informarl import InforMARL
from marl.networks.perceptron import Perceptron
from marl.policies.dag import BayesianNetworkConfig
from marl.training import cautions
from marl.training.teams import Team
from marl.types import Observation, tree_map, tree_tensors
from tests.helpers.builders import weights
from tests.helpers.experiments import SHORT, Kill, equal, outcome
from tests.helpers.off_policy import FAST, MLP, Play
from tests.helpers.replay import naive_n_step
from tests.helpers.toy_envs import Pointed, continuous, identity, memory, mortal, rivals

GRU = Perceptron([8], gru=4)
LENGTH, BURN_IN = 4, 3
SEQUENCES: dict[str, Any] = {**FAST, "batch_size": 12, "sequence_length": LENGTH}
SOFT: dict[str, Any] = {"alpha_lr": 3e-3, "entropy_target": 0.05}
CONFIGS: dict[str, Any] = {
    "hasac": HASACConfig, "masac": MASACConfig, "isac": ISACConfig, "maddpg": MADDPGConfig,
    "iddpg": IDDPGConfig, "matd3": MATD3Config, "haddpg": HADDPGConfig, "hatd3": HATD3Config,
}  # fmt: skip


def config(name: str, **options: Any) -> Any:
    soft = SOFT if "sac" in name else {}
    return CONFIGS[name](**{**SEQUENCES, "burn_in": BURN_IN, **soft, **options})


def scene(make: Any, given: Any, model: Any = GRU) -> tuple[Any, Any, list[Any]]:
    """A learner after a few updates, sequences with an episode's beginning inside, and noise."""
    play = Play(make, given, model, envs=8)
    play.iterate(2, learn=False)
    algorithm: Any = play.first
    algorithm.frames = int(given.warmup)
    play.iterate(1)
    batch = algorithm.read(algorithm.draw_sequences(LENGTH, given.burn_in))
    assert isinstance(batch, SequenceBatch)
    assert batch.sequences.start[BURN_IN + 1 :].any() and batch.sequences.start[1:BURN_IN].any()
    noise = [algorithm.policy.noise(len(batch.reward), torch.Generator()) for _ in range(2)]
    return algorithm, algorithm.remember(batch), noise


def gradients(loss: Tensor, parameters: Any) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, parameters, strict=True)]


def assert_same(one: Tensor, other: Tensor, parameters: Any) -> None:
    """Two losses and their gradients."""
    torch.testing.assert_close(one, other)
    pairs = zip(gradients(one, parameters), gradients(other, parameters), strict=True)
    for x, y in pairs:
        torch.testing.assert_close(x, y, atol=1e-6, rtol=1e-4)


# --------------------------------------------------------------------------------- step by step


def walk(module: Any, batch: SequenceBatch) -> list[tuple[Any, Any, Any]]:
    """Outputs, memories before and memories after the steps to learn from, one after the other."""
    sequences, steps = batch.sequences, []
    carry, never = module.initial_carry(batch.count), torch.zeros(1, batch.count, dtype=torch.bool)
    for t in range(len(sequences.start)):
        keep = ~sequences.start[t][:, None, None]
        before = tree_map(lambda x, keep=keep: x * keep, carry)
        given = tree_map(lambda x, t=t: x[t : t + 1], (sequences.obs, sequences.action))
        reads_actions = hasattr(module, "critics")
        out, carry = module.unroll(*given[: 1 + reads_actions], before, never)
        carry = tree_map(lambda x: x[0], carry)
        if t < batch.burn_in:
            carry = tree_map(torch.detach, carry)
        else:
            steps.append((out, before, carry))
    return steps


@pytest.mark.parametrize(("make", "model"), [(mortal, GRU), (Pointed, InforMARL([8], gru=4))])
def test_sequences_equal_single_steps(make: Any, model: Any) -> None:
    """Parameters of policies and of agents, and values, with their gradients; and all memories."""
    algorithm, batch, _ = scene(make, config("hasac"), model)
    for policy in (algorithm.policy, *algorithm.agent_policies):
        found, steps = params_of(policy, batch), walk(policy, batch)
        expected = tree_map(lambda *x: torch.cat([y[0] for y in x]), *(s[0] for s in steps))
        own = policy.parameters
        own = list(own()) if policy is algorithm.policy else own
        total = [torch.cat([x.sin().flatten() for x in tree_tensors(y)]) for y in (found, expected)]
        assert_same(total[0].sum(), total[1].sum(), own)
    steps = walk(algorithm.critic, batch)
    expected = torch.cat([out[:, 0] for out, _, _ in steps], dim=1)
    own = list(algorithm.critic.parameters())
    assert_same(q_of_stored(algorithm.critic, batch).sin().sum(), expected.sin().sum(), own)
    for found, position in ((carry_before, 1), (next_carry, 2)):
        memories = tree_map(lambda *x: torch.cat(x), *(step[position] for step in steps))
        for one, other in zip(
            tree_tensors(found(algorithm.critic, batch)), tree_tensors(memories), strict=True
        ):
            torch.testing.assert_close(one, other.detach())
            assert not one.requires_grad and one.any()


# ----------------------------------------------------------------------------------- whole losses


def everyone(obs: Observation) -> Tensor:
    """Who is alive, ``[M, N]``, as numbers."""
    return torch.cat([g.alive.float() for g in obs.groups.values() if g.alive is not None], dim=-1)


def naive(algorithm: Any, batch: SequenceBatch, noise: list[Any]) -> tuple[Tensor, Tensor]:
    """The losses of critics and actors, sample after sample with memories step by step."""
    soft, own = isinstance(algorithm, HASAC), algorithm.critic.heads == 3
    target_policy = algorithm.policy if soft else algorithm.target_policy
    modules = (algorithm.policy, target_policy, algorithm.critic, algorithm.target_critic)
    steps = [walk(module, batch) for module in modules]
    alive, later = everyone(batch.obs), everyone(batch.next_obs)
    critic_terms, actor_terms, counted = [], [], []
    for m in range(len(batch.reward)):
        one: dict[str, Any] = {n: tree_map(lambda x, m=m: x[m : m + 1], part) for n, part in (
            ("obs", batch.obs), ("next", batch.next_obs), ("stored", dict(batch.action)),
            ("noise", dict(noise[0])), ("fresh", dict(noise[1])))}  # fmt: skip
        t, s = m // batch.count, m % batch.count
        own_steps = [tree_map(lambda x, s=s: x[s : s + 1], x[t][1:]) for x in steps]
        (_, _), (_, after), (before, _), (_, q_after) = own_steps
        params = tree_map(lambda x, s=s: x[:, s : s + 1], steps[0][t][0])
        q = steps[2][t][0][:, :, s : s + 1]
        never = torch.zeros(1, dtype=torch.bool)
        next_params, _ = target_policy.step_params(one["next"], after, never)
        drawn = one["noise"] if soft else algorithm.smoothing_noise(one["noise"])
        action, log_prob = target_policy.rsample(one["next"], drawn, next_params)
        y = algorithm.target_critic(one["next"], action, carry=q_after).amin(0)[0]  # [H]
        log_probs = torch.cat([log_prob["left"], log_prob["right"]], dim=-1)[0] * later[m]
        alpha = algorithm.alpha if soft else torch.zeros(4)
        if soft:
            y = y - (alpha[:-1] * log_probs if own else alpha[-1] * log_probs.sum())
        y = (batch.reward[m] + batch.discount[m] * y).detach()
        critic_terms.append((q[:, 0, 0] - y).square().sum(0) * (alive[m] if own else 1.0))
        # actors
        params = tree_map(lambda x: x[0], params)
        fresh, log_prob = algorithm.policy.rsample(one["obs"], one["fresh"], params)
        log_probs = torch.cat([log_prob["left"], log_prob["right"]], dim=-1)[0]
        carry = tree_map(torch.detach, before)
        for i, (name, row) in enumerate((("left", 0), ("left", 1), ("right", 0))):
            joint = one["stored"] if not soft else {k: v.detach() for k, v in fresh.items()}
            if soft and not own:
                joint = fresh  # one value, whose gradient is of all
            group = joint[name].clone()
            group[:, row] = fresh[name][:, row]
            values = algorithm.critic(one["obs"], {**joint, name: group}, carry=carry)[:, 0]
            value = values.amin(0) if soft else values[0]
            value = value[i] if own else value[0] / alive[m].sum().clamp_min(1)
            penalty = 1e-3 * params[name][0, row].square().mean()
            cost = alpha[i] * log_probs[i] - value if soft else penalty - value
            actor_terms.append(cost * alive[m, i])
        counted.append(alive[m])
    count = torch.stack(counted).sum()
    critic_loss = torch.stack(critic_terms).sum() / (count if own else len(batch.reward))
    return critic_loss, 3 * torch.stack(actor_terms).sum() / count


@pytest.mark.parametrize("name", ["masac", "isac", "maddpg"])
def test_losses_equal_a_loop_over_single_steps(name: str, monkeypatch: Any) -> None:
    """With deaths and masks, under the team's reward and the agents' own."""
    algorithm, batch, noise = scene(mortal, config(name))
    critic_loss, actor_loss = naive(algorithm, batch, noise)
    seen: list[Tensor] = []
    monkeypatch.setattr(algorithm.critic_optimizer, "step", seen.append)
    algorithm.update_critic(batch, noise[0], {})
    assert_same(seen[0], critic_loss, list(algorithm.critic.parameters()))
    loss, _ = algorithm.loss_simultaneous(batch, noise[1])
    assert_same(loss, actor_loss, list(algorithm.policy.parameters()))


@pytest.mark.parametrize(("name", "exact"), [("hasac", False), ("hasac", True), ("haddpg", False)])
def test_each_actors_loss_is_its_part_of_the_loss_of_all(name: str, exact: bool) -> None:
    """Before anybody moves, of an agent's own weights."""
    options = {"exact": True} if exact else {}
    algorithm, batch, noise = scene(identity, config(name, **options))
    whole, _ = algorithm.loss_simultaneous(batch, noise[0])
    action = algorithm.sample_current(batch, noise[0])
    stacked = list(algorithm.policy.parameters())
    expected = dict(zip(map(id, stacked), gradients(whole, stacked), strict=True))
    named = algorithm.policy.networks
    for agent, policy in enumerate(algorithm.agent_policies):
        loss, _ = algorithm.loss_of_agent(agent, batch, noise[0], action)
        names = dict(named[policy.group].named_parameters())
        for (key, weight), found in zip(
            policy.weights.items(), gradients(loss, policy.parameters), strict=True
        ):
            assert weight.shape == found.shape
            part = expected[id(names[key])][policy.rows]
            torch.testing.assert_close(found, part, atol=1e-6, rtol=1e-4)


# --------------------------------------------------------------------------- ends and beginnings


def losses(algorithm: Any, batch: SequenceBatch, noise: list[Any]) -> list[Tensor]:
    """The losses of critics and actors with their gradients."""
    batch = algorithm.remember(batch)
    y = algorithm.target(batch, noise[0], {})
    critic = (q_of_stored(algorithm.critic, batch) - y).square().mean()
    actor, _ = algorithm.loss_simultaneous(batch, noise[1])
    return [
        critic, actor, *gradients(critic, list(algorithm.critic.parameters())),
        *gradients(actor, list(algorithm.policy.parameters())),
    ]  # fmt: skip


def garbage(tree: Any, where: Tensor) -> Any:
    """Other numbers where ``where [T, S]``."""

    def put(x: Tensor) -> Tensor:
        if x.dtype == torch.bool:
            return x
        return torch.where(where.reshape(*where.shape, *[1] * (x.dim() - 2)), 7.5, x)

    return tree_map(put, tree)


def test_nothing_before_an_episode_counts() -> None:
    """Neither in memories nor in losses of the steps of the episode, nor after a termination."""
    algorithm, batch, noise = scene(identity, config("masac", batch_size=80))
    sequences = batch.sequences
    begins = sequences.start.clone()
    begins[BURN_IN] = True  # as if a new episode began with the first step to learn from
    sequences = replace(sequences, start=begins)
    early = torch.arange(len(begins)).unsqueeze(-1).expand_as(begins) < BURN_IN
    ended = sequences.terminated.any(-1)
    assert ended[BURN_IN:].any()
    dirty = replace(
        sequences,
        obs=garbage(sequences.obs, early),
        action=garbage(sequences.action, early),
        next_obs=garbage(sequences.next_obs, early | ended),
        reward=garbage(sequences.reward, early),
    )
    clean, same, other = (
        losses(algorithm, sequence_batch(x, BURN_IN, 1, 0.9), noise)
        for x in (sequences, dirty, replace(dirty, start=batch.sequences.start))
    )
    assert all(map(torch.equal, clean, same))
    assert not torch.equal(clean[0], other[0]) and not torch.equal(clean[1], other[1])


def test_a_burn_in_from_the_beginning_is_exact() -> None:
    """Episodes have 4 steps: 3 before a step hold its episode, and 5 more change nothing."""
    algorithm, _, _ = scene(memory, config("masac"))
    index = algorithm.draw_sequences(LENGTH, 8)
    generator = torch.Generator().manual_seed(3)
    noise = [algorithm.policy.noise(index[8:].numel(), generator) for _ in range(2)]
    found = []
    for burn_in in (8, 3, 0):
        algorithm.config.burn_in = burn_in
        found.append(losses(algorithm, algorithm.read(index[8 - burn_in :]), noise))
    for one, other in zip(*found[:2], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(found[0][0], found[2][0])


def test_windows_of_several_steps_end_with_their_episode_or_sequence() -> None:
    _, batch, _ = scene(mortal, config("isac", batch_size=200))
    found = sequence_batch(batch.sequences, BURN_IN, 3, 0.9)
    parts = (batch.sequences.reward, batch.sequences.terminated, batch.sequences.done)
    lengths = set()
    for m in range(len(found.reward)):
        t, s = BURN_IN + m // batch.count, m % batch.count
        reward, terminated, done = (x[:, s] for x in parts)
        expected = naive_n_step(reward, terminated, done.any(-1), t, 3, 0.9)
        torch.testing.assert_close(found.reward[m].tolist(), expected.reward)
        torch.testing.assert_close(found.discount[m].tolist(), expected.discount)
        assert found.last[m] == expected.last * batch.count + s
        shown = batch.sequences.next_obs.groups["left"].obs[expected.last, s]
        assert torch.equal(found.next_obs.groups["left"].obs[m], shown)
        lengths.add(expected.last - t)
    assert lengths == {0, 1, 2}


# ------------------------------------------------------------------------------- other teams


def test_opponents_remember_too() -> None:
    """Targets read what they do with the memories that they have after each step."""
    algorithm, batch, _ = scene(rivals, config("maddpg"))
    (opponent,) = (p for n, p in algorithm.opponent_policies().items() if n == "right")
    found = next_policy_carry(opponent, batch)["right"]
    expected = torch.cat([after["right"] for _, _, after in walk(opponent, batch)])
    torch.testing.assert_close(found, expected)
    given: list[Tensor] = []
    act = opponent.act

    def watched(obs: Observation, carry: Any, start: Tensor, noise: Any) -> Any:
        given.append(carry["right"])
        assert not start.any()
        return act(obs, carry, start, noise)

    opponent.act = watched
    algorithm.opponent_actions(batch)
    assert torch.equal(given[0], found)


def test_mistakes_are_told() -> None:
    joint = BayesianNetworkConfig("line")
    with pytest.raises(
        UserError, match=r"a JointPolicy has no memory off policy; set model\.gru=0"
    ):
        Play(identity, config("masac", joint=joint), GRU)
    with pytest.raises(UserError, match="ensembles have no memory yet"):
        Play(identity, config("maddpg", ensemble=2), GRU)
    with pytest.raises(UserError, match="inference=true works only without memory"):
        Play(identity, config("maddpg", inference=True), GRU)
    with pytest.raises(UserError, match=r"sequences of 99999 steps .* do not fit"):
        Play(identity, config("masac", burn_in=99995), GRU)
    specs = {"left": Team(None, config("maddpg"), MLP), "right": Team(None, config("masac"), GRU)}
    play = Play(rivals, config("maddpg"), teams=specs)
    with pytest.raises(UserError, match=r"for both teams one with model\.gru above 0"):
        play.iterate(10)


def test_nothing_is_learned_before_sequences_are_stored() -> None:
    """And a run that can never store one says so."""
    play = Play(identity, config("masac", burn_in=20, warmup=0), GRU, envs=4)
    settings = [Settings(total_frames=frames, num_envs=4, steps=8) for frames in (64, 96)]
    short, long = (cautions.sequence_warnings(play.teams, given) for given in settings)
    assert "its sequences have 24 steps" in short[0] and "the run has 16 steps" in short[0]
    assert not long
    metrics = [play.iterate(1) for _ in range(4)]
    assert [bool(m) for m in metrics] == [False, False, False, True]  # 24 steps, 8 each time


# --------------------------------------------------------------------------------------- whole runs


def run(directory: Path, name: str, sinks: Any = None) -> Experiment:
    """Six iterations, with updates from the second on."""
    return Experiment(
        Task("tests.helpers.toy_envs:identity"),
        config(name, warmup=40, batch_size=8, frames_per_update=20, n_step=2),
        GRU,
        settings=Settings(**{**SHORT, "replay_size": 100, "video": False}),
        directory=directory,
        sinks=sinks,
    )


def test_a_stopped_run_resumes_exactly(tmp_path: Path) -> None:
    run(tmp_path / "whole", "masac").run()
    stopped = run(tmp_path / "run", "masac", [Kill(5)])
    stopped.run()
    assert 40 < stopped.frames < 240
    Experiment.load(stopped.directory).run()
    assert equal(outcome(tmp_path / "run"), outcome(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("make", [mortal, continuous])
@pytest.mark.parametrize("name", ["hasac", "masac", "matd3"])
def test_compiled_steps_equal_eager_ones(name: str, make: Any) -> None:
    found = []
    for compiled in (False, True):
        play = Play(make, config(name, compile=compiled, sequence_length=3, burn_in=2), GRU)
        play.iterate(2)
        found.append(torch.cat([weights(play.first.policy), weights(play.first.critic)]))
    torch.testing.assert_close(*found, atol=2e-3, rtol=2e-3)


# ----------------------------------------------------------------------------------------- learning


def test_memory_is_learned() -> None:
    """Without memory 2 of 4 is the most: the code in the first step, a guess in the others."""
    options = {**FAST, "sequence_length": 4, "burn_in": 3}
    play = Play(memory, config("masac", **options), Perceptron([32], "relu", gru=32))
    play.iterate(12)
    assert play.returns()[0] > 3.0


def cue(num_envs: int, device: torch.device, **options: Any) -> Any:
    return game("games/cue", num_envs, device, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_cues_are_remembered_with_memory_only(name: str) -> None:
    """1 for a memory of all steps in between, 0.25 without; local critics must remember too, and
    get three steps in place of six."""
    local = name in ("isac", "iddpg")
    length, iterations = (3, 60) if local else (6, 40)
    options: dict[str, Any] = {"sequence_length": 9 if local else 12, "burn_in": length - 1}
    options |= {**FAST, "gamma": 0.99, "batch_size": 144, **({} if local else {"critic": "state"})}
    options |= {"temperature": 0.05 if local else 0.01} if "sac" in name else {}
    found = []
    for gru in (32, 0):
        model = Perceptron([32], "relu", gru=gru)
        play = Play(cue, config(name, **options), model, length=length)
        play.iterate(iterations if gru else 20)
        found += play.returns()
    assert found[0] > 0.6 and found[1] < 0.35, found
