"""Joint policies along a Bayesian network: against enumeration, a loop, and independence."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.happo import HAPPOConfig
from marl.algorithms.hasac import MASACConfig
from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import MAPPO, MAPPOConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.learning.auxiliary import GraphDensity
from marl.learning.on_policy import rollout_carries
from marl.learning.replay import Replay
from marl.networks.perceptron import Perceptron
from marl.policies.bayesian import GRAPH, JointPolicy, team_policy
from marl.policies.dag import BayesianNetworkConfig
from marl.policies.independent import IndependentPolicy
from marl.training.build import build_teams
from marl.training.collector import Collector
from marl.training.evaluation import evaluate
from marl.training.joint_evaluation import ablations
from marl.training.teams import RunShape, Team, resolve_teams
from marl.types import Discrete, Observation, tree_map
from tests.helpers.builders import CPU, SMALL, context, mappo, rollout_of
from tests.helpers.experiments import SHORT, equal, outcome
from tests.helpers.toy_envs import KINDS, Game, Rules, identity

NAMES = ("line", "full", "bernoulli", "learned")
GRU = Perceptron(**SMALL, gru=8)
PLAIN = Perceptron(**SMALL)


def lively(policy: Any) -> JointPolicy:
    """With weights large enough for graphs and parents to matter."""
    assert isinstance(policy, JointPolicy)
    torch.manual_seed(1)
    for parameter in policy.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    return policy


def joint(kind: str, name: str, model: Perceptron = PLAIN) -> tuple[JointPolicy, Observation]:
    env = KINDS[kind](16, CPU)
    torch.manual_seed(0)
    return lively(JointPolicy(env.groups, model, BayesianNetworkConfig(name))), env.reset(0)


def played(policy: JointPolicy, obs: Observation) -> Any:
    noise = policy.noise(16, torch.Generator().manual_seed(0))
    start = torch.ones(16, dtype=torch.bool)
    return policy.act(obs, policy.initial_carry(16), start, noise), noise


@pytest.mark.parametrize("name", NAMES)
def test_joint_probabilities_sum_to_one(name: str) -> None:
    policy, obs = joint("identity", name)
    step, _ = played(policy, obs)
    total = torch.zeros(16)
    for left in itertools.product(range(3), repeat=2):
        for right in range(4):
            action = {
                "left": torch.tensor(left).expand(16, 2),
                "right": torch.full((16, 1), right),
            }
            start = torch.ones(16, dtype=torch.bool)
            log_prob, _ = policy.evaluate(obs, action, {}, start, step.aux)
            total += torch.cat(list(log_prob.values()), dim=-1).sum(-1).exp()
    torch.testing.assert_close(total, torch.ones(16))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["identity", "continuous", "multidiscrete", "mortal"])
@pytest.mark.parametrize("model", [PLAIN, GRU], ids=["mlp", "gru"])
def test_evaluation_gives_what_acting_gave(name: str, kind: str, model: Perceptron) -> None:
    torch.manual_seed(0)
    algorithm = MAPPOConfig(joint=BayesianNetworkConfig(name)).build(
        context(KINDS[kind](4, CPU), model)
    )
    policy = lively(algorithm.policy)
    rollout = rollout_of(kind, algorithm)
    carry = {n: rollout.carry[n] for n in policy.groups if n in rollout.carry}
    found, _ = policy.evaluate(rollout.obs, rollout.action, carry, rollout.start, rollout.aux)
    for group in policy.groups:
        torch.testing.assert_close(found[group], rollout.log_prob[group], atol=1e-5, rtol=1e-4)


def test_memories_at_chunks_are_those_of_acting() -> None:
    torch.manual_seed(0)
    algorithm = MAPPOConfig(joint=BayesianNetworkConfig("learned")).build(
        context(identity(4, CPU), GRU)
    )
    policy = lively(algorithm.policy)
    collect = Collector(
        identity(4, CPU), {"team": algorithm}, 5, 2, torch.Generator().manual_seed(1)
    )
    first, second = (tree_map(torch.clone, collect.collect()[0]) for _ in range(2))
    both = tree_map(
        lambda a, b: torch.cat([a, b]), replace(first, carry={}), replace(second, carry={})
    )
    memories = rollout_carries(policy, replace(both, carry=first.carry), 5)
    for group in policy.groups:
        torch.testing.assert_close(memories[group][4:], second.carry[group])


@pytest.mark.parametrize("name", NAMES)
def test_sampling_is_ancestral(name: str) -> None:
    """One agent after the other in topological order, with the same noise."""
    policy, obs = joint("identity", name)
    step, noise = played(policy, obs)
    graph = policy.graph(obs, noise)
    where = [("left", 0), ("left", 1), ("right", 0)]
    for b in range(16):
        done: dict[int, int] = {}
        while len(done) < 3:
            agent = next(
                i for i in range(3)
                if i not in done and all(k in done for k in range(3) if graph[b, k, i])
            )  # fmt: skip
            message = policy.bias.clone()
            for k, choice in done.items():
                if graph[b, k, agent]:
                    group, row = where[k]
                    layer: Any = policy.messages[group]
                    code = policy.groups[group].action.encode(torch.tensor(choice))
                    x = torch.cat([obs.groups[group].obs[b, row], code])
                    message = message + x @ layer.weight[row] + layer.bias[row]
            group, row = where[agent]
            x = torch.cat([obs.groups[group].obs[b, row], message.relu()])
            logits = policy.networks[group](x[None, None])[0][0, 0]
            done[agent] = int((logits.log_softmax(-1) + noise[group][b, row]).argmax())
        assert [done[0], done[1], done[2]] == [
            *step.action["left"][b].tolist(), *step.action["right"][b].tolist()
        ]  # fmt: skip


def changed(obs: Observation, group: str, row: int) -> Observation:
    """The same but for what this agent sees."""
    seen = obs.groups[group]
    other = seen.obs.clone()
    other[:, row] = 1 - other[:, row]
    return replace(obs, groups={**obs.groups, group: replace(seen, obs=other)})


def test_parents_matter_and_cut_policies_read_nothing_but_their_own() -> None:
    policy, obs = joint("identity", "learned")
    _, noise = played(policy, obs)
    start = torch.ones(16, dtype=torch.bool)

    def given(seen: Observation, drawn: Any) -> Tensor:
        step = policy.act(seen, {}, start, drawn)
        found = [step.action[g].float() for g in policy.groups]
        return torch.cat([*found, *(step.log_prob[g] for g in policy.groups)], dim=-1)[
            :, [1, 2, 4, 5]
        ]

    other = changed(obs, "left", 0)  # columns are of the other two agents
    for drawn in (noise, None):
        policy.without_graph = False
        assert not torch.equal(given(obs, drawn), given(other, drawn))
        policy.without_graph = True
        assert torch.equal(given(obs, drawn), given(other, drawn))
    assert float(policy.density(obs, {"left": {}}).max()) == 0


def test_without_a_graph_it_is_the_independent_policy() -> None:
    groups = identity(1, CPU).groups
    assert type(team_policy(groups, PLAIN, BayesianNetworkConfig())) is IndependentPolicy
    policy, obs = joint("identity", "full")
    policy.without_graph = True
    step, noise = played(policy, obs)
    for name, group in policy.groups.items():
        constant = policy.bias.relu().expand(16, group.size, -1)
        x = torch.cat([obs.groups[name].obs, constant], dim=-1)
        numbers = policy.networks[name](x)[0]
        action, log_prob, _ = policy.distributions[name].sample(numbers, None, noise[name])
        assert torch.equal(step.action[name], action)
        torch.testing.assert_close(step.log_prob[name], log_prob)


@pytest.mark.parametrize("kind", ["identity", "continuous"])
@pytest.mark.parametrize("model", [PLAIN, GRU], ids=["mlp", "gru"])
def test_nothing_has_moved_before_the_first_step(kind: str, model: Perceptron) -> None:
    algorithm = mappo(kind, model, epochs=1, joint=BayesianNetworkConfig("learned"))
    for _ in range(3):
        metrics = algorithm.update(rollout_of(kind, algorithm))
        assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)
        assert float(metrics["clip_fraction"]) == 0


def test_the_graph_gets_a_gradient_from_returns() -> None:
    algorithm = mappo("identity", joint=BayesianNetworkConfig("learned"))
    before = [p.clone() for p in algorithm.policy.graphs.parameters()]  # type: ignore[union-attr]
    algorithm.update(rollout_of("identity", algorithm))
    after = algorithm.policy.graphs.parameters()  # type: ignore[union-attr]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


# ----------------------------------------------------------------------------------------- learning


class Whispers(Game):
    """Each of two agents sees what the other one should play."""

    def __init__(self, num_envs: int, device: torch.device):
        super().__init__(num_envs, device, {"team": (2, Discrete(4))}, Rules(end=0.0))

    def _observe(self) -> Observation:
        return tree_map(lambda x: x.flip(1), super()._observe())


def trained(iterations: int, **options: Any) -> tuple[MAPPO, float, float]:
    """What is learned, the return of the last rollouts, and the density."""
    torch.manual_seed(0)
    config = MAPPOConfig(
        actor_lr=1e-2,
        critic_lr=1e-2,
        epochs=4,
        gamma=0.9,
        joint=BayesianNetworkConfig("learned", **options),
    )
    env = Whispers(32, CPU)
    algorithm = config.build(context(env, Perceptron([32]), 8, iterations=iterations))
    collect = Collector(env, {"team": algorithm}, 8, 0, torch.Generator().manual_seed(0))
    found: list[Any] = []
    for _ in range(iterations):
        rollout, metrics = collect.collect()
        found.append((metrics["return/team"], algorithm.update(rollout)["density"]))
    last = [float(torch.stack(x).mean()) for x in zip(*found[-5:], strict=True)]
    return algorithm, last[0], last[1]


def test_an_edge_that_is_needed_becomes_likelier() -> None:
    """By chance 1 of 4, and one who is told gets all 4: 2.5 with an edge. Half of the graphs of
    two agents have one in the beginning."""
    _, reward, density = trained(40)
    assert reward > 2.1 and density > 0.85


def test_annealing_ends_with_independent_policies() -> None:
    algorithm, reward, density = trained(80, anneal=True, weight=0.1)
    assert density < 0.15 and reward < 1.6
    auxiliary = algorithm.auxiliaries.losses["density"]
    assert isinstance(auxiliary, GraphDensity)
    assert auxiliary.density_schedule.tolist() == pytest.approx([0.96, 0.0], abs=0.01)


def test_resuming_is_exact(tmp_path: Path) -> None:
    def run(name: str) -> Experiment:
        return Experiment(
            Task("tests.helpers.toy_envs:identity"),
            MAPPOConfig(
                epochs=1,
                minibatch_size=20,
                chunk_length=5,
                joint=BayesianNetworkConfig("learned", anneal=True),
            ),
            GRU,
            settings=Settings(**SHORT),
            directory=tmp_path / name,
        )

    run("whole").run()
    first = run("parts")
    for _ in range(3):
        first._iterate()
    first.save()
    first.log.close()
    Experiment.load(tmp_path / "parts").run()
    one, other = (outcome(tmp_path / name) for name in ("whole", "parts"))
    assert equal(
        {k: one[k] for k in ("metrics", "teams", "collector", "random")},
        {k: other[k] for k in ("metrics", "teams", "collector", "random")},
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["identity", "continuous"])
def test_samples_are_the_actions_of_the_same_noise(name: str, kind: str) -> None:
    policy, obs = joint(kind, name)
    step, noise = played(policy, obs)
    action, log_prob = policy.rsample(obs, noise)
    for group, spec in policy.groups.items():
        encoded = spec.action.encode(step.action[group])
        torch.testing.assert_close(action[group], encoded, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(log_prob[group], step.log_prob[group], atol=1e-5, rtol=1e-4)


def test_the_gradient_of_samples_goes_through_parents() -> None:
    """Along a line the second agent's action moves with what the first one's network gives: a
    derivative along a random direction, against differences."""
    policy, obs = joint("continuous", "line")
    _, noise = played(policy, obs)
    head: Any = policy.networks["arms"].head  # type: ignore[union-attr]  # shared by both agents

    def second() -> Tensor:
        return policy.rsample(obs, noise)[0]["arms"][:, 1].double().sum()

    (gradient,) = torch.autograd.grad(second(), head.weight)
    direction = torch.randn_like(head.weight)
    ends = []
    for sign in (1, -1):
        head.weight.data += sign * 1e-4 * direction
        ends.append(second().item())
        head.weight.data -= sign * 1e-4 * direction
    expected = (ends[0] - ends[1]) / 2e-4
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=2e-2)


@pytest.mark.parametrize("config", [MASACConfig, MADDPGConfig], ids=["masac", "maddpg"])
@pytest.mark.parametrize("kind", ["identity", "continuous", "mortal"])
def test_off_policy_algorithms_learn_with_graphs(config: Any, kind: str) -> None:
    torch.manual_seed(0)
    env = KINDS[kind](4, CPU)
    chosen = config(
        warmup=0, batch_size=16, frames_per_update=20, joint=BayesianNetworkConfig("learned")
    )
    specs = resolve_teams(env, {}, Team(None, chosen, PLAIN))
    replay = Replay(1000, 4, CPU)
    team = build_teams(env, specs, RunShape(4, 10, 10), seed=0, replay=replay)["team"]
    collect = Collector(env, {"team": team}, 10, 0, torch.Generator().manual_seed(0))
    policy: Any = team.policy
    before = [p.clone() for p in policy.parameters()]
    replay.allocate(collect.example())
    metrics: Any = {}
    for _ in range(3):
        rollout, _ = collect.collect()
        replay.append(rollout)
        metrics = team.update(rollout)
    assert all(torch.isfinite(value) for value in metrics.values())
    assert all(not torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


def test_evaluation_with_and_without_the_graph() -> None:
    algorithm, _, _ = trained(40)
    env, teams = Whispers(64, CPU), {"team": algorithm}
    whole, cut = ablations(teams), ablations(teams, without_graph=True)
    returns = [
        sum(evaluate(env, some, 64, 1)["returns"]["team"]) / 64 for some in (teams, whole, cut)
    ]
    assert returns[0] == returns[1] > 2.1 and returns[2] < 1.6
    assert whole["team"].density > 0.85 and cut["team"].density == 0
    assert not algorithm.policy.without_graph  # type: ignore[union-attr]


def test_mistakes() -> None:
    for options in ({"sequential": True}, {"joint": BayesianNetworkConfig("learned", anneal=True)}):
        with pytest.raises(
            UserError, match=r"do not move one by one|only with on-policy algorithms"
        ):
            MASACConfig(**{"joint": BayesianNetworkConfig("full"), **options})
    with pytest.raises(UserError, match="only with independent policies"):
        MASACConfig(exact=True, joint=BayesianNetworkConfig("full"))
    with pytest.raises(UserError, match="neither ensemble nor inference"):
        MADDPGConfig(ensemble=2, joint=BayesianNetworkConfig("full"))
    with pytest.raises(UserError, match="read no images"):
        JointPolicy(KINDS["images"](1, CPU).groups, PLAIN, BayesianNetworkConfig("full"))
    with pytest.raises(UserError, match="do not move one by one"):
        HAPPOConfig(joint=BayesianNetworkConfig("full"))


def test_the_graph_is_kept_with_the_first_group() -> None:
    policy, obs = joint("identity", "learned")
    step, noise = played(policy, obs)
    assert {k for k in step.aux["left"] if k.startswith(GRAPH)} == {
        GRAPH + "order",
        GRAPH + "edges",
    }
    again = policy.graph(obs, step.aux["left"])
    assert torch.equal(again, policy.graph(obs, noise))


def test_older_checkpoints_read_parents_actions_in_their_own_units() -> None:
    """As if weights had been scaled from [-1, 1] to the bounds, and offsets moved with them; and
    once saved again they still do."""
    new, obs = joint("continuous", "line")
    state = {k: v for k, v in new.state_dict().items() if k != "version"}
    old, _ = joint("continuous", "line")
    old.load_state_dict(state)
    assert old.own_units and not new.own_units
    again, _ = joint("continuous", "line")
    again.load_state_dict(old.state_dict())
    layer: Any = new.messages["arms"]
    with torch.no_grad():
        vector = layer.weight[:, -2:].clone()  # of the action, behind the observation
        layer.weight[:, -2:] *= torch.tensor([1.0, 2.5])[:, None]
        layer.bias += torch.tensor([0.0, 0.5]) @ vector
    steps = [played(policy, obs)[0] for policy in (new, old, again)]
    for other in steps[1:]:
        torch.testing.assert_close(steps[0].action, other.action, atol=1e-5, rtol=1e-5)
    fresh, _ = joint("continuous", "line")
    assert not torch.allclose(played(fresh, obs)[0].action["arms"], steps[1].action["arms"])
