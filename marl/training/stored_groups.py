"""The agent groups of a run in its ``config.json``, so that a policy acts without environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from marl.env import VectorEnv
from marl.errors import UserError
from marl.training import agent_order
from marl.types import (
    ActionSpec,
    AgentGroup,
    Continuous,
    Discrete,
    EntitySpec,
    MultiDiscrete,
    TensorSpec,
)

ACTIONS: dict[str, type[ActionSpec]] = {
    "discrete": Discrete,
    "multi_discrete": MultiDiscrete,
    "continuous": Continuous,
}


@dataclass(frozen=True)
class Interface:
    """What policies are built from: the attributes of an environment without the environment."""

    groups: Mapping[str, AgentGroup]
    #: S of ``Observation.state``; None in environments without a state.
    state_size: int | None
    device: torch.device


def described(env: VectorEnv) -> dict[str, Any]:
    """Returns what a run's configuration says of an environment: ``agents``, in order, and
    ``spaces``."""
    spaces = groups_to_plain(env.groups, env.state_size)
    return {"agents": agent_order.order_of(env.groups), "spaces": spaces}


def groups_to_plain(groups: Mapping[str, AgentGroup], state_size: int | None) -> dict[str, Any]:
    """Returns an environment's groups as JSON values.

    Args:
        groups: the groups by name.
        state_size: S of ``Observation.state``; None in environments without a state.
    """
    return {
        "state_size": state_size,
        "groups": {name: _group_to_plain(group) for name, group in groups.items()},
    }


def groups_from_plain(plain: Mapping[str, Any], device: torch.device) -> Interface:
    """Returns what ``groups_to_plain`` was given.

    Args:
        plain: JSON values.
        device: where policies are to act.

    Raises:
        UserError: the values describe no groups.
    """
    try:
        groups = {name: _group(name, value) for name, value in plain["groups"].items()}
        return Interface(groups, plain["state_size"], device)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"config.json describes no agent groups under 'spaces': {error}") from None


def kind_of(action: ActionSpec) -> str:
    """Returns the word for a kind of actions: ``discrete``, ``multi_discrete``, ``continuous``."""
    return next(word for word, spec in ACTIONS.items() if isinstance(action, spec))


def _group_to_plain(group: AgentGroup) -> dict[str, Any]:
    spec, entities = group.observation, group.entities
    return {
        "agents": list(group.agents),
        "observation": {
            "shape": list(spec.shape),
            "dtype": str(spec.dtype).removeprefix("torch."),
            "low": list(spec.low),
            "high": list(spec.high),
        },
        "action": {
            "kind": kind_of(group.action),
            **{k: _listed(v) for k, v in vars(group.action).items()},
        },
        "masked": group.masked,
        "mortal": group.mortal,
        "entities": vars(entities).copy() if entities else None,
    }


def _group(name: str, plain: Mapping[str, Any]) -> AgentGroup:
    spec, action = plain["observation"], dict(plain["action"])
    dtype = getattr(torch, spec["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{spec['dtype']!r} is not a dtype")
    shape, low, high = (tuple(spec[word]) for word in ("shape", "low", "high"))
    observation = TensorSpec(shape, dtype, low, high)
    kind = ACTIONS[action.pop("kind")]
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in action.items()}
    entities = plain["entities"] and EntitySpec(**plain["entities"])
    return AgentGroup(
        name, tuple(plain["agents"]), observation, kind(**values), plain["masked"],
        plain["mortal"], entities,
    )  # fmt: skip


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
