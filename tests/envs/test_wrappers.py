"""Wrappers by ``task.wrappers``, each against a loop of its own over copies, agents and steps."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from marl import Experiment, MAPPOConfig, Perceptron, Settings, UserError, check_env
from marl.env import VectorEnv, random_action
from marl.envs.task import Task
from marl.envs.wrappers import Wrapper
from marl.types import Observation, Transition
from marl.utils.jsonl import read_jsonl
from tests.helpers.builders import CPU
from tests.helpers.experiments import SHORT, equal, outcome
from tests.helpers.tiny_env import Tiny
from tests.helpers.vmas import assert_same

HERE = "tests.envs.test_wrappers"
PROVIDERS = [
    "mpe/simple_tag", "vmas/dropout", "tests.helpers.own_scenarios:Tiny", "games/coordination",
    "tests.helpers.tiny_env:Tiny", "tests.helpers.toy_envs:mortal",
    "tests.helpers.toy_envs:images", "tests.helpers.toy_envs:stateful", f"{HERE}:Joins",
]  # fmt: skip
EVERYTHING = [
    {"reward_scale": 0.1}, {"reward_clip": [-0.2, 0.5]}, {"stack_observations": 3},
    {"reward_function": f"{HERE}:minus_change"}, {"reward_potential": f"{HERE}:first"},
    {"metric": {"function": f"{HERE}:earned", "over": "mean"}},
    {"wrapper": f"{HERE}:Later", "amount": 2.0},
]  # fmt: skip


def minus_change(obs: Observation, next_obs: Observation, reward: dict[str, Tensor]) -> Any:
    return {
        g: r - (next_obs.groups[g].obs.double() - obs.groups[g].obs.double()).flatten(2).mean(-1)
        for g, r in reward.items()
    }


def first(obs: Observation) -> dict[str, Tensor]:
    return {name: 1.0 + group.obs.flatten(2)[..., 0].float() for name, group in obs.groups.items()}


def earned(transition: Transition) -> Tensor:
    return torch.stack([r.sum(-1) for r in transition.reward.values()]).sum(0)


def nobody(_: object) -> dict[str, Tensor]:
    return {}


class Later(Wrapper):
    """Adds a number to rewards: a wrapper of a user's."""

    def __init__(self, env: VectorEnv, amount: float = 1.0):
        super().__init__(env)
        self.amount = amount

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = self.env.step(action)
        for reward in transition.reward.values():
            reward += self.amount
        return transition


class Joins(Tiny):
    """a_1 comes after two steps of an episode of six; agents see the time."""

    def observe(self, agent: Any) -> Any:
        return np.array([self.t / 10, agent == "a_1"], np.float32)

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        super().reset(seed)
        self.agents = ["a_0"]
        return {"a_0": self.observe("a_0")}, {"a_0": {}}

    def step(self, actions: dict) -> Any:
        self.t += 1
        acted, over = list(self.agents), self.t == 6
        told = ["a_0", "a_1"] if self.t >= 2 else acted
        self.agents = [] if over else told
        ends = dict.fromkeys(told, False), dict.fromkeys(told, over)
        pay = dict.fromkeys(acted, 1.0)
        return {a: self.observe(a) for a in told}, pay, *ends, {a: {} for a in told}


class Breaks(Wrapper):
    """Breaks the contract: observations are not what its groups say."""

    def reset(self, seed: int) -> Observation:
        return self.env.reset(seed).groups  # type: ignore[return-value]


def play(env: VectorEnv, steps: int, seed: int = 3) -> Iterator[tuple[Observation, Transition]]:
    """Yields what agents act on, and the step."""
    obs, random = env.reset(seed), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        action = {n: random_action(g, obs.groups[n], random) for n, g in env.groups.items()}
        transition = env.step(action)
        yield obs, transition
        obs = transition.obs


def pairs(task: str, wrappers: Sequence[Any], steps: int = 30) -> Iterator[tuple[Any, Any]]:
    """Plays the same actions with and without wrappers."""
    plain, wrapped = Task(task)(3, CPU), Task(task, wrappers=list(wrappers))(3, CPU)
    random = torch.Generator().manual_seed(0)
    obs, other = plain.reset(3), wrapped.reset(3)
    for _ in range(steps):
        action = {n: random_action(g, obs.groups[n], random) for n, g in plain.groups.items()}
        one, two = plain.step(action), wrapped.step(action)
        yield (obs, one), (other, two)
        obs, other = one.obs, two.obs


@pytest.mark.parametrize("task", PROVIDERS)
def test_wrappers_keep_the_contract(task: str) -> None:
    check_env(Task(task, wrappers=EVERYTHING)(3, CPU), steps=30)


@pytest.mark.parametrize("task", PROVIDERS)
def test_stacks_are_the_last_observations(task: str) -> None:
    """Against a list per copy and agent, at deaths, limits of single agents and restarts too."""
    histories: dict[tuple[str, int, int], list[np.ndarray]] = {}

    def push(name: str, b: int, n: int, x: Tensor, restart: bool) -> np.ndarray:
        key, value = (name, b, n), x.double().numpy()
        past = histories.get(key, [])
        histories[key] = [value] * 3 if restart or not past else [*past[-2:], value]
        return np.concatenate(histories[key], axis=-1)

    def check(plain: Observation, stacked: Observation, restart: Tensor) -> None:
        for name, group in plain.groups.items():
            alive = torch.ones(group.obs.shape[:2]) if group.alive is None else group.alive
            for b, n in np.ndindex(*group.obs.shape[:2]):
                if not alive[b, n]:
                    histories.pop((name, b, n), None)
                    assert not stacked.groups[name].obs[b, n].any()
                    continue
                expected = push(name, b, n, group.obs[b, n], bool(restart[b]))
                np.testing.assert_array_equal(stacked.groups[name].obs[b, n].double(), expected)

    first, ended = True, 0
    for (obs, plain), (other, wrapped) in pairs(task, [{"stack_observations": 3}], 60):
        if first:
            check(obs, other, torch.ones(3, dtype=torch.bool))
            first = False
        before = {key: list(value) for key, value in histories.items()}
        check(plain.next_obs, wrapped.next_obs, torch.zeros(3, dtype=torch.bool))
        histories.clear()
        histories.update(before)
        check(plain.obs, wrapped.obs, plain.done)
        ended += int(plain.done.sum())
        assert_same(
            [plain.reward, plain.terminated, plain.truncated, plain.done, plain.obs.state],
            [
                wrapped.reward,
                wrapped.terminated,
                wrapped.truncated,
                wrapped.done,
                wrapped.obs.state,
            ],
        )
    assert ended > 2 or task.startswith(("vmas", "tests.helpers.own"))


def test_rewards_are_scaled_clipped_and_replaced_in_turn() -> None:
    chain = [{"reward_scale": 0.1}, {"reward_clip": {"low": -0.02, "high": 0.02}}]
    chain += [{"reward_function": f"{HERE}:minus_change"}, {"metric": f"{HERE}:earned"}]
    chain += [{"metric": {"function": f"{HERE}:earned", "over": "mean", "name": "average"}}]
    total, steps = np.zeros(3), np.zeros(3)
    for (obs, plain), (_, wrapped) in pairs("mpe/simple_spread", chain, 60):
        for name, reward in plain.reward.items():
            scaled = np.clip((reward * 0.1).numpy(), np.float32(-0.02), np.float32(0.02))
            moved = plain.next_obs.groups[name].obs.double() - obs.groups[name].obs.double()
            expected = scaled - moved.numpy().mean(-1)
            np.testing.assert_allclose(wrapped.reward[name].numpy(), expected, rtol=1e-6, atol=1e-7)
        total += earned(wrapped).numpy()
        np.testing.assert_allclose(wrapped.info["earned"].numpy(), total, rtol=1e-5, atol=1e-5)
        steps += 1
        average = wrapped.info["average"].numpy()
        np.testing.assert_allclose(average, total / steps, rtol=1e-5, atol=1e-5)
        for numbers in (total, steps):
            numbers[plain.done.numpy()] = 0


@pytest.mark.parametrize("task", ["mpe/simple_tag", "tests.helpers.toy_envs:mortal"])
def test_shaping_by_a_potential_telescopes(task: str) -> None:
    """The discounted sum of an agent's shaping is gamma^T times the last potential minus the first
    one; the last one is 0 where the agent terminated."""
    gamma = 0.9
    wrappers = [{"reward_potential": {"potential": f"{HERE}:first", "gamma": gamma}}]
    start: dict[tuple[str, int, int], tuple[int, float, float]] = {}  # step, first potential, sum
    ends = 0
    for t, ((obs, plain), (_, wrapped)) in enumerate(pairs(task, wrappers, 80)):
        before, after = first(obs), first(plain.next_obs)
        for name, group in plain.next_obs.groups.items():
            alive = obs.groups[name].alive
            for b, n in np.ndindex(*group.obs.shape[:2]):
                shaping = float(wrapped.reward[name][b, n] - plain.reward[name][b, n])
                if alive is not None and not alive[b, n]:
                    assert shaping == pytest.approx(0, abs=1e-5)
                    continue
                begin, value, so_far = start.get((name, b, n), (t, float(before[name][b, n]), 0.0))
                so_far += gamma ** (t - begin) * shaping
                start[name, b, n] = begin, value, so_far
                died, cut = plain.terminated[name][b, n], plain.truncated[name][b, n]
                if died or cut:
                    last = 0.0 if died else float(after[name][b, n])
                    expected = gamma ** (t - begin + 1) * last - value
                    assert so_far == pytest.approx(expected, abs=1e-3)
                    del start[name, b, n]
                    ends += 1
    assert ends > 10


@pytest.mark.parametrize(
    "task", ["mpe/simple_tag", "vmas/dropout", "tests.helpers.toy_envs:mortal"]
)
def test_states_are_exact(task: str) -> None:
    """An environment goes on from a state in a file as the one that was saved."""
    make = Task(task, wrappers=EVERYTHING)
    env, other, file = make(3, CPU), make(3, CPU), io.BytesIO()
    *_, (_, last) = play(env, 7)
    torch.save(env.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    random, obs = torch.Generator().manual_seed(1), last.obs
    for _ in range(40):
        action = {n: random_action(g, obs.groups[n], random) for n, g in env.groups.items()}
        one, two = env.step(action), other.step(action)
        assert_same(one, two)
        obs = one.obs


def test_evaluations_report_the_environments_own_rewards() -> None:
    """Though a wrapper writes into its rewards."""
    wrappers = [f"{HERE}:Later", {"reward_scale": 10}, {"stack_observations": 2}]
    task = Task("mpe/simple_spread", wrappers=wrappers)
    plain = [t.reward for _, t in play(Task("mpe/simple_spread")(3, CPU), 30)]
    trained = [t.reward for _, t in play(task(3, CPU), 30)]
    evaluated = [t.reward for _, t in play(task.for_evaluation()(3, CPU), 30)]
    assert_same(plain, evaluated)
    expected = (torch.cat([r["agent"] for r in plain]) + 1) * 10
    assert torch.equal(torch.cat([r["agent"] for r in trained]), expected)
    assert Task("mpe/simple_spread").for_evaluation() == Task("mpe/simple_spread")
    stack = {"stack_observations": 2}  # without reward wrappers the task is the one of other runs
    task = Task("mpe/simple_spread", wrappers=[{"reward_clip": [0, 1]}, stack])
    assert task.for_evaluation() == Task("mpe/simple_spread", wrappers=[stack])
    plain = [t.reward for _, t in play(Task("mpe/simple_spread", wrappers=[stack])(3, CPU), 9)]
    assert_same(plain, [t.reward for _, t in play(task.for_evaluation()(3, CPU), 9)])


def test_a_run_with_wrappers_resumes_exactly(tmp_path: Path) -> None:
    """In the middle of episodes; its evaluations are of the environment's own rewards."""
    task = Task("mpe/simple_spread", wrappers=EVERYTHING, kwargs={"max_cycles": 13})
    parts = MAPPOConfig(epochs=1), Perceptron([4])
    for name, frames in (("whole", 160), ("parts", 80)):
        settings = Settings(**{**SHORT, "total_frames": frames})
        Experiment(task, *parts, settings=settings, directory=tmp_path / name).run()
    resumed = Experiment.load(tmp_path / "parts", total_frames=160)
    assert resumed.task == task
    resumed.run()
    assert equal(outcome(tmp_path / "parts"), outcome(tmp_path / "whole"))
    last = read_jsonl(tmp_path / "whole/evaluations.jsonl")[-1]
    assert set(last["metrics"]) == {"distance", "collisions", "covered", "earned"}
    assert (
        max(last["returns"]["team"])
        < 0
        < 13
        < json.loads((tmp_path / "whole/metrics.jsonl").read_text().splitlines()[-1])["return/team"]
    )


def test_files_and_imports_of_wrappers() -> None:
    wrappers = ["./a.py:A", {"metric": "b:f"}, {"wrapper": "~/c.py:C", "of": [1, "x"]}]
    task = Task("mpe/simple_spread", wrappers=wrappers)
    paths = [f"{Path('a.py').absolute()}:A", "b:f", f"{Path('~/c.py').expanduser()}:C"]
    assert task.imports() == paths
    assert task.wrappers[2] == {"wrapper": paths[2], "of": [1, "x"]}


@pytest.mark.parametrize(
    ("wrappers", "words"),
    [
        (
            ["reward_scal"],
            "unknown wrapper 'reward_scal' in task.wrappers; did you mean 'reward_sc",
        ),
        ([{"reward_scale": 0}], "reward_scale=0 leaves nothing to learn"),
        ([{"reward_scale": "x"}], "reward_scale='x' must be a number"),
        ([{"reward_scale": {"scal": 1}}], "unknown option 'scal' of the wrapper reward_scale; did"),
        (["reward_scale"], "reward_scale takes scale, and here are"),
        ([{"reward_clip": [1, -1]}], "must be .low, high. with low below high"),
        ([{"stack_observations": 1}], "stack_observations=1 must be a whole number of at least 2"),
        ([{"a": 1, "b": 2}], "names no wrapper; expected an entry such as"),
        ([{"metric": f"{HERE}:nobody"}], "metric nobody returned a dict of nothing; expected a"),
        ([{"metric": f"{HERE}:HERE"}], "is no function; expected module:function"),
        (
            [{"reward_potential": f"{HERE}:nobody"}],
            "dict of nothing; expected a dict of the groups",
        ),
        ([f"{HERE}:nothing"], "has no 'nothing'"),
        ([f"{HERE}:Breaks"], "mpe/simple_spread with the wrapper .*Breaks' breaks the contract"),
        ([f"{HERE}:nobody"], "gave an object of type 'dict' without num_envs"),
    ],
)
def test_a_wrong_wrapper_is_one_sentence(wrappers: list[Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_env(Task("mpe/simple_spread", wrappers=wrappers)(3, CPU), steps=1)
