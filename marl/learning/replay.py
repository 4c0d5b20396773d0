"""The replay of a run: stored joint transitions, from which off-policy algorithms learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from marl.errors import UserError
from marl.learning.frames import needs_successor, unpack
from marl.learning.replay_storage import ReplayStorage
from marl.learning.returns import n_step
from marl.learning.rewards import RewardScheme
from marl.types import AgentGroup, Aux, Observation, register, take


@register
@dataclass(frozen=True)
class ReplayBatch:
    """``M`` transitions of n steps each, for all groups.

    H is the number of the team's agents under ``own`` rewards, and else 1.
    """

    #: Observations of the first step, ``[M, ...]``.
    obs: Observation
    #: Actions of the first step by group, ``[M, N, *action shape]``.
    action: Mapping[str, Tensor]
    #: True successor of the last step, ``[M, ...]``, to bootstrap from.
    next_obs: Observation
    #: Discounted sum of the steps' rewards, ``[M, H]``.
    reward: Tensor
    #: Factor of the value of ``next_obs``, ``[M, H]``; 0 where the return ended for good.
    discount: Tensor
    #: Entries named by the policies' ``aux_keys``, ``[M, N, ...]`` by group and name.
    aux: Aux


@register
@dataclass(frozen=True)
class Sequences:
    """``M`` sequences of ``T`` consecutive steps, for all groups.

    Episodes may end and begin inside a sequence. H is the number of the team's agents under ``own``
    rewards, and else 1.
    """

    #: What the agents acted on, ``[T, M, ...]``.
    obs: Observation
    #: True successors, as the team's critics are to value them, ``[T, M, ...]``.
    next_obs: Observation
    #: Actions by group, ``[T, M, N, *action shape]``.
    action: Mapping[str, Tensor]
    #: Entries named by the policies' ``aux_keys``, ``[T, M, N, ...]`` by group and name.
    aux: Aux
    #: Rewards, ``[T, M, H]``.
    reward: Tensor
    #: True where a return ends for good, ``[T, M, H]``.
    terminated: Tensor
    #: True where a trace stops, ``[T, M, H]``.
    done: Tensor
    #: True where an episode begins, ``[T, M]``.
    start: Tensor
    #: True where the next step does not observe the true successor, and in the last step,
    #: ``[T, M]``.
    cut: Tensor


class Replay(ReplayStorage):
    """Samples transitions and sequences from the last joint steps of a run.

    ``ReplayStorage`` describes the arguments, and how steps are stored.
    """

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Samples indices ``[count]`` of stored frames, uniformly with replacement.

        Args:
            count: number of frames.
            generator: random numbers, on the replay's device.
        """
        high = self.stored_frames
        return torch.randint(high, (count,), generator=generator, device=self.device)

    def latest(self, count: int) -> Tensor:
        """Returns the indices of the newest frames, ``[count]``, or of all if fewer are stored."""
        back = torch.arange(min(count, self.stored_frames), device=self.device)
        slot = (self.newest_slot - back // self.num_envs) % self.capacity
        return slot * self.num_envs + back % self.num_envs

    def transitions(
        self,
        index: Tensor,
        steps: int,
        gamma: float,
        team: Mapping[str, AgentGroup],
        scheme: RewardScheme,
        rows: Observation | None = None,
    ) -> ReplayBatch:
        """Returns n-step transitions from given frames (``marl.learning.returns.n_step``).

        The window of a transition stops at the end of its episode, under the agents' own rewards
        also where an agent of the team is truncated, at the newest stored step, and where a resumed
        run could only start new episodes.

        Args:
            index: indices of the first frames, ``[M]``.
            steps: n, the longest window.
            gamma: discount.
            team: the groups of the team.
            scheme: how the team is rewarded.
            rows: rows of ``successors``. Compiled code takes them as an argument, for their number
                may grow until the next call.
        """
        stored, rows = self._storage(), rows or self.successors.all_rows()
        if steps == 1:
            frames = replace(unpack(take(stored, index)), next_obs=self._next_obs(index, rows))
            terminated, reward = scheme.terminated(frames, team), scheme.reward(frames, team)
            successor = scheme.successor(frames, team)
            return ReplayBatch(
                frames.obs, frames.action, successor, reward, gamma * ~terminated, frames.aux
            )
        window, valid = self._windows_from(index, steps)
        outcomes = replace(stored, obs=Observation({}), action={}, aux={})
        frames = unpack(take(outcomes, window))
        valid = valid & (frames.start.cumsum(0) == frames.start[0])
        rewards, terminated = scheme.reward(frames, team), scheme.terminated(frames, team)
        ends = scheme.done(frames, team).any(-1)
        reward, discount, length = n_step(rewards, terminated, ends, valid, gamma)
        last = window.gather(0, (length - 1).unsqueeze(0)).squeeze(0)
        final = replace(unpack(take(outcomes, last)), next_obs=self._next_obs(last, rows))
        return ReplayBatch(
            take(stored.obs, index), take(stored.action, index),
            scheme.successor(final, team), reward, discount, take(stored.aux, index),
        )  # fmt: skip

    def _windows_from(self, index: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Returns the indices of the steps from ``index [M]`` on, and which of them are stored;
        both are ``[steps, M]``."""
        step = torch.arange(steps, device=index.device).unsqueeze(-1)
        slot, copy = index // self.num_envs, index % self.num_envs
        valid = step <= (self.newest_slot - slot) % self.capacity
        return (slot + step) % self.capacity * self.num_envs + copy, valid

    def draw_windows(self, count: int, steps: int, generator: torch.Generator) -> Tensor:
        """Samples windows of consecutive steps of one copy each, uniformly with replacement.

        Args:
            count: number of windows.
            steps: steps in each window.
            generator: random numbers, on the replay's device.

        Returns:
            Indices of frames, ``[steps, count]``.

        Raises:
            UserError: fewer steps are stored.
        """
        starts = self.steps - steps + 1
        if starts < 1:
            raise UserError(
                f"windows of {steps} steps cannot be drawn from a replay that holds {self.steps}; "
                "raise replay_size, shorten the windows or begin to learn later"
            )
        highest = starts * self.num_envs
        start = torch.randint(highest, (count,), generator=generator, device=self.device)
        step = torch.arange(steps, device=self.device).unsqueeze(-1)
        slot = (self.oldest_slot + start // self.num_envs + step) % self.capacity
        return slot * self.num_envs + start % self.num_envs

    def sequences(
        self,
        index: Tensor,
        team: Mapping[str, AgentGroup],
        scheme: RewardScheme,
        rows: Observation | None = None,
    ) -> Sequences:
        """Returns sequences of consecutive steps as a team learns from them.

        Args:
            index: indices of frames, ``[T, M]``, from ``draw_windows``.
            team: the groups of the team.
            scheme: how the team is rewarded.
            rows: rows of ``successors``, as in ``transitions``.
        """
        rows = rows or self.successors.all_rows()
        frames = unpack(take(self._storage(), index))
        frames = replace(frames, next_obs=self._next_obs(index, rows))
        return Sequences(
            obs=frames.obs,
            next_obs=scheme.successor(frames, team),
            action=frames.action,
            aux=frames.aux,
            reward=scheme.reward(frames, team),
            terminated=scheme.terminated(frames, team),
            done=_stop_before_starts(scheme.done(frames, team), frames.start),
            start=frames.start,
            cut=_ends_before_next(needs_successor(frames), frames.start),
        )


def _ends_before_next(cut: Tensor, start: Tensor) -> Tensor:
    """Returns ``cut [T, M]``, True also before a step that starts an episode, and in the last."""
    return cut | torch.cat([start[1:], torch.ones_like(start[:1])])


def _stop_before_starts(done: Tensor, start: Tensor) -> Tensor:
    """Returns ``done [T, M, H]``, True also before a step that starts an episode although none
    ended, in a resumed run that could only start new episodes; ``start`` is ``[T, M]``."""
    next_start = torch.cat([start[1:], torch.zeros_like(start[:1])])
    return done | next_start.unsqueeze(-1)
