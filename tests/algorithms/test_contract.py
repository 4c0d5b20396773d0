"""Every algorithm, with and without memory, learns a step on every kind of space."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from marl.algorithm import Algorithm
from marl.algorithms.registry import ALGORITHMS
from marl.envs.particle.tasks import make
from marl.errors import UserError
from marl.learning.replay import Replay
from marl.networks.informarl import InforMARL
from marl.networks.observation_norm import ObservationNorm
from marl.networks.perceptron import Perceptron
from marl.training.build import build_teams
from marl.training.collector import Collector
from marl.training.evaluation import evaluate
from marl.training.teams import RunShape, Team, resolve_teams
from marl.utils.capabilities import needs_replay
from tests.helpers.builders import CPU, SMALL
from tests.helpers.off_policy import VALUE
from tests.helpers.toy_envs import KINDS

NAMES = [name for name in ALGORITHMS if name not in ("random", "scripted", "frozen")]
REPLAYING = [name for name in NAMES if needs_replay(ALGORITHMS[name])]
# OW-QMIX is CW-QMIX with other weights of errors.
SLOW = {"owqmix": pytest.mark.slow}
LEARNERS = [pytest.param(name, marks=SLOW.get(name, ())) for name in NAMES]
SEQUENTIAL = ("happo", "haa2c", "hasac", "haddpg", "hatd3")  # agents move one by one
MODELS = {
    "mlp": Perceptron(**SMALL),
    "gru": Perceptron(**SMALL, gru=8, layer_norm=True, input_norm=True),
    "per_agent": Perceptron(**SMALL, sharing="per_agent", agent_id=True),
}


def configured(name: str) -> Any:
    if name in VALUE:
        return ALGORITHMS[name](
            warmup=0, batch_size=16, frames_per_update=20, sequence_length=4, burn_in=1
        )
    if name in REPLAYING:
        options = {"batch_size": 16, "sequence_length": 2, "burn_in": 1}
        return ALGORITHMS[name](warmup=0, frames_per_update=20, **options)
    return ALGORITHMS[name](epochs=2, minibatch_size=30, chunk_length=5)


def refusal(name: str, kind: str, model: str) -> str | None:
    """What an algorithm says of what it cannot do."""
    if name in ("isac", "iddpg") and kind == "images":
        return "reads no images"
    return "images are not supported" if name in SEQUENTIAL and kind == "images" else None


def teams(env: Any, algorithm: Any, model: Perceptron, replay: Replay) -> dict[str, Algorithm]:
    torch.manual_seed(0)
    specs = resolve_teams(env, {}, Team(None, algorithm, model))
    return build_teams(env, specs, RunShape(env.num_envs, 10, 10), seed=0, replay=replay)


def parts(algorithm: Algorithm) -> list[nn.Module]:
    found = [algorithm.policy, *(getattr(algorithm, name, None) for name in ("critic", "mixer"))]
    return [p for p in found if isinstance(p, nn.Module) and list(p.parameters())]


def step(kind: str, config: Any, model: Perceptron) -> dict[str, Algorithm]:
    """A rollout, an update, an evaluation."""
    env = KINDS[kind](8, CPU)
    replay = Replay(1000, 8, CPU)
    built = teams(env, config, model, replay)
    rollout, _ = Collector(env, built, 10, 0, torch.Generator().manual_seed(0)).collect()
    replay.append(rollout)
    for team in built.values():
        for name, value in team.update(rollout).items():
            assert value.dim() == 0 and torch.isfinite(value), name
    returns = evaluate(KINDS[kind](2, CPU), built, 2, 1)["returns"]
    assert set(returns) == set(env.teams)
    return built


def cases() -> Iterator[Any]:
    """All algorithms, spaces and models.

    Fast on fewer spaces are memory off policy, and the mixers beside QMIX, which differ from it
    after the utilities."""
    for name, kind, model in itertools.product(NAMES, KINDS, MODELS):
        recurrent = model == "gru" and name in REPLAYING and name not in VALUE
        slow = name in SLOW or (recurrent and kind not in ("rivals", "mortal"))
        if name in VALUE and name != "qmix":
            slow = slow or kind not in ("mortal", "multidiscrete", "continuous")
        yield pytest.param(name, kind, model, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("name", "kind", "model"), list(cases()))
def test_one_update(name: str, kind: str, model: str) -> None:
    config, told = configured(name), refusal(name, kind, model)
    if told:
        with pytest.raises(UserError, match=told):
            step(kind, config, MODELS[model])
        return
    fresh = teams(KINDS[kind](8, CPU), config, MODELS[model], Replay(1000, 8, CPU))
    for team, learned in step(kind, config, MODELS[model]).items():
        pairs = zip(parts(learned), parts(fresh[team]), strict=True)
        named = [(a, b) for p, q in pairs for a, b in zip(
            p.named_parameters(), q.parameters(), strict=True)]  # fmt: skip
        assert named
        for (parameter, after), before in named:
            assert torch.isfinite(after).all(), parameter
            assert not torch.equal(after, before), f"{parameter} has not moved"


@pytest.mark.parametrize("sharing", ["shared", "per_agent"])
@pytest.mark.parametrize("name", LEARNERS)
def test_one_update_with_a_graph(name: str, sharing: str) -> None:
    """Of an encoder before actors and critics: all of it moves."""
    gru = 0 if name in REPLAYING and name not in (*VALUE, "hasac") else 4
    model = InforMARL(**SMALL, sharing=sharing, gru=gru)
    config = configured(name)
    before, after = (graph_step(config, model, learn) for learn in (False, True))
    for old, new in zip(before, after, strict=True):
        assert torch.isfinite(new).all() and not torch.equal(old, new)


def graph_step(config: Any, model: Any, learn: bool = True) -> list[Tensor]:
    """All parameters of actor and critic after a rollout in InforMARL's Target."""
    env, replay = make("navigation/target", 8, num_obstacles=2), Replay(1000, 8, CPU)
    built = teams(env, config, model, replay)
    rollout, _ = Collector(env, built, 10, 0, torch.Generator().manual_seed(0)).collect()
    replay.append(rollout)
    if learn:
        built["team"].update(rollout)
    return [p.detach().clone() for part in parts(built["team"]) for p in part.parameters()]


@pytest.mark.parametrize("name", LEARNERS)
def test_every_algorithm_normalises_observations(name: str) -> None:
    """In every network, by all that the living saw."""
    model = Perceptron(**SMALL, normalize_obs=True, sharing="per_agent", agent_id=True)
    built = step("mortal", configured(name), model)
    for part in parts(built["team"]):
        norms = [m for m in part.modules() if isinstance(m, ObservationNorm)]
        assert {norm.source for norm in norms} == {"left", "right"}
        assert all(0 < int(n.count) < 8 * 10 * (2 if n.source == "left" else 1) for n in norms)


@pytest.mark.parametrize("kind", KINDS)
def test_random_teams_act_and_learn_nothing(kind: str) -> None:
    built = step(kind, ALGORITHMS["random"](), MODELS["mlp"])
    assert all(not parts(team) and team.state_dict() == {} for team in built.values())


@pytest.mark.parametrize("critic", ["agent", "team", "all", "state"])
@pytest.mark.parametrize("reward", ["own", "team_sum", "team_mean"])
def test_every_critic_with_every_reward(critic: str, reward: str) -> None:
    step("stateful", ALGORITHMS["mappo"](critic=critic, reward=reward), MODELS["gru"])
