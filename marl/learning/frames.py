"""The compact form in which a replay stores the steps of a rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from marl.types import Aux, Observation, Rollout, register


@register
@dataclass(frozen=True)
class Frames:
    """A rollout in stored form, ``[C, B, ...]``: each observation once, flags in single bytes."""

    #: Observations that were acted on, ``[C, B, ...]``.
    obs: Observation
    #: Actions by group, ``[C, B, N, *action shape]``.
    action: Mapping[str, Tensor]
    #: Entries named by the policies' ``aux_keys``, ``[C, B, N, ...]`` by group and name.
    aux: Aux
    #: Rewards by group, ``[C, B, N]``.
    reward: Mapping[str, Tensor]
    #: Bits by group, ``[C, B, N]`` uint8: 1 where terminated, 2 where truncated.
    ends: Mapping[str, Tensor]
    #: Bits, ``[C, B]`` uint8: 1 where an episode is done, 2 where one starts.
    step: Tensor
    #: Rank among the step's separately stored successors, ``[C, B]``; elsewhere
    #: ``Successors.no_rank``.
    rank: Tensor


NOTHING: Mapping[str, Sequence[str]] = {}
AuxKeys = Mapping[str, Sequence[str]]  # group -> names of the entries of ``aux`` to store


def select_stored(rollout: Rollout, aux_keys: AuxKeys = NOTHING) -> Rollout:
    """Returns a rollout without the parts that a replay does not store.

    Args:
        rollout: ``[T, B, ...]``.
        aux_keys: the entries of ``aux`` to store, by group.
    """
    aux = {n: {key: rollout.aux[n][key] for key in keys} for n, keys in aux_keys.items() if keys}
    return replace(rollout, log_prob={}, aux=aux, carry={})


def pack(rollout: Rollout, rank: Tensor, aux_keys: AuxKeys) -> Frames:
    """Returns a rollout in stored form.

    Args:
        rollout: ``[T, B, ...]``.
        rank: rank among the step's separately stored successors, ``[T, B]``.
        aux_keys: the entries of ``aux`` to store, by group.
    """
    aux = select_stored(rollout, aux_keys).aux
    ends = {n: x.byte() + 2 * rollout.truncated[n].byte() for n, x in rollout.terminated.items()}
    step = rollout.done.byte() + 2 * rollout.start.byte()
    return Frames(rollout.obs, rollout.action, aux, rollout.reward, ends, step, rank)


def unpack(frames: Frames) -> Rollout:
    """Returns the rollout of stored frames, with an empty ``next_obs``."""
    terminated = {n: (x & 1).bool() for n, x in frames.ends.items()}
    truncated = {n: (x & 2).bool() for n, x in frames.ends.items()}
    done, start = ((frames.step & bit).bool() for bit in (1, 2))
    return Rollout(
        frames.obs, Observation({}), frames.action, {}, frames.aux, frames.reward, terminated,
        truncated, done, start, {},
    )  # fmt: skip


def needs_successor(rollout: Rollout) -> Tensor:
    """Returns where the next step does not observe the true successor, ``[T, B]`` bool.

    There an episode ended, or an agent's part in it.
    """
    truncated = torch.cat(list(rollout.truncated.values()), dim=-1)
    return rollout.done | truncated.any(-1)
