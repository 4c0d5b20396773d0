"""The run's memory of joint transitions, from which off-policy algorithms learn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from marl.errors import UserError
from marl.learning.frames import Frames, ended, packed, unpacked
from marl.learning.returns import n_step
from marl.learning.rewards import RewardScheme
from marl.learning.successors import Successors, first
from marl.types import AgentGroup, Aux, Observation, Rollout, register, take, tree_map, tree_tensors

GIB = 2**30
LAYOUT = 2  # of what checkpoints hold; 1 (without the word) held every next_obs


@register
@dataclass(frozen=True)
class ReplayBatch:
    """``M`` transitions of n steps, for all groups; H counts the team's agents under ``own``
    rewards, else it is 1."""

    obs: Observation  # [M, ...]
    action: Mapping[str, Tensor]  # [M, N, *action shape]
    next_obs: Observation  # [M, ...] the true successor of the last step, to bootstrap from
    reward: Tensor  # [M, H] discounted, summed over the steps
    discount: Tensor  # [M, H] of the value of next_obs; 0 where the return ended for good
    aux: Aux  # [M, N] what the policies' ``aux_keys`` name


class Replay:
    """A ring over time of the last ``frames`` joint steps of ``num_envs`` copies, ``[C, B, ...]``.

    Observations are stored once: ``next_obs`` is what the next step observed, except where an
    episode ended, an agent was truncated alone or nothing is stored yet
    (``marl.learning.successors``).

    Storage is allocated once, by ``allocate`` or the first ``append``, but for the room for
    successors, which doubles as episodes turn out short; on the CPU its memory is taken as it
    fills. A frame's index is its place in the ring, ``slot * B + b``, and stays valid
    until the next ``append``. Nothing waits for the device. (An empty one is false: ask ``is not
    None``.)

    Args:
        frames: to keep at least, one of one copy each; C is as many steps as hold them.
        gib: the most its storage may weigh, in GiB.
    """

    def __init__(
        self, frames: int, num_envs: int, device: torch.device, gib: float = math.inf
    ) -> None:
        self.num_envs, self.gib = num_envs, gib
        self.capacity = -(-frames // num_envs)  # C
        self.steps, self.head = 0, 0  # how many are stored, and the slot of the next one
        self.newest = torch.zeros((), dtype=torch.int64, device=device)  # slot of the last one
        self.storage: Frames | None = None
        self.aux_keys: dict[str, tuple[str, ...]] = {}
        self.successors = Successors(num_envs, self.capacity, device)

    def __len__(self) -> int:
        """How many frames are stored."""
        return self.steps * self.num_envs

    @property
    def room(self) -> int:
        """How many frames it can hold."""
        return self.capacity * self.num_envs

    @property
    def weighs(self) -> int:
        """Bytes of its storage when full, with as much room for successors as there is."""
        return sum(x.nbytes for x in tree_tensors((self.storage, self.successors.rows)))

    @property
    def most(self) -> int:
        """Bytes of its storage where every step ends an episode."""
        successors = self.successors
        return self.weighs + successors.row_bytes * (self.room - successors.size)

    @property
    def device(self) -> torch.device:
        return self.newest.device

    # ----------------------------------------------------------------------------------- writing

    def nbytes(self, rollout: Rollout) -> int:
        """What the whole storage weighs for frames like those of ``rollout``, with the first room
        for successors."""
        rows = self.successors.empty(rollout.obs, self.successors.size, "meta")
        return sum(x.nbytes for x in tree_tensors((self._empty(rollout, "meta"), rows)))

    def store_aux(self, groups: Iterable[str], keys: tuple[str, ...]) -> None:
        """Stores these entries of the groups' ``aux`` from now on; before storage is allocated."""
        assert self.storage is None, "the layout of the storage is fixed"
        self.aux_keys |= dict.fromkeys(groups, keys)

    def allocate(self, rollout: Rollout) -> None:
        """Storage for frames like those of ``rollout``.

        Raises:
            UserError: it would weigh more than it may.
        """
        self._check_weight(self.nbytes(rollout))
        self.storage = self._empty(rollout, self.device)
        self.successors.allocate(rollout.obs)

    def _empty(self, rollout: Rollout, device: torch.device | str) -> Frames:
        rank = torch.zeros(1, self.num_envs, dtype=self.successors.rank_type)
        return tree_map(
            lambda x: x.new_empty(self.capacity, *x.shape[1:], device=device),
            packed(rollout, rank, self.aux_keys),
        )

    def _check_weight(self, nbytes: int) -> None:
        if nbytes <= self.gib * GIB:
            return
        steps = int(self.gib * GIB / (nbytes // self.capacity))
        fits = f"replay_size={rounded(steps * self.num_envs)}" if steps else "fewer num_envs"
        raise UserError(
            f"a replay of {self.room:,} frames weighs {weight(nbytes)}, and replay_gib="
            f"{self.gib:g} is the limit; take {fits}, or raise replay_gib"
        )

    def append(self, rollout: Rollout) -> None:
        """Stores a rollout over the oldest steps.

        Raises:
            UserError: it has more steps than there is room for, or its episodes are so short that
                their ends weigh more than they may.
        """
        steps = rollout.steps
        check_room(self.room, steps * self.num_envs)
        if self.storage is None:
            self.allocate(rollout)
        self._make_room((steps + 1) * self.num_envs)
        if self.steps:
            self._keep_newest(rollout.start[0])
        before, rank = self.successors.add(rollout.next_obs, where := ended(rollout))
        self.successors.set_newest(tree_map(lambda x: x[-1], rollout.next_obs))
        rank = torch.where(where, rank, self.successors.none).to(self.successors.rank_type)
        self._write(self.successors.before, before)
        tree_map(self._write, self.storage, packed(rollout, rank, self.aux_keys))
        self.head = (self.head + steps) % self.capacity
        self.steps = min(self.steps + steps, self.capacity)
        self.newest.fill_((self.head - 1) % self.capacity)
        self.successors.send(self.oldest)

    @property
    def oldest(self) -> int:
        """The slot of the oldest step."""
        return (self.head - self.steps) % self.capacity

    def _write(self, slots: Tensor, value: Tensor) -> None:
        steps = len(value)
        until_wrap = min(steps, self.capacity - self.head)  # then the ring begins anew
        slots[self.head : self.head + until_wrap] = value[:until_wrap]
        slots[: steps - until_wrap] = value[until_wrap:]

    def _make_room(self, more: int) -> None:
        """For so many successors more.

        Raises:
            UserError: the storage would weigh more than it may.
        """
        now, wanted = self.successors.size, self.successors.wanted(more)
        if wanted <= now:
            return
        row, free = self.successors.row_bytes, self.gib * GIB - self.weighs
        if row * (wanted - now) > free:
            raise UserError(
                f"episodes are so short that a replay of {self.room:,} frames comes to weigh more "
                f"than {weight(self.weighs + row * (wanted - now))}, and replay_gib={self.gib:g} "
                "is the limit; raise replay_gib, or take a smaller replay_size"
            )
        self.successors.resize(max(wanted, int(min(2 * now, self.room, now + free // row))))

    def _keep_newest(self, start: Tensor) -> None:
        """Keeps what follows the newest step in those copies where an episode starts all the same:
        those of a resumed run that could only start new ones."""
        newest = (self.head - 1) % self.capacity
        rank = self._stored().rank[newest]
        where = start & (rank == self.successors.none)
        number, fresh = self.successors.add(self.successors.newest(), where.unsqueeze(0))
        fresh = fresh[0] + number - self.successors.before[newest]
        rank.copy_(torch.where(where, fresh.to(rank.dtype), rank))

    # ----------------------------------------------------------------------------------- reading

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices ``[count]`` of stored frames, uniformly, with replacement."""
        return torch.randint(len(self), (count,), generator=generator, device=self.device)

    def latest(self, count: int) -> Tensor:
        """Indices of the newest frames, ``[count]``, or of all there are where they are fewer."""
        back = torch.arange(min(count, len(self)), device=self.device)
        slot = (self.newest - back // self.num_envs) % self.capacity
        return slot * self.num_envs + back % self.num_envs

    def take(self, index: Tensor) -> Rollout:
        """The frames of ``index``, whose shape takes the place of ``[T, B]``."""
        frames = unpacked(take(self._stored(), index))
        return replace(frames, next_obs=self._next_obs(index, self.successors.all_rows()))

    def transitions(
        self,
        index: Tensor,
        steps: int,
        gamma: float,
        team: Mapping[str, AgentGroup],
        scheme: RewardScheme,
        rows: Observation | None = None,
    ) -> ReplayBatch:
        """What follows the frames of ``index [M]`` within ``steps`` steps, as ``team`` is rewarded
        by ``scheme``: see ``marl.learning.returns.n_step``.

        A window ends with its episode, under the agents' own rewards also where an agent of the
        team is truncated, and before what is not stored yet or follows by chance: where a resumed
        run could only start new episodes. ``rows`` are those of ``successors``: compiled code takes
        them as an argument, for there may be more at the next call.
        """
        stored, rows = self._stored(), rows or self.successors.all_rows()
        if steps == 1:
            frames = replace(unpacked(take(stored, index)), next_obs=self._next_obs(index, rows))
            terminated, reward = scheme.terminated(frames, team), scheme.reward(frames, team)
            successor = scheme.successor(frames, team)
            return ReplayBatch(
                frames.obs, frames.action, successor, reward, gamma * ~terminated, frames.aux
            )
        window, valid = self._windows_from(index, steps)
        blind = replace(stored, obs=Observation({}), action={}, aux={})
        frames = unpacked(take(blind, window))
        valid = valid & (frames.start.cumsum(0) == frames.start[0])
        rewards, terminated = scheme.reward(frames, team), scheme.terminated(frames, team)
        ends = scheme.done(frames, team).any(-1)
        reward, discount, length = n_step(rewards, terminated, ends, valid, gamma)
        last = window.gather(0, (length - 1).unsqueeze(0)).squeeze(0)
        final = replace(unpacked(take(blind, last)), next_obs=self._next_obs(last, rows))
        return ReplayBatch(
            take(stored.obs, index), take(stored.action, index),
            scheme.successor(final, team), reward, discount, take(stored.aux, index),
        )  # fmt: skip

    def _next_obs(self, index: Tensor, rows: Observation) -> Observation:
        """The true successors of frames."""
        stored = self._stored()
        return self.successors.read(index, stored.obs, stored.rank, self.newest, rows)

    def _windows_from(self, index: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The indices of so many steps from ``index [M]`` on, and which are stored, ``[steps,
        M]``."""
        step = torch.arange(steps, device=index.device).unsqueeze(-1)
        slot, copy = index // self.num_envs, index % self.num_envs
        valid = step <= (self.newest - slot) % self.capacity
        return (slot + step) % self.capacity * self.num_envs + copy, valid

    def draw_windows(self, count: int, steps: int, generator: torch.Generator) -> Tensor:
        """Indices ``[steps, count]`` of so many consecutive steps of one copy each, uniformly.

        Raises:
            UserError: not so many steps are stored.
        """
        starts = self.steps - steps + 1
        if starts < 1:
            raise UserError(
                f"windows of {steps} steps were asked of a replay that holds {self.steps}; "
                "raise replay_size, shorten them or learn later"
            )
        highest = starts * self.num_envs
        start = torch.randint(highest, (count,), generator=generator, device=self.device)
        step = torch.arange(steps, device=self.device).unsqueeze(-1)
        slot = (self.oldest + start // self.num_envs + step) % self.capacity
        return slot * self.num_envs + start % self.num_envs

    def sequences(
        self, count: int, length: int, burn_in: int, generator: torch.Generator
    ) -> Rollout:
        """Consecutive steps ``[burn_in + length, count, ...]`` of one copy each. Episodes may begin
        inside (``start``); the first ``burn_in`` steps are for memories to build up."""
        return self.take(self.draw_windows(count, burn_in + length, generator))

    def _stored(self) -> Frames:
        assert self.storage is not None, "nothing was stored yet"
        return self.storage

    # ------------------------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """All that is stored, to be written before the next ``append``: where that goes without a
        copy, the tensors are the storage itself."""
        return {
            "layout": LAYOUT,
            "capacity": self.capacity,
            "num_envs": self.num_envs,
            "steps": self.steps,
            "head": self.head,
            "storage": [first(x, self.steps) for x in tree_tensors(self.storage)],
            "successors": self.successors.state_dict(self.steps),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what was stored, place by place; ``allocate`` comes first.

        Raises:
            UserError: it was of another size or layout, or weighs more than it may.
        """
        if (layout := state.get("layout", 1)) != LAYOUT:
            raise UserError(
                f"the checkpoint's replay has layout {layout} and this version of marl reads "
                f"{LAYOUT}; resume the run with the version that wrote it, or train it anew"
            )
        capacity, num_envs = state["capacity"], state["num_envs"]
        if (capacity, num_envs) != (self.capacity, self.num_envs):
            raise UserError(
                f"the checkpoint's replay holds {capacity} steps of {num_envs} copies, this run's "
                f"{self.capacity} of {self.num_envs}; resume with "
                f"replay_size={capacity * num_envs} and num_envs={num_envs}"
            )
        self.steps, self.head = state["steps"], state["head"]
        self.newest.fill_((self.head - 1) % self.capacity)
        slots = tree_tensors(self._stored())
        for slot, value in zip(slots, state["storage"], strict=True):
            slot[: self.steps] = value
        self.successors.load_state_dict(state["successors"], self.oldest)


def check_room(frames: int, needed: int) -> None:
    """Raises UserError where a replay of so many frames holds less than a rollout needs."""
    if frames < needed:
        raise UserError(
            f"a replay of {frames:,} frames cannot hold one rollout; expected replay_size of at "
            f"least steps * num_envs = {needed}"
        )


def weight(nbytes: int) -> str:
    """``0.9 GiB``"""
    return f"{nbytes / GIB:.1f} GiB" if nbytes > GIB / 10 else f"{nbytes / 2**20:.1f} MiB"


def rounded(number: int) -> int:
    """Down to two digits that are not zero."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit
