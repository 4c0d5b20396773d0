"""Observations are stored once: what follows every frame, against a ring that stores it twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.env import example_step
from marl.envs.task import Task
from marl.errors import UserError
from marl.learning.frames import select_stored
from marl.learning.replay import Replay
from marl.learning.replay_limits import GIB
from marl.learning.rewards import REWARDS
from marl.types import (
    AgentGroup,
    Discrete,
    EntityGraph,
    GroupObservation,
    Observation,
    Rollout,
    TensorSpec,
    take,
    tree_map,
    tree_tensors,
)
from tests.helpers.builders import CPU
from tests.helpers.replay import apart, joined, naive_n_step

COPIES = 3
GROUPS = {
    "left": AgentGroup("left", ("a", "b"), TensorSpec((2,)), Discrete(3), True, True),
    "eyes": AgentGroup("eyes", ("c",), TensorSpec((2, 2, 3), torch.uint8), Discrete(2)),
}


@dataclass
class Play:
    """Rollouts of random numbers, in which episodes end, and agents leave them, at some rate."""

    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = torch.Generator().manual_seed(self.seed)
        self.now, self.start = self.observe(), torch.ones(COPIES, dtype=torch.bool)

    def rollout(self, steps: int, restart: bool = False) -> Rollout:
        """Of so many steps; with ``restart`` other episodes begin though none ended."""
        if restart:
            self.now, self.start = self.observe(), torch.ones_like(self.start)
        return joined([self.step() for _ in range(steps)])

    def step(self) -> Rollout:
        flag = {n: self.chance(COPIES, g.size) for n, g in GROUPS.items()}
        cut = {n: self.chance(COPIES, g.size) & ~flag[n] for n, g in GROUPS.items()}
        done, after, other = self.chance(COPIES), self.observe(), self.observe()
        action = {n: self.integers(g.action.n, COPIES, g.size) for n, g in GROUPS.items()}  # type: ignore[union-attr]  # Discrete
        reward = {n: torch.randn(COPIES, g.size, generator=self.random) for n, g in GROUPS.items()}
        record = Rollout(self.now, after, action, {}, {}, reward, flag, cut, done, self.start, {})
        step = tree_map(lambda x: x.unsqueeze(0), record)
        over = apart(step)[0]
        self.now = tree_map(lambda x, y: torch.where(shaped(over, x), y, x), after, other)
        self.start = done
        return step

    def chance(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.random) < self.rate

    def integers(self, below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=self.random)

    def observe(self) -> Observation:
        def numbers(*shape: int) -> Tensor:
            return torch.randn(COPIES, *shape, generator=self.random)

        left = GroupObservation(numbers(2, 2), numbers(2, 3) > 0, numbers(2) > 0)
        eyes = GroupObservation(self.integers(255, COPIES, 1, 2, 2, 3).byte())
        place = (numbers(4, 2), numbers(4, 2), numbers(4, 2))
        graph = EntityGraph(
            *place, self.integers(2, COPIES, 4), numbers(4) > 0, (("left", range(2)),)
        )
        return Observation({"left": left, "eyes": eyes}, numbers(5), graph)


def shaped(flag: Tensor, like: Tensor) -> Tensor:
    return flag.reshape(-1, *[1] * (like.dim() - 1))


def same(one: Any, other: Any) -> bool:
    pairs = zip(tree_tensors(one), tree_tensors(other), strict=True)
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def check(replay: Replay, whole: Rollout) -> None:
    """Every frame that is stored, read alone and with up to five steps, bit by bit."""
    rows = tree_map(lambda x: x[-replay.capacity :], whole)
    slots = (replay.oldest_slot + torch.arange(replay.steps)) % replay.capacity
    index = slots.unsqueeze(-1) * COPIES + torch.arange(COPIES)
    assert same(replay.take(index), rows)
    broken = torch.cat([rows.start[1:], torch.zeros(1, COPIES, dtype=torch.bool)])
    for scheme in (REWARDS["own"], REWARDS["team_mean"]):
        ends = scheme.done(rows, GROUPS).any(-1) | broken
        rewards, over = scheme.reward(rows, GROUPS), scheme.terminated(rows, GROUPS)
        after = scheme.successor(rows, GROUPS)
        for steps in (1, 2, 5):
            batch = replay.transitions(index.flatten(), steps, 0.9, GROUPS, scheme)
            naive = [
                naive_n_step(rewards[:, b], over[:, b], ends[:, b], t, steps, 0.9)
                for t in range(replay.steps)
                for b in range(COPIES)
            ]
            last = torch.tensor([n.last * COPIES + m % COPIES for m, n in enumerate(naive)])
            assert same(batch.next_obs, take(after, last))
            assert same(batch.obs, take(rows.obs, torch.arange(rows.frames)))
            torch.testing.assert_close(batch.reward, torch.tensor([n.reward for n in naive]))
            torch.testing.assert_close(batch.discount, torch.tensor([n.discount for n in naive]))


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_transitions_are_those_of_a_ring_that_stores_both(rate: float, seed: int) -> None:
    """Over rollouts of random lengths, wraps, restarts, and saved and restored on the way."""
    play, replay = Play(rate, seed), Replay(13 * COPIES, COPIES, CPU)
    parts: list[Rollout] = []
    for number in range(12):
        steps = 1 + int(play.integers(13, 1))
        parts.append(play.rollout(steps, restart=number % 3 == 2))
        replay.append(parts[-1])
        if number % 4 == 3:
            other = Replay(13 * COPIES, COPIES, CPU)
            other.allocate(parts[-1])
            other.load_state_dict(replay.state_dict())
            replay = other
        check(replay, select_stored(joined(parts)))
    assert any(part.steps == 13 for part in parts) or seed


def test_rare_ends_take_no_more_room() -> None:
    """2,000 steps, in which the ring of successors turns as well."""
    play, replay = Play(0.002), Replay(300 * COPIES, COPIES, CPU)
    parts = [play.rollout(5) for _ in range(400)]
    for part in parts:
        replay.append(part)
    size = replay.successors.size
    assert size == 300 * COPIES // 20 < int(replay.successors.count)
    check(replay, select_stored(joined(parts)))
    play.rate = 0.5  # in the midst of a turn, room has to be made
    for _ in range(5):
        parts.append(play.rollout(5))
        replay.append(parts[-1])
    assert replay.successors.size > size
    check(replay, select_stored(joined(parts)))


def test_room_doubles_until_every_step_may_end() -> None:
    play, replay = Play(1.0), Replay(300 * COPIES, COPIES, CPU)
    sizes, parts = [], [play.rollout(10) for _ in range(70)]
    for part in parts:
        replay.append(part)
        sizes.append(replay.successors.size)
    assert sorted(set(sizes)) == [45, 90, 180, 360, 720, 900]
    assert replay.storage_bytes == replay.largest_bytes
    check(replay, select_stored(joined(parts)))


def test_ends_that_weigh_too_much_are_refused_before_anything_is_lost() -> None:
    play, often = Play(0.0), Play(1.0)
    replay = Replay(300 * COPIES, COPIES, CPU)
    replay.append(first := play.rollout(10))
    replay.gib = (replay.storage_bytes + 40 * replay.successors.row_bytes) / GIB
    replay.append(second := often.rollout(10, restart=True))
    words = r"900 frames comes to weigh more than .* MiB, and replay_gib=.* raise replay_gib"
    with pytest.raises(UserError, match=words):
        for _ in range(5):
            replay.append(third := often.rollout(10))
            second = joined([second, third])
    check(replay, select_stored(joined([first, second])))
    replay.gib *= 2
    replay.append(third := often.rollout(10))


@pytest.mark.parametrize("copies", [2, 254, 255, 256, 300])
def test_ranks_among_many_copies(copies: int) -> None:
    """Their type is the smallest that tells all of a step's apart, and none."""
    replay = Replay(6 * copies, copies, CPU)
    obs = torch.arange(4.0 * copies).reshape(4, copies, 1, 1)
    flag = torch.ones(4, copies, 1, dtype=torch.bool)
    done = flag[..., 0]
    rollout = Rollout(
        Observation({"x": GroupObservation(obs)}), Observation({"x": GroupObservation(-obs - 1)}),
        {}, {}, {}, {"x": torch.zeros(4, copies, 1)}, {"x": flag}, {"x": ~flag}, done, done, {},
    )  # fmt: skip
    for _ in range(3):
        replay.append(rollout)
    after = replay.take(torch.arange(6 * copies))
    both = (after.next_obs.groups["x"].obs, -after.obs.groups["x"].obs - 1)
    assert torch.equal(*both) and replay.storage is not None
    assert replay.storage.rank.element_size() == (1 if copies <= 255 else 2)


# ------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize(("task", "share"), [("simple_spread", 0.6), ("simple_tag", 0.65)])
def test_what_a_frame_weighs(task: str, share: float) -> None:
    """Next to one in which every observation stands twice, and flags take a byte each."""
    env = Task(f"mpe/{task}", kwargs={"continuous_actions": True})(20, CPU)
    step, replay = example_step(env.groups, env.reset(0)), Replay(1_000_000, 20, CPU)
    twice = sum(x.nbytes for x in tree_tensors(select_stored(step))) // 20 * replay.capacity_frames
    cut = sum(x.nbytes for x in step.truncated.values()) // 20 * replay.capacity_frames
    assert replay.required_bytes(step) <= share * (twice - cut + replay.capacity_frames)


def test_what_is_read_is_a_copy() -> None:
    play, replay = Play(0.3), Replay(20 * COPIES, COPIES, CPU)
    replay.append(play.rollout(10))
    frames = replay.take(torch.arange(30))
    before = tree_map(torch.clone, frames)
    replay.append(replace(play.rollout(10)))
    replay.append(play.rollout(10))
    assert same(frames, before)
