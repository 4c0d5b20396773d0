"""What acted must be what is evaluated: the same log-probabilities, with memory or without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from marl.learning.on_policy import rollout_carries, take
from marl.networks.perceptron import Perceptron
from marl.policies.agent import agent_policies
from marl.policies.base import act
from marl.policies.independent import IndependentPolicy
from marl.types import AgentGroup, Discrete, GroupObservation, Observation, TensorSpec, tree_map
from tests.helpers.builders import SMALL, collector, mappo

MODELS = {
    "shared": SMALL,
    "per_agent": {**SMALL, "sharing": "per_agent"},
    "gru": {**SMALL, "gru": 8, "agent_id": True},
    "gru_per_agent": {**SMALL, "gru": 8, "sharing": "per_agent", "layer_norm": True},
}
KINDS = ("identity", "mortal", "images", "multidiscrete", "continuous")


def rolled(kind: str, model: dict[str, Any], steps: int = 12):
    """A policy with real preferences, and its second rollout of 3 copies."""
    torch.manual_seed(0)
    collect = collector(kind, mappo(kind, Perceptron(**model), envs=3, steps=steps), 3, steps)
    policy = collect.teams["team"].policy
    assert isinstance(policy, IndependentPolicy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    collect.collect()
    return policy, collect.collect()[0]


def team(policy: IndependentPolicy, tree: Any) -> Any:
    return {name: tree[name] for name in policy.groups}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_agrees_with_act(kind: str, model: str) -> None:
    policy, rollout = rolled(kind, MODELS[model])
    assert rollout.start[1:-1].any(), "an episode must start in the middle"
    log_prob, entropy = policy.evaluate(
        rollout.obs, rollout.action, rollout.carry, rollout.start, rollout.aux
    )
    for name in policy.groups:
        torch.testing.assert_close(log_prob[name], rollout.log_prob[name], atol=1e-5, rtol=1e-5)
        assert torch.isfinite(entropy[name]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_with_their_memories_equal_the_whole(kind: str) -> None:
    policy, rollout = rolled(kind, MODELS["gru"])
    chunk, copies = 4, 3
    carries = rollout_carries(policy, rollout, chunk)
    for number in range(rollout.steps * copies // chunk):
        stretch, copy = divmod(number, copies)
        index = (torch.arange(chunk) + stretch * chunk).unsqueeze(-1) * copies + copy
        part = take_all(rollout, index)
        carry = {name: carries[name][number : number + 1] for name in policy.groups}
        log_prob, _ = policy.evaluate(part[0], part[1], carry, part[2], part[3])
        for name in policy.groups:
            expected = rollout.log_prob[name].flatten(0, 1)[index]
            torch.testing.assert_close(log_prob[name], expected, atol=1e-5, rtol=1e-5)


def take_all(rollout: Any, index: Tensor) -> Any:
    parts = (rollout.obs, rollout.action, rollout.start, rollout.aux)
    return take(parts, index)  # type: ignore[type-var]  # any tree


@pytest.mark.parametrize("model", ["per_agent", "gru_per_agent", "agent_id"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "images"])
def test_members_are_the_agents_one_by_one(kind: str, model: str) -> None:
    """Over a rollout ``[T, B]`` with memories, and over chunks ``[L, M]`` of it."""
    words = {**MODELS["gru_per_agent"], "agent_id": True} if model == "agent_id" else MODELS[model]
    policy, rollout = rolled(kind, words)
    expected = policy.evaluate(
        rollout.obs, rollout.action, rollout.carry, rollout.start, rollout.aux
    )
    found = agent_policies(policy)
    rows = [(name, row) for name, group in policy.groups.items() for row in range(group.size)]
    assert [(member.group, member.rows.start) for member in found] == rows
    copies = torch.tensor([2, 0])
    index = torch.arange(36).reshape(12, 3)[:, copies]
    for member in found:
        obs, action, aux = member.select(rollout.obs, rollout.action, rollout.aux)
        carry = member.select_carry(rollout.carry)
        whole = member.evaluate(obs, action, carry, rollout.start, aux)
        part = take((obs, action, rollout.start, aux), index)  # type: ignore[type-var]  # any tree
        carry = {name: memory[copies] for name, memory in carry.items()}
        chunks = member.evaluate(part[0], part[1], carry, part[2], part[3])
        for one, two, everyones in zip(whole, chunks, expected, strict=True):
            its = everyones[member.group][:, :, member.rows]
            torch.testing.assert_close(one, its, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(two, its[:, copies], atol=1e-5, rtol=1e-5)


def test_members_see_observations_of_any_shape() -> None:
    group = AgentGroup("g", ("a", "b"), TensorSpec((2, 3)), Discrete(4))
    policy = IndependentPolicy({"g": group}, Perceptron([8], sharing="per_agent"))
    obs = Observation({"g": GroupObservation(torch.randn(5, 2, 2, 3), None, None)}, None, None)
    noise = policy.noise(5, torch.Generator().manual_seed(0))
    every, _ = policy.rsample(obs, noise)
    for member in agent_policies(policy):
        torch.testing.assert_close(member.rsample(obs, noise)[0], every["g"][:, member.rows])


def test_a_members_parameters_are_its_rows_of_the_policys() -> None:
    policy, _ = rolled("identity", MODELS["per_agent"])
    before = {name: value.clone() for name, value in policy.named_parameters()}
    with torch.no_grad():
        for parameter in agent_policies(policy)[1].parameters:
            parameter.add_(1.0)
    for name, value in policy.named_parameters():
        rows = [not torch.equal(a, b) for a, b in zip(value, before[name], strict=True)]
        assert rows == ([False, True] if ".left." in name else [False])


def test_memories_at_chunk_starts_are_those_of_acting() -> None:
    policy, rollout = rolled("identity", MODELS["gru"])
    carries, carry = rollout_carries(policy, rollout, 4), rollout.carry
    for t in range(rollout.steps):
        if t % 4 == 0:
            for name in policy.groups:
                assert torch.equal(carries[name][t // 4 * 3 : t // 4 * 3 + 3], carry[name])
        obs = tree_map(lambda x, t=t: x[t], rollout.obs)
        carry = policy.act(obs, carry, rollout.start[t], None).carry


def test_no_agent_sees_another() -> None:
    """Decentralized: a change of one agent's observation moves that agent's action only."""
    policy, rollout = rolled("identity", MODELS["gru"])
    obs: Observation = tree_map(lambda x: x[0].clone(), rollout.obs)
    before = policy.act(obs, rollout.carry, rollout.start[0], None)
    obs.groups["left"].obs[:, 1] += 5.0
    after = policy.act(obs, rollout.carry, rollout.start[0], None)
    moved = {n: (before.carry[n] != after.carry[n]).any(-1).any(0) for n in policy.groups}
    assert moved["left"].tolist() == [False, True] and moved["right"].tolist() == [False]


def test_greedy_actions_need_no_random_numbers() -> None:
    policy, rollout = rolled("continuous", SMALL)
    obs = tree_map(lambda x: x[0], rollout.obs)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    greedy = [act(policy, obs, {}, rollout.start[0], generator, False) for _ in range(2)]
    assert torch.equal(greedy[0].action["arms"], greedy[1].action["arms"])
    assert torch.equal(before, generator.get_state())
    drawn = [act(policy, obs, {}, rollout.start[0], generator, True) for _ in range(2)]
    assert not torch.equal(drawn[0].action["arms"], drawn[1].action["arms"])
