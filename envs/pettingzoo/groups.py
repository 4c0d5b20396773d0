"""Groups, layouts and valid actions of a PettingZoo environment, from its probed profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from marl.envs.groups import find_groups, find_teams, prefix
from marl.envs.pettingzoo.actions import ActionDecoder, Bounded
from marl.envs.pettingzoo.layout import Agent, GroupLayout
from marl.envs.pettingzoo.probe import Profile
from marl.envs.pettingzoo.spaces import Encoder
from marl.errors import UserError
from marl.types import ActionSpec, AgentGroup, Continuous, Discrete, MultiDiscrete, TensorSpec

UNNAMED = "agent"  # the group of agents whose ids are numbers


def valid_action(group: AgentGroup, action: Tensor, alive: np.ndarray) -> np.ndarray:
    """Returns actions within their space: continuous ones clipped, absent agents' zero.

    Args:
        group: whose actions.
        action: ``[B, N, *A]``.
        alive: whether an agent is present, ``[B, N]`` bool.

    Raises:
        ValueError: an action that is not a number, or a choice outside of its space.
    """
    values = action.detach().cpu().numpy()
    spec = group.action
    valid = alive[..., None] if spec.shape else alive
    if isinstance(spec, Continuous):
        clipped = np.clip(np.where(valid, values, 0.0), spec.low, spec.high)
        if not np.isfinite(clipped).all():
            raise ValueError(f"group {group.name!r}: an action is not a number: {values}")
        return clipped
    values = np.where(valid, values, 0)
    limit = spec.n if isinstance(spec, Discrete) else np.array(spec.nvec)
    if ((values < 0) | (values >= limit)).any():
        raise ValueError(f"group {group.name!r}: an action is outside of {spec}: {values.tolist()}")
    return values


def build_groups(
    profile: Profile, override: Mapping[str, Sequence[Agent]] | None, mortal: bool
) -> dict[str, AgentGroup]:
    """Returns the groups of an environment's agents, by name.

    Args:
        profile: the probed environment.
        override: group -> agents; None groups them by name and spaces, and rivals one by one.
        mortal: whether agents may be absent.

    Raises:
        UserError: two agents of one name, or an ``override`` that does not fit the agents.
    """
    agents = agent_ids(profile.encoders)
    spaces = {
        name: (_observation_spec(profile.encoders[agent]), _action_spec(profile.decoders[agent]))
        for name, agent in agents.items()
    }
    names = {n: [agent_name(a) for a in group] for n, group in (override or {}).items()}
    if profile.rivals and not override:
        names = {name: [name] for name in agents}
    kind = lambda name: UNNAMED if _is_count(agents[name]) else prefix(name)  # noqa: E731
    masked = {agent_name(agent) for agent in profile.masked}
    return {
        name: dataclasses.replace(group, masked=not masked.isdisjoint(group.agents), mortal=mortal)
        for name, group in find_groups(spaces, names, kind).items()
    }


def build_teams(profile: Profile, groups: Mapping[str, AgentGroup]) -> dict[str, tuple[str, ...]]:
    """Returns the groups of each team: a team for each group of rivals, else as names say."""
    return {name: (name,) for name in groups} if profile.rivals else find_teams(groups)


def agent_name(agent: Agent) -> str:
    """Returns an agent's name: its id as text, and ``drone_1`` of ``("drone", 1)``."""
    return "_".join(map(agent_name, agent)) if isinstance(agent, tuple) else str(agent)


def agent_ids(agents: Iterable[Agent]) -> dict[str, Agent]:
    """Returns the environment's ids of its agents, by name.

    Raises:
        UserError: two have the same name, such as ``1`` and ``"1"``.
    """
    ids: dict[str, Agent] = {}
    for agent in agents:
        other = ids.setdefault(name := agent_name(agent), agent)
        if other is not agent:
            raise UserError(
                f"the agents {other!r} and {agent!r} are both {name!r} as text; give the "
                "environment's possible_agents ids that differ as text"
            )
    return ids


def _is_count(agent: Agent) -> bool:
    """Returns whether an id is numbers alone, which say nothing about the kind of agent."""
    if isinstance(agent, tuple):
        return all(map(_is_count, agent))
    return isinstance(agent, Integral)


def _observation_spec(encoder: Encoder) -> TensorSpec:
    dtype = torch.uint8 if encoder.dtype == "uint8" else torch.float32
    return TensorSpec(encoder.shape, dtype, *encoder.bounds)


def _action_spec(decoder: ActionDecoder) -> ActionSpec:
    if isinstance(decoder, Bounded):
        return Continuous(decoder.low, decoder.high)
    return Discrete(decoder.nvec[0]) if decoder.scalar else MultiDiscrete(decoder.nvec)


def group_layout(group: AgentGroup, profile: Profile) -> GroupLayout:
    """Returns the layout of a group's arrays.

    Args:
        group: the group.
        profile: the probed environment.
    """
    ids = agent_ids(profile.encoders)
    agents = tuple(ids[name] for name in group.agents)
    encoders = tuple(profile.encoders[agent] for agent in agents)
    decoders = tuple(profile.decoders[agent] for agent in agents)
    first = decoders[0]
    return GroupLayout(
        agents=agents,
        encoders=encoders,
        decoders=decoders,
        obs=(group.observation.shape, encoders[0].dtype),
        action=(group.action.shape, "float32" if isinstance(first, Bounded) else "int64"),
        nvec=first.nvec if group.masked and not isinstance(first, Bounded) else (),
        mortal=group.mortal,
    )
