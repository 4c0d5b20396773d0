"""Minibatches, chunks and the values of a rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from marl.learning.losses import mean_stats
from marl.learning.on_policy import (
    Batch,
    Memory,
    minibatch,
    rollout_values,
    shared_values,
    shuffled_chunks,
    take,
)
from marl.networks.perceptron import Perceptron
from marl.types import GroupObservation, Observation, tree_map, tree_tensors
from tests.helpers.builders import SMALL, mappo, rollout_of

STEPS, COPIES = 6, 4


def numbered() -> Batch:
    """A batch whose every field tells the frame it belongs to: t * B + b."""
    frame = torch.arange(STEPS * COPIES, dtype=torch.float32).reshape(STEPS, COPIES)
    wide = frame.unsqueeze(-1)
    obs = Observation({"g": GroupObservation(wide.unsqueeze(-1))})
    return Batch(obs, {"g": wide}, {"g": {}}, frame.bool(), wide, None, wide, wide, wide)


def memory(chunk: int) -> Memory:
    """Of every chunk: the number of its first frame."""
    stretches = STEPS // chunk
    first = torch.arange(stretches).unsqueeze(-1) * chunk * COPIES + torch.arange(COPIES)
    return Memory({"g": first.reshape(-1, 1, 1).float()}, {})


def drawn(chunk: int, frames: int, random: torch.Generator) -> list[tuple[Batch, Memory]]:
    batch, starts = numbered(), memory(chunk)
    return [
        minibatch(batch, starts, chunks, chunk, chunk > 1)
        for chunks in shuffled_chunks(batch, chunk, frames, random)
    ]


@pytest.mark.parametrize(("chunk", "frames"), [(1, 24), (1, 7), (3, 12), (3, 7), (6, 1), (2, 5)])
def test_every_frame_is_drawn_once_in_an_order_of_its_epoch(chunk: int, frames: int) -> None:
    random = torch.Generator().manual_seed(0)
    orders = []
    for _ in range(2):
        parts = [part.value.flatten() for part, _ in drawn(chunk, frames, random)]
        assert all(len(part) <= max(frames, chunk) for part in parts)
        orders.append(torch.cat(parts))
        assert orders[-1].sort().values.tolist() == list(range(STEPS * COPIES))
    assert not torch.equal(*orders)


def test_a_chunk_is_consecutive_steps_of_one_copy_with_its_memory() -> None:
    for batch, memories in drawn(3, 6, torch.Generator().manual_seed(0)):
        frame = batch.value.squeeze(-1)  # [L, M]
        assert (frame.diff(dim=0) == COPIES).all()
        assert (frame[0] // COPIES % 3 == 0).all()
        assert torch.equal(memories.actor["g"].flatten(), frame[0])


def test_all_fields_are_taken_alike() -> None:
    index = torch.tensor([[3, 8], [7, 12]])
    batch = take(numbered(), index)
    for field in (batch.obs.groups["g"].obs.squeeze(-1), batch.action["g"], batch.advantage):
        assert torch.equal(field.squeeze(-1), index.float())


def test_preparing_copies_no_observations() -> None:
    algorithm = mappo("identity")
    rollout = rollout_of("identity", algorithm)
    batch, _, _ = algorithm.prepare(rollout, algorithm.critic_carry)
    for name in algorithm.team:
        assert batch.obs.groups[name].obs.data_ptr() == rollout.obs.groups[name].obs.data_ptr()
        assert batch.action[name].data_ptr() == rollout.action[name].data_ptr()


@pytest.mark.parametrize("frames", [4, 12, 40])
def test_values_do_not_depend_on_how_much_is_in_work(frames: int) -> None:
    algorithm = mappo("identity")
    rollout = rollout_of("identity", algorithm)
    value, after, *_ = rollout_values(algorithm.critic, rollout, {}, 1, frames)
    torch.testing.assert_close(value, algorithm.critic(rollout.obs, {}, None)[0])
    torch.testing.assert_close(after, algorithm.critic(rollout.next_obs, {}, None)[0])


@pytest.mark.parametrize("frames", [4, 40])
def test_successors_share_the_next_value_but_where_an_episode_or_an_agent_is_cut(
    frames: int,
) -> None:
    algorithm = mappo("identity")
    rollout = rollout_of("identity", algorithm)
    random = torch.Generator().manual_seed(0)
    obs, last = (
        tree_map(lambda x: torch.rand(x.shape, generator=random), rollout.obs) for _ in range(2)
    )
    done = torch.rand(rollout.done.shape, generator=random) < 0.3
    cut = {n: torch.rand(x.shape, generator=random) < 0.1 for n, x in rollout.truncated.items()}
    ends = torch.stack([done, *(x.any(-1) for x in cut.values())]).any(0)

    def successor(now: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        following = torch.cat([now[1:], end[-1:]])
        return torch.where(ends.reshape(*ends.shape, *[1] * (now.dim() - 2)), end, following)

    next_obs = tree_map(successor, obs, last)
    made = replace(rollout, obs=obs, next_obs=next_obs, done=done, truncated=cut)
    whole = rollout_values(algorithm.critic, made, {}, 1, frames)[:2]
    torch.testing.assert_close(shared_values(algorithm.critic, made, frames), whole)
    assert ends[:-1].any() and not ends.all()


def test_recurrent_values_step_by_step() -> None:
    """Of a successor with the memory that led to it; of the rollout as one sequence."""
    algorithm = mappo("identity", Perceptron(**SMALL, gru=8))
    rollout = rollout_of("identity", algorithm)
    carry = algorithm.critic.initial_carry(4)  # type: ignore[operator]
    value, after, starts, last = rollout_values(algorithm.critic, rollout, carry, 5, 40)
    whole, end = algorithm.critic(rollout.obs, carry, rollout.start)
    torch.testing.assert_close(value, whole)
    torch.testing.assert_close(last, end)
    never = torch.zeros(1, 4, dtype=torch.bool)
    for t in range(10):
        upto = tree_map(lambda x, t=t: x[: t + 1], (rollout.obs, rollout.start))
        _, now = algorithm.critic(*(upto[0], carry, upto[1]))
        following = tree_map(lambda x, t=t: x[t : t + 1], rollout.next_obs)
        torch.testing.assert_close(after[t : t + 1], algorithm.critic(following, now, never)[0])
        if t == 4:
            torch.testing.assert_close(starts["team"][4:8], now["team"])


def peak_memory(function: Callable[[], object]) -> int:
    """The most bytes of tensors that ``function`` holds at any moment, of those it makes itself."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    results: Any = recorded.profiler.kineto_results  # type: ignore[union-attr]  # it has run
    events = [e for e in results.events() if e.name() == "[memory]"]
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    return max(accumulate(changes))


def test_an_update_needs_a_minibatch_beyond_the_rollout() -> None:
    """Images, 2 x 1,600 x 2 of them: neither a copy of half the rollout nor work on all of it at
    once would fit under the bound."""
    algorithm = mappo("images", envs=40, steps=40, minibatch_size=20, epochs=1)
    rollout = rollout_of("images", algorithm, envs=40, steps=40)
    images = sum(x.nbytes for x in tree_tensors(rollout.obs))
    assert peak_memory(lambda: algorithm.update(rollout)) < images / 2


def test_statistics_are_averaged_by_name() -> None:
    steps = [{"loss": torch.tensor(float(i)), "kl": torch.tensor(i / 10)} for i in range(4)]
    means = mean_stats(steps)
    assert list(means) == ["loss", "kl"]
    assert {name: float(x) for name, x in means.items()} == pytest.approx({"loss": 1.5, "kl": 0.15})
