"""The ring of joint transitions against plain lists; its views against naive loops."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from marl.env import example_step
from marl.errors import UserError
from marl.learning.frames import select_stored
from marl.learning.replay import Replay
from marl.learning.replay_limits import format_bytes
from marl.learning.rewards import REWARDS
from marl.types import Rollout, tree_map, tree_tensors
from tests.helpers.builders import CPU, randomly, rollout_of
from tests.helpers.replay import COPIES, joined, naive_n_step, rollouts, stamps
from tests.helpers.toy_envs import KINDS, mortal

GROUPS = mortal(COPIES, CPU).groups
# Rollouts into a ring of 10 steps: not full; just full; wrapped in the midst of one, and again; a
# rollout that fills it alone.
HISTORIES = [[4, 3], [4, 6], [4, 4, 4], [7, 7, 7, 7], [10, 10], [3, 10]]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(history: Sequence[int], frames: int = 40) -> tuple[Replay, Rollout]:
    """A replay after so many steps, and what it must hold: its last steps in order of time."""
    replay = Replay(frames, COPIES, CPU)
    parts = list(rollouts(history))
    for part in parts:
        replay.append(part)
    whole = joined([select_stored(part) for part in parts])
    return replay, newest(whole, replay.capacity)


def newest(rollout: Rollout, steps: int) -> Rollout:
    """The last steps of a rollout."""
    return tree_map(lambda x: x[-steps:], rollout)


def in_order(replay: Replay) -> Tensor:
    """The indices of all frames by age, ``[T, B]``."""
    oldest = (replay.head - replay.steps) % replay.capacity
    slots = (oldest + torch.arange(replay.steps)) % replay.capacity
    return slots.unsqueeze(-1) * COPIES + torch.arange(COPIES)


def same(one: Any, other: Any) -> bool:
    pairs = zip(tree_tensors(one), tree_tensors(other), strict=True)
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


# ----------------------------------------------------------------------------------------- the ring


@pytest.mark.parametrize("history", HISTORIES)
def test_it_holds_the_last_steps(history: list[int]) -> None:
    replay, expected = filled(history)
    steps = min(sum(history), 10)
    assert (replay.stored_frames, replay.steps, expected.steps) == (steps * COPIES, steps, steps)
    assert stamps(expected.obs)[-1].tolist() == [sum(history) - 1 + b / 8 for b in range(COPIES)]
    assert same(replay.take(in_order(replay)), expected)
    assert int(replay.newest_slot) == (sum(history) - 1) % 10


def test_rollouts_are_copied() -> None:
    replay, (part,) = Replay(40, COPIES, CPU), list(rollouts([4]))
    replay.append(part)
    part.done.fill_(True)
    assert not replay.take(in_order(replay)).done.all()


def test_it_holds_at_least_the_frames_asked_for() -> None:
    assert [Replay(n, 4, CPU).capacity_frames for n in (1, 4, 5, 40)] == [4, 4, 8, 40]


def test_a_rollout_longer_than_the_ring_is_refused() -> None:
    replay = Replay(40, COPIES, CPU)
    with pytest.raises(UserError, match=r"40 frames .* replay_size of at least .* = 44$"):
        replay.append(next(rollouts([11])))


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_tells_the_shapes_beforehand(kind: str) -> None:
    """What is allocated by ``example_step`` takes rollouts as they come."""
    env = KINDS[kind](COPIES, CPU)
    foreseen, lazy = Replay(40, COPIES, CPU), Replay(40, COPIES, CPU)
    foreseen.allocate(example_step(env.groups, env.reset(0)))
    rollout = rollout_of(kind, randomly(env)["team"])
    for replay in (foreseen, lazy):
        replay.append(rollout)
    index = in_order(lazy)
    assert foreseen.storage_bytes == lazy.storage_bytes == lazy.required_bytes(rollout)
    assert same(foreseen.take(index).obs, lazy.take(index).obs)
    assert same(lazy.take(index), select_stored(rollout))


# ----------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("history", [[4, 3], [7, 7]])
def test_frames_are_drawn_uniformly(history: list[int]) -> None:
    replay, _ = filled(history)
    count = torch.bincount(
        replay.draw(1000 * replay.stored_frames, generator()), minlength=replay.stored_frames
    )
    assert len(count) == replay.stored_frames  # and nothing else was drawn
    assert (
        float((count - 1000).square().sum() / 1000) < 2.5 * replay.stored_frames
    )  # chi-square's mean: 1


@pytest.mark.parametrize("history", HISTORIES)
def test_sequences_are_consecutive_steps_of_one_copy(history: list[int]) -> None:
    replay, expected = filled(history)
    window = replay.take(replay.draw_windows(500, 5, generator()))
    stamp = stamps(window.obs)
    assert stamp.shape == (5, 500)
    assert torch.equal(stamp - stamp[0], torch.arange(5.0).unsqueeze(-1).expand(5, 500))
    assert torch.equal(window.start[1:], window.done[:-1]) and window.start[1:].any()
    possible = stamps(expected.obs)[: replay.steps - 4].flatten()  # all, and no other
    assert torch.equal(stamp[0].unique(), possible.sort().values)


def test_sequences_need_enough_steps() -> None:
    replay, _ = filled([4])
    with pytest.raises(UserError, match=r"windows of 5 steps .* holds 4"):
        replay.draw_windows(1, 5, generator())


# -------------------------------------------------------------------------------------- transitions


@pytest.mark.parametrize("reward", ["own", "team_sum", "team_mean"])
@pytest.mark.parametrize("steps", [1, 3, 12])
@pytest.mark.parametrize("history", HISTORIES)
def test_transitions_against_a_naive_loop(history: list[int], steps: int, reward: str) -> None:
    replay, rows = filled(history)
    index = in_order(replay).flatten()
    scheme = REWARDS[reward]
    batch = replay.transitions(index, steps, 0.9, GROUPS, scheme)
    assert same((batch.obs, batch.action), (replay.take(index).obs, replay.take(index).action))
    rewards, over = scheme.reward(rows, GROUPS), scheme.terminated(rows, GROUPS)
    ends = scheme.done(rows, GROUPS).any(-1)
    successor = scheme.successor(rows, GROUPS)
    assert batch.reward.shape == (len(index), scheme.heads(GROUPS))
    for m in range(len(index)):
        t, b = m // COPIES, m % COPIES
        naive = naive_n_step(rewards[:, b], over[:, b], ends[:, b], t, steps, 0.9)
        assert batch.reward[m].tolist() == pytest.approx(naive.reward, abs=1e-5)
        assert batch.discount[m].tolist() == pytest.approx(naive.discount, abs=1e-5)
        after = tree_map(lambda x, t=naive.last, b=b: x[t, b], successor)
        assert same(tree_map(lambda x, m=m: x[m], batch.next_obs), after)


def test_the_rollouts_of_these_tests_hold_every_kind_of_end() -> None:
    _, rows = filled([10])
    died = rows.terminated["left"].any(-1) & ~rows.done
    cut = rows.truncated["left"].any(-1)
    ends = (cut & rows.done, cut & ~rows.done, rows.done & ~cut, died)
    assert all(flag.any() for flag in ends) and not rows.done[-1].all()


def test_a_team_reads_its_own_groups() -> None:
    replay, rows = filled([10])
    team = {"right": GROUPS["right"]}
    batch = replay.transitions(in_order(replay).flatten(), 1, 0.9, team, REWARDS["own"])
    assert torch.equal(batch.reward, rows.reward["right"].flatten(0, 1))
    assert set(batch.action) == set(batch.next_obs.groups) == {"left", "right"}


def test_what_was_never_written_counts_for_nothing() -> None:
    replay, _ = filled([4])
    index = in_order(replay).flatten()
    clean = replay.transitions(index, 6, 0.9, GROUPS, REWARDS["own"])
    for slots in tree_tensors(replay.storage):
        slots[4:] = torch.nan if slots.is_floating_point() else 1
    assert same(replay.transitions(index, 6, 0.9, GROUPS, REWARDS["own"]), clean)


def test_windows_do_not_cross_into_other_episodes() -> None:
    """A resumed run may start anew in all copies, though no episode was done before."""
    before, after = rollouts([4, 4])
    one, other = Replay(40, COPIES, CPU), Replay(40, COPIES, CPU)
    for replay in (one, other):
        replay.append(before)
    assert not before.done[-1].all()
    after.start[0] = True
    other.append(after)
    batches = [
        r.transitions(torch.arange(16), 3, 0.9, GROUPS, REWARDS["own"]) for r in (one, other)
    ]
    assert same(*batches)


@pytest.mark.parametrize("steps", [1, 3])
def test_one_graph_serves_while_the_ring_turns(steps: int) -> None:
    replay = Replay(40, COPIES, CPU)
    counter = CompileCounter()

    def draw(index: Tensor) -> Any:
        return replay.transitions(index, steps, 0.9, GROUPS, REWARDS["own"])

    compiled: Callable = torch.compile(draw, backend=counter, fullgraph=True, dynamic=False)
    sizes = set()
    for part in rollouts([4, 4, 4, 4, 4, 4]):
        replay.append(part)
        sizes.add(replay.successors.size)
        index = replay.draw(8, generator())
        assert same(compiled(index), draw(index))
    assert counter.frame_count == len(sizes) == 2, "one for each room that there was"


# ------------------------------------------------------------------------------------- checkpoints


def through_a_file(state: dict[str, Any]) -> tuple[dict[str, Any], int]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    size = buffer.tell()
    buffer.seek(0)
    return torch.load(buffer, weights_only=True), size


@pytest.mark.parametrize("history", HISTORIES)
def test_a_restored_ring_goes_on_as_the_first(history: list[int]) -> None:
    *before, after = rollouts([*history, 4])
    one, other = Replay(40, COPIES, CPU), Replay(40, COPIES, CPU)
    for part in before:
        one.append(part)
    other.allocate(after)
    other.load_state_dict(through_a_file(one.state_dict())[0])
    for _ in range(2):
        index = one.draw(50, generator())
        assert torch.equal(index, other.draw(50, generator()))
        three = [r.transitions(index, 3, 0.9, GROUPS, REWARDS["own"]) for r in (one, other)]
        assert same(*three)
        index = one.draw_windows(9, 4, generator())
        assert torch.equal(index, other.draw_windows(9, 4, generator()))
        assert same(*(r.sequences(index, GROUPS, REWARDS["own"]) for r in (one, other)))
        one.append(after)
        other.append(after)


def test_a_checkpoint_holds_no_more_than_is_stored() -> None:
    replay, _ = filled([4], frames=400_000)
    assert through_a_file(replay.state_dict())[1] < 100_000 < replay.storage_bytes


def test_a_replay_of_the_first_layout_is_refused() -> None:
    state = {k: v for k, v in filled([4])[0].state_dict().items() if k != "layout"}
    replay, part = Replay(40, COPIES, CPU), next(rollouts([4]))
    replay.allocate(part)
    with pytest.raises(UserError, match="has layout 1 and this version of marl reads 2; resume"):
        replay.load_state_dict(state)


def test_an_empty_one_is_saved_too() -> None:
    replay, part = Replay(40, COPIES, CPU), next(rollouts([4]))
    replay.allocate(part)
    other, _ = filled([4])
    other.load_state_dict(through_a_file(replay.state_dict())[0])
    assert other.stored_frames == 0


@pytest.mark.parametrize(("frames", "copies"), [(44, 4), (40, 2)])
def test_another_size_is_refused(frames: int, copies: int) -> None:
    state = filled([4])[0].state_dict()
    words = re.escape("resume with replay_size=40 and num_envs=4")
    with pytest.raises(UserError, match=f"10 steps of 4 copies.*{words}"):
        Replay(frames, copies, CPU).load_state_dict(state)


# ------------------------------------------------------------------------------------------ memory


def test_too_much_is_refused_with_a_size_that_fits() -> None:
    part = next(rollouts([4]))
    with pytest.raises(UserError, match=r"12,000,000 frames weighs .* GiB") as error:
        Replay(12_000_000, COPIES, CPU, gib=0.5).allocate(part)
    found = re.search(r"replay_size=(\d+)", str(error.value))
    assert found is not None and "replay_gib=0.5 is the limit" in str(error.value)
    fitting = Replay(int(found[1]), COPIES, CPU, gib=0.5)
    assert 0.85 * 2**29 < fitting.required_bytes(part) <= 2**29
    fitting.allocate(part)


def test_not_even_one_step_fits() -> None:
    with pytest.raises(UserError, match=r"take fewer num_envs, or raise replay_gib"):
        Replay(40, COPIES, CPU, gib=1e-9).append(next(rollouts([4])))


def test_weights_in_words() -> None:
    assert [format_bytes(n) for n in (2**30, 3 * 2**29, 2**20)] == ["1.0 GiB", "1.5 GiB", "1.0 MiB"]
