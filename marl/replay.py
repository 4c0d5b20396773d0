"""The run's memory of joint transitions, from which off-policy algorithms learn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from marl.algorithm import team_done, team_reward, team_successor, team_terminated
from marl.ensemble import MEMBER
from marl.errors import UserError
from marl.returns import n_step
from marl.types import (
    AgentGroup,
    Aux,
    Observation,
    Rollout,
    register,
    take,
    tree_map,
    tree_tensors,
)

GIB = 2**30


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
    aux: Aux  # [M, N] of the sub-policies that acted


class Replay:
    """A ring over time of the last ``frames`` joint steps of ``num_envs`` copies, ``[C, B, ...]``.

    Storage is allocated once, by ``allocate`` or the first ``append``; on the CPU its memory is
    taken as it fills. A frame's index is its place in the ring, ``slot * B + b``, and stays valid
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
        self.storage: Rollout | None = None  # as ``kept``

    def __len__(self) -> int:
        """How many frames are stored."""
        return self.steps * self.num_envs

    @property
    def room(self) -> int:
        """How many frames it can hold."""
        return self.capacity * self.num_envs

    @property
    def weighs(self) -> int:
        """Bytes of its storage when full."""
        return sum(x.nbytes for x in tree_tensors(self.storage))

    @property
    def device(self) -> torch.device:
        return self.newest.device

    # ----------------------------------------------------------------------------------- writing

    def nbytes(self, rollout: Rollout) -> int:
        """What the whole storage weighs for frames like those of ``rollout``."""
        frame = sum(x.nbytes for x in tree_tensors(kept(rollout))) // rollout.frames
        return frame * self.room

    def allocate(self, rollout: Rollout) -> None:
        """Storage for frames like those of ``rollout``.

        Raises:
            UserError: it would weigh more than it may.
        """
        self._check_weight(self.nbytes(rollout))
        self.storage = tree_map(
            lambda x: x.new_empty(self.capacity, *x.shape[1:], device=self.device), kept(rollout)
        )

    def _check_weight(self, nbytes: int) -> None:
        if nbytes <= self.gib * GIB:
            return
        steps = int(self.gib * GIB / (nbytes // self.capacity))
        fits = f"replay_size={_rounded(steps * self.num_envs)}" if steps else "fewer num_envs"
        raise UserError(
            f"a replay of {self.room:,} frames weighs {weight(nbytes)}, and replay_gib="
            f"{self.gib:g} is the limit; take {fits}, or raise replay_gib"
        )

    def append(self, rollout: Rollout) -> None:
        """Stores a rollout over the oldest steps.

        Raises:
            UserError: it has more steps than there is room for.
        """
        steps = rollout.steps
        check_room(self.room, steps * self.num_envs)
        if self.storage is None:
            self.allocate(rollout)
        first = min(steps, self.capacity - self.head)  # then the ring begins anew

        def copy(slots: Tensor, value: Tensor) -> None:
            slots[self.head : self.head + first] = value[:first]
            slots[: steps - first] = value[first:]

        tree_map(copy, self.storage, kept(rollout))
        self.head = (self.head + steps) % self.capacity
        self.steps = min(self.steps + steps, self.capacity)
        self.newest.fill_((self.head - 1) % self.capacity)

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
        return take(self._stored(), index)

    def transitions(
        self,
        index: Tensor,
        steps: int,
        gamma: float,
        team: Mapping[str, AgentGroup],
        reward: str,
    ) -> ReplayBatch:
        """What follows the frames of ``index [M]`` within ``steps`` steps, as ``team`` is rewarded
        (``own``, ``team_sum`` or ``team_mean``): see ``marl.returns.n_step``.

        A window ends with its episode, under ``own`` rewards also where an agent of the team is
        truncated, and before what is not stored yet or follows by chance: where a resumed run could
        only start new episodes.
        """
        stored = self._stored()
        if steps == 1:
            now = take(stored, index)
            over = team_terminated(now, team, reward)
            gained = team_reward(now, team, reward)
            after = team_successor(now, team, reward)
            return ReplayBatch(now.obs, now.action, after, gained, gamma * ~over, now.aux)
        window, there = self._windows_from(index, steps)
        blind = replace(stored, obs=Observation({}), next_obs=Observation({}), action={}, aux={})
        seen = take(blind, window)
        there = there & (seen.start.cumsum(0) == seen.start[0])
        rewards, over = team_reward(seen, team, reward), team_terminated(seen, team, reward)
        ends = team_done(seen, team, reward).any(-1)
        gained, discount, length = n_step(rewards, over, ends, there, gamma)
        last = window.gather(0, (length - 1).unsqueeze(0)).squeeze(0)
        after = team_successor(take(replace(blind, next_obs=stored.next_obs), last), team, reward)
        return ReplayBatch(
            take(stored.obs, index), take(stored.action, index), after,
            gained, discount, take(stored.aux, index),
        )  # fmt: skip

    def _windows_from(self, index: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The indices of so many steps from ``index [M]`` on, and which are stored, ``[steps,
        M]``."""
        step = torch.arange(steps, device=index.device).unsqueeze(-1)
        slot, copy = index // self.num_envs, index % self.num_envs
        there = step <= (self.newest - slot) % self.capacity
        return (slot + step) % self.capacity * self.num_envs + copy, there

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
        drawn = torch.randint(highest, (count,), generator=generator, device=self.device)
        oldest = (self.head - self.steps) % self.capacity
        step = torch.arange(steps, device=self.device).unsqueeze(-1)
        slot = (oldest + drawn // self.num_envs + step) % self.capacity
        return slot * self.num_envs + drawn % self.num_envs

    def sequences(
        self, count: int, length: int, burn_in: int, generator: torch.Generator
    ) -> Rollout:
        """Consecutive steps ``[burn_in + length, count, ...]`` of one copy each. Episodes may begin
        inside (``start``); the first ``burn_in`` steps are for memories to build up."""
        return self.take(self.draw_windows(count, burn_in + length, generator))

    def _stored(self) -> Rollout:
        assert self.storage is not None, "nothing was stored yet"
        return self.storage

    # ------------------------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """All that is stored, to be written before the next ``append``: where that goes without a
        copy, the tensors are the storage itself."""
        return {
            "capacity": self.capacity,
            "num_envs": self.num_envs,
            "steps": self.steps,
            "head": self.head,
            "storage": [_filled(x, self.steps) for x in tree_tensors(self.storage)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what was stored, place by place; ``allocate`` comes first.

        Raises:
            UserError: it was of another size.
        """
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


def kept(rollout: Rollout) -> Rollout:
    """What is stored of a rollout: of ``aux``, which sub-policy acted."""
    aux = {n: {MEMBER: given[MEMBER]} for n, given in rollout.aux.items() if MEMBER in given}
    return replace(rollout, log_prob={}, aux=aux, carry={})


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


def _filled(slots: Tensor, steps: int) -> Tensor:
    """The first ``steps`` of a tensor, which are all that a checkpoint of them writes."""
    if steps == len(slots):
        return slots
    if slots.device.type == "cpu":  # shares memory, unlike a slice as if it were all there is
        return torch.from_numpy(slots[:steps].numpy())
    return slots[:steps].cpu()


def _rounded(number: int) -> int:
    """Down to two digits that are not zero."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit
