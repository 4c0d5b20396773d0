"""What is no number is named before anything learns from it; once mended, the run goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.errors import Diverged, EnvironmentFault
from marl.experiment import Experiment
from marl.training.collector import Collector
from marl.training.evaluation import evaluate
from marl.training.finite import all_finite, check_rollout
from marl.types import Rollout, Transition, tree_tensors
from tests.helpers.builders import CPU, mappo, randomly, rollout_of
from tests.helpers.experiments import experiment
from tests.helpers.replay import looking
from tests.helpers.tiny_env import Once
from tests.helpers.toy_envs import PAIR, Game, Poisoned, continuous, identity
from tests.helpers.toy_game import Rules

NAN, INF = torch.nan, torch.inf


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("place", range(4))
def test_one_entry_of_many(bad: float, place: int) -> None:
    flat = torch.randn(15)
    parts = [flat[:12], torch.arange(4), flat[12:14], flat[14]]
    assert all_finite(parts)
    flat[[0, 11, 12, 14][place]] = bad
    assert not all_finite(parts)


def test_opposite_infinities_and_sums_beyond_a_float() -> None:
    assert not all_finite([torch.tensor([INF, -INF])])
    huge = torch.full((4,), 3e38)
    assert huge.sum().isinf() and all_finite([huge]) and all_finite([])


def spoiled(rollout: Rollout, what: str, value: float = NAN) -> Rollout:
    """With ``value`` in the fourth step of the third copy, as of its second left agent."""
    spot = (3, 2, 1)
    if what in ("obs", "next_obs"):
        seen = getattr(rollout, what)
        left = seen.groups["left"]
        left = dataclasses.replace(left, obs=put(left.obs, (*spot, 2), value))
        return dataclasses.replace(
            rollout, **{what: dataclasses.replace(seen, groups={**seen.groups, "left": left})}
        )
    changed = {**rollout.reward, "left": put(rollout.reward["left"], spot, value)}
    return dataclasses.replace(rollout, reward=changed)


def put(values: Tensor, spot: tuple[int, ...], value: float) -> Tensor:
    values = values.clone()
    values[spot] = value
    return values


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("reward", "agent 'left_1' of group 'left' was paid nan; expected a finite number"),
        ("obs", "agent 'left_1' of group 'left' observes nan at [2]; expected a finite number"),
        ("next_obs", "agent 'left_1' of group 'left' observes nan at [2]; expected"),
    ],
)
def test_where_in_a_rollout(what: str, words: str) -> None:
    rollout, groups = rollout_of("identity", mappo("identity")), identity(4, CPU).groups
    check_rollout(rollout, {}, groups)
    with pytest.raises(EnvironmentFault) as error:
        check_rollout(spoiled(rollout, what), {}, groups)
    assert str(error.value).startswith(f"in step 4 of the rollout, in copy 2, {words}")


def test_what_came_first_is_named() -> None:
    rollout, groups = rollout_of("identity", mappo("identity")), identity(4, CPU).groups
    later = put(rollout.reward["right"], (5, 0, 0), INF)
    rollout = dataclasses.replace(rollout, reward={**rollout.reward, "right": later})
    with pytest.raises(EnvironmentFault, match=r"step 6 .* copy 0.* 'right_0' .* was paid inf"):
        check_rollout(rollout, {}, groups)
    with pytest.raises(EnvironmentFault, match=r"step 4 .* copy 2.* 'left_1' .* observes nan"):
        check_rollout(spoiled(rollout, "next_obs"), {}, groups)


def test_metrics_and_graphs_and_actions() -> None:
    rollout, groups = rollout_of("continuous", mappo("continuous")), continuous(4, CPU).groups
    metric = {"length": put(torch.ones(10, 4), (3, 2), NAN)}
    with pytest.raises(EnvironmentFault, match=r"step 4 .* copy 2, metric 'length' is nan"):
        check_rollout(rollout, metric, groups)
    arms = put(rollout.action["arms"], (1, 0, 1, 0), NAN)
    rollout = dataclasses.replace(rollout, action={"arms": arms})
    with pytest.raises(Diverged, match=r"step 2 .* copy 0, the policy of agent 'arms_1'"):
        check_rollout(rollout, metric, groups)


class Odd(Game):
    """In its third step the second copy's state of the world is no number."""

    count = 0

    def step(self, action: Any) -> Transition:
        self.count += 1
        made = super().step(action)
        left = made.reward["left"].clone()
        left[1, 0] = INF if self.count == 3 else left[1, 0]
        return dataclasses.replace(made, reward={**made.reward, "left": left})


def odd() -> Odd:
    return Odd(2, CPU, PAIR, Rules(length=9, end=0.0))


def test_a_collector_refuses_the_rollout() -> None:
    env = odd()
    collect = Collector(env, randomly(env), 4, 2, torch.Generator())
    with pytest.raises(EnvironmentFault, match="step 3 of the rollout, in copy 1, agent 'left_0'"):
        collect.collect()


def test_in_evaluation_too() -> None:
    env = odd()
    with pytest.raises(EnvironmentFault, match="step 3 of an episode of copy 1, agent 'left_0'"):
        evaluate(env, randomly(env), 2, seed=1)


class OddMetric(Game):
    def step(self, action: Any) -> Transition:
        made = super().step(action)
        info = {name: torch.where(made.done, NAN, value) for name, value in made.info.items()}
        return dataclasses.replace(made, info=info)


def test_a_metric_of_an_evaluation_is_looked_at() -> None:
    env = OddMetric(2, CPU, PAIR, Rules(length=3, end=0.0))
    with pytest.raises(
        EnvironmentFault, match=r"the end of an episode of copy 0, metric '\w+' is n"
    ):
        evaluate(env, randomly(env), 2, seed=1)


# --------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("build", [experiment, looking], ids=["on-policy", "off-policy"])
@pytest.mark.parametrize("kind", ["native", "python"])
def test_a_run_goes_on_when_it_is_mended(
    build: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = "tests.helpers.toy_envs:poisoned" if kind == "native" else "tests.helpers.tiny_env:Once"
    monkeypatch.setattr(Once, "count", 0)
    run = build(tmp_path / "run", task=task, checkpoint_interval=40, evaluation_interval=0)
    with pytest.raises(EnvironmentFault, match=r"was paid nan; expected .* the last good") as error:
        run.run()
    last = run.checkpoints.last()
    assert last is not None and str(last) in str(error.value)
    monkeypatch.setattr(Poisoned, "when", 10**9)
    monkeypatch.setattr(Once, "at", 0)
    again = Experiment.load(tmp_path / "run")
    assert 0 < again.frames < 240
    again.run()
    assert again.frames == 240
    if again.replay is not None:
        assert again.replay.stored_frames == again.replay.capacity_frames and all_finite(
            tree_tensors(again.replay.storage)
        )
