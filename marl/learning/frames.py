"""How a replay stores the steps of a rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from marl.types import Aux, Observation, Rollout, register


@register
@dataclass(frozen=True)
class Frames:
    """A rollout as it is stored, ``[C, B, ...]``: observations once."""

    obs: Observation
    action: Mapping[str, Tensor]
    aux: Aux  # what the policies' ``aux_keys`` name
    reward: Mapping[str, Tensor]
    ends: Mapping[str, Tensor]  # [C, B, N] uint8: 1 where terminated, 2 where truncated
    step: Tensor  # [C, B] uint8: 1 where done, and 2 where an episode starts
    rank: Tensor  # [C, B] among the step's successors kept apart; ``Successors.none`` elsewhere


NOTHING: Mapping[str, Sequence[str]] = {}
AuxKeys = Mapping[str, Sequence[str]]  # group -> names of the entries of ``aux`` to store


def stored_part(rollout: Rollout, aux_keys: AuxKeys = NOTHING) -> Rollout:
    """What is stored of a rollout."""
    aux = {n: {key: rollout.aux[n][key] for key in keys} for n, keys in aux_keys.items() if keys}
    return replace(rollout, log_prob={}, aux=aux, carry={})


def packed(rollout: Rollout, rank: Tensor, aux_keys: AuxKeys) -> Frames:
    """As it is stored, where its successors that are kept apart have these ranks."""
    aux = stored_part(rollout, aux_keys).aux
    ends = {n: x.byte() + 2 * rollout.truncated[n].byte() for n, x in rollout.terminated.items()}
    step = rollout.done.byte() + 2 * rollout.start.byte()
    return Frames(rollout.obs, rollout.action, aux, rollout.reward, ends, step, rank)


def unpacked(frames: Frames) -> Rollout:
    """The rollout, without ``next_obs``."""
    terminated = {n: (x & 1).bool() for n, x in frames.ends.items()}
    truncated = {n: (x & 2).bool() for n, x in frames.ends.items()}
    done, start = ((frames.step & bit).bool() for bit in (1, 2))
    return Rollout(
        frames.obs, Observation({}), frames.action, {}, frames.aux, frames.reward, terminated,
        truncated, done, start, {},
    )  # fmt: skip


def ended(rollout: Rollout) -> Tensor:
    """Where the next step does not observe what followed, ``[T, B]``: an episode or an agent's part
    in it ended."""
    cut = torch.cat(list(rollout.truncated.values()), dim=-1)
    return rollout.done | cut.any(-1)
