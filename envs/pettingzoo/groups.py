"""From what a probe saw of a PettingZoo environment to groups, layouts and valid actions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from marl.envs.groups import find_groups
from marl.envs.pettingzoo.layout import GroupLayout
from marl.envs.pettingzoo.probe import Profile
from marl.envs.pettingzoo.spaces import ActionDecoder, Bounded, Encoder
from marl.types import ActionSpec, AgentGroup, Continuous, Discrete, MultiDiscrete, TensorSpec


def valid_action(group: AgentGroup, action: Tensor, alive: np.ndarray) -> np.ndarray:
    """Actions within their space: numbers clipped, choices checked; the absent's become zeros."""
    values = action.detach().cpu().numpy()
    spec = group.action
    living = alive[..., None] if spec.shape else alive
    if isinstance(spec, Continuous):
        clipped = np.clip(np.where(living, values, 0.0), spec.low, spec.high)
        if not np.isfinite(clipped).all():
            raise ValueError(f"group {group.name!r}: an action is not a number: {values}")
        return clipped
    values = np.where(living, values, 0)
    limit = spec.n if isinstance(spec, Discrete) else np.array(spec.nvec)
    if ((values < 0) | (values >= limit)).any():
        raise ValueError(f"group {group.name!r}: an action is outside of {spec}: {values.tolist()}")
    return values


def build_groups(
    profile: Profile, override: Mapping[str, Sequence[str]] | None, mortal: bool
) -> dict[str, AgentGroup]:
    spaces = {
        agent: (_observation_spec(encoder), _action_spec(profile.decoders[agent]))
        for agent, encoder in profile.encoders.items()
    }
    return {
        name: dataclasses.replace(
            group, masked=not profile.masked.isdisjoint(group.agents), mortal=mortal
        )
        for name, group in find_groups(spaces, override).items()
    }


def _observation_spec(encoder: Encoder) -> TensorSpec:
    dtype = torch.uint8 if encoder.dtype == "uint8" else torch.float32
    return TensorSpec(encoder.shape, dtype, *encoder.bounds)


def _action_spec(decoder: ActionDecoder) -> ActionSpec:
    if isinstance(decoder, Bounded):
        return Continuous(decoder.low, decoder.high)
    return Discrete(decoder.nvec[0]) if decoder.scalar else MultiDiscrete(decoder.nvec)


def group_layout(group: AgentGroup, profile: Profile) -> GroupLayout:
    encoders = tuple(profile.encoders[agent] for agent in group.agents)
    decoders = tuple(profile.decoders[agent] for agent in group.agents)
    first = decoders[0]
    return GroupLayout(
        agents=group.agents,
        encoders=encoders,
        decoders=decoders,
        obs=(group.observation.shape, encoders[0].dtype),
        action=(group.action.shape, "float32" if isinstance(first, Bounded) else "int64"),
        nvec=first.nvec if group.masked and not isinstance(first, Bounded) else (),
        mortal=group.mortal,
    )
