"""Captured steps of learning are the eager ones, number for number, on graphs that need no GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms import actor_critic
from marl.algorithms.haddpg import HATD3Config
from marl.algorithms.happo import HAPPOConfig
from marl.algorithms.hasac import HASACConfig, MASACConfig
from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.algorithms.qmix import QMIXConfig
from marl.algorithms.vdn import VDNConfig
from marl.algorithms.wqmix import OWQMIXConfig
from marl.networks.perceptron import Perceptron
from marl.types import Rollout, tree_map, tree_tensors
from marl.utils import capture
from marl.utils.capture import Captured, CapturedStep
from tests.helpers.builders import CPU, SMALL, context, rollout_of
from tests.helpers.graphs import fake_graph, use_fake_graphs
from tests.helpers.off_policy import Play
from tests.helpers.toy_envs import KINDS

GRU = Perceptron(**SMALL, gru=8)


def updates(config: Any, model: Perceptron | None, word: str) -> tuple[list[Tensor], list[Any]]:
    """The state after three updates, the last from another rollout, and their statistics."""
    torch.manual_seed(0)
    chosen = replace(context(KINDS["continuous"](4, CPU), model), execution=word)
    algorithm = config.build(chosen)
    rollout: Rollout = rollout_of("continuous", algorithm)
    other = tree_map(lambda x: x.flip(1), rollout)
    stats = [algorithm.update(each) for each in (rollout, rollout, other)]
    return tree_tensors(algorithm.state_dict()), stats


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (MAPPOConfig(epochs=2, minibatch_size=15, chunk_length=5), None),  # one is smaller
        (MAPPOConfig(epochs=2, minibatch_size=20, chunk_length=5, anneal_lr=True), GRU),
        (HAPPOConfig(epochs=2, minibatch_size=20), None),
    ],
    ids=["mappo", "memory", "happo"],
)
def test_captured_updates_equal_eager_ones(
    config: Any, model: Perceptron | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_graphs(monkeypatch)
    (state, stats), (captured, again) = (updates(config, model, w) for w in ("eager", "captured"))
    assert all(torch.equal(x, y) for x, y in zip(state, captured, strict=True))
    assert [{k: float(v) for k, v in s.items()} for s in stats] == [
        {k: float(v) for k, v in s.items()} for s in again
    ]


OFF_POLICY: dict[str, Any] = {"batch_size": 16, "warmup": 64, "frames_per_update": 32}
SEQUENCES: dict[str, Any] = {**OFF_POLICY, "sequence_length": 4, "burn_in": 0}
TWO: dict[str, Any] = {"actor_interval": 2}


@pytest.mark.parametrize(
    ("config", "model", "kind"),
    [
        (HASACConfig(**OFF_POLICY), None, "continuous"),
        (MASACConfig(**OFF_POLICY, **TWO), None, "identity"),
        (MADDPGConfig(**OFF_POLICY), None, "continuous"),
        (HATD3Config(**OFF_POLICY), None, "identity"),
        (MASACConfig(**SEQUENCES), GRU, "identity"),
        (QMIXConfig(**SEQUENCES), GRU, "identity"),
        (OWQMIXConfig(**SEQUENCES), None, "identity"),
        (VDNConfig(**OFF_POLICY), None, "identity"),
    ],
    ids=lambda x: type(x).__name__ if hasattr(x, "batch_size") else "",
)
def test_captured_updates_from_a_replay_equal_eager_ones(
    config: Any, model: Perceptron | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is captured, and none falls back."""
    use_fake_graphs(monkeypatch)
    monkeypatch.setattr(capture, "fall_back", lambda *words: pytest.fail(str(words)))
    states, stats = [], []
    for word in ("eager", "captured"):
        play = Play(KINDS[kind], config, model or Perceptron(**SMALL), envs=4, steps=8, word=word)
        stats.append([float(x) for _ in range(6) for x in play.iterate().values()])
        states.append(tree_tensors(play.first.state_dict()))
    assert stats[0] == stats[1] and play.first.updates > 2
    steps = [x for x in vars(play.first).values() if isinstance(x, CapturedStep)]
    assert any(step._graphs for step in steps)
    assert all(torch.equal(x, y) for x, y in zip(*states, strict=True))


@pytest.mark.parametrize("config", [MADDPGConfig(**OFF_POLICY), VDNConfig(**OFF_POLICY)])
def test_one_word_compiles_learning_from_a_replay_too(config: Any) -> None:
    play = Play(KINDS["identity"], config, envs=4, steps=8, word="compiled")
    names = ("read", "update_critic", "update_utilities")
    steps = [vars(play.first)[name] for name in names if name in vars(play.first)]
    assert len(steps) == 2
    assert all(hasattr(step, "_torchdynamo_orig_callable") for step in steps)


def test_agents_of_a_large_team_are_captured_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose critics' first layers are computed incrementally."""
    use_fake_graphs(monkeypatch)
    monkeypatch.setattr(actor_critic, "LARGE_TEAM", 3)
    config, model = HASACConfig(**OFF_POLICY), Perceptron(**SMALL)
    states = []
    for word in ("eager", "captured"):
        play = Play(KINDS["identity"], config, model, envs=4, steps=8, word=word)
        play.iterate(5)
        states.append(tree_tensors(play.first.state_dict()))
    assert play.first.incremental is not None
    for x, y in zip(*states, strict=True):
        torch.testing.assert_close(x, y)


def test_a_capture_leaves_state_as_it_was_and_copies_what_differs() -> None:
    total, copies = torch.zeros(2), []
    real = Tensor.copy_

    def add(leaves: Any) -> list[Tensor]:
        total.add_(leaves[0] * leaves[1])
        return [total * 1]

    captured = Captured(add, [torch.ones(2), torch.ones(2)], [total], record=fake_graph)
    assert total.tolist() == [0, 0]
    weights, x = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])
    (first,) = captured([weights, x])
    assert first is not None and first.tolist() == [1, 2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "copy_", lambda a, b: (copies.append(b), real(a, b))[1])
        captured([weights, x])
        assert not any(c is weights or c is x for c in copies)  # as they were
        x.mul_(10)
        (last,) = captured([weights, x])
        assert any(c is x for c in copies) and not any(c is weights for c in copies)
    assert last is not None and last.tolist() == [12, 24]


def test_a_step_is_captured_once_for_each_shape() -> None:
    weight, calls = torch.zeros(()), []

    def step(x: Tensor) -> dict[str, Tensor]:
        calls.append(len(x))
        weight.add_(x.sum())
        return {"sum": x.sum(), "weight": weight * 1}

    captured = CapturedStep(step, lambda: [weight], record=fake_graph)
    results = [captured(torch.ones(n)) for n in (2, 3, 2)]
    assert [float(r["weight"]) for r in results] == [2, 5, 7]
    assert [float(r["sum"]) for r in results] == [2, 3, 2]
    assert calls.count(3) == 4 and calls.count(2) == 5  # two warm-ups, a recording, replays


def test_a_step_that_cannot_be_captured_runs_eager(capsys: pytest.CaptureFixture[str]) -> None:
    weight = torch.zeros(())

    def step(x: Tensor) -> dict[str, Tensor]:
        weight.add_(x.sum())
        return {"weight": weight * 1}

    def fails(function: Any) -> Any:
        function()
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    captured = CapturedStep(step, lambda: [weight], record=fails)
    assert [float(captured(torch.ones(2))["weight"]) for _ in range(2)] == [2, 4]
    err = capsys.readouterr().err
    assert err == (
        "marl: execution=captured: learning is eager, for RuntimeError: operation not permitted\n"
    )
