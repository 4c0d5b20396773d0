"""Observations and actions of users' programs, to and from the batched tensors of policies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.errors import UserError, unknown
from marl.types import AgentGroup, EntityGraph, GroupObservation, Observation

MASK_KEYS = ("action_mask", "action_masks")


@dataclass(frozen=True)
class Form:
    """The form of the observations of a call, which its actions have too."""

    #: B, the number of environments.
    size: int
    #: Whether arrays have an axis of environments.
    batched: bool
    #: Whether arrays are numpy's.
    numpy: bool
    #: The agents that have an observation; None where they are by group.
    agents: tuple[str, ...] | None


class Converter:
    """Converts between mappings by agent or group and batched tensors.

    Args:
        groups: the groups that act, by name.
        device: of the tensors.
        others: groups that do not act, whose observations are passed over.
    """

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        device: torch.device,
        others: Sequence[AgentGroup] = (),
    ):
        self.groups, self.device = groups, device
        names = {name for group in others for name in (group.name, *group.agents)}
        self.others = names - {*groups, *(a for g in groups.values() for a in g.agents)}
        self.places = {
            agent: (name, i)
            for name, group in groups.items()
            for i, agent in enumerate(group.agents)
        }

    def observation(
        self,
        observations: Mapping[str, Any] | Observation,
        masks: Mapping[str, Any] | None,
        graph: EntityGraph | None,
    ) -> tuple[Observation, Form]:
        """Returns batched observations, and the form that they had.

        Args:
            observations: by agent or group, or batched already.
            masks: action masks by the same names; None for none.
            graph: the entities; None for none.
        """
        if isinstance(observations, Observation):
            first = next(iter(observations.groups.values())).obs
            return observations, Form(len(first), True, False, None)
        if not isinstance(observations, Mapping | None):
            raise UserError(
                "observations are expected by agent or group, such as "
                f"{{{next(iter(self.places))!r}: array}}, not {type(observations).__name__}"
            )
        if self.others:
            observations = {k: x for k, x in observations.items() if k not in self.others}
        if not observations:
            raise UserError("there are no observations; expected at least one agent's or group's")
        arrays, found = _split_masks(observations)
        masks = {**found, **(masks or {})}
        by_group = self._are_by_group(arrays)
        numpy = not any(isinstance(value, Tensor) for value in arrays.values())
        agents = None if by_group else self._known(arrays)
        groups, batched = (
            self._by_group(arrays, masks) if by_group else self._by_agent(arrays, masks)
        )
        self._check_masks(groups)
        size = len(next(iter(groups.values())).obs)
        return Observation(groups, graph=graph), Form(size, batched, numpy, agents)

    def actions(self, action: Mapping[str, Tensor], form: Form) -> dict[str, Any]:
        """Returns actions by the names of their observations.

        Args:
            action: ``[B, N, *action shape]`` by group.
            form: of the observations.
        """
        arrays: Mapping[str, Any] = action
        if form.numpy:
            arrays = {name: value.cpu().numpy() for name, value in action.items()}
        if form.agents is None:
            return {name: x if form.batched else x[0] for name, x in arrays.items()}
        named = {}
        for agent in form.agents:
            name, place = self.places[agent]
            named[agent] = arrays[name][:, place] if form.batched else arrays[name][0, place]
        return named

    def _are_by_group(self, arrays: Mapping[str, Any]) -> bool:
        """Returns whether names are of groups. Of an agent alone in a group of its name the array
        tells: it has the axis N."""
        if any(name not in self.groups for name in arrays):
            return False
        if any(name not in self.places for name in arrays):
            return True
        shapes = [(np.shape(x), self.groups[n].observation.shape) for n, x in arrays.items()]
        return all(len(x) == len(spec) + 2 or x == (1, *spec) for x, spec in shapes)

    def _known(self, arrays: Mapping[str, Any]) -> tuple[str, ...]:
        for agent in arrays:
            if agent not in self.places:
                known = [*self.places, *self.groups]
                raise unknown("agent or group", agent, known, where=" of this policy")
        return tuple(arrays)

    def _by_group(
        self, arrays: Mapping[str, Any], masks: Mapping[str, Any]
    ) -> tuple[dict[str, GroupObservation], bool]:
        groups, batched = {}, False
        for name, group in self.groups.items():
            if name not in arrays:
                raise UserError(
                    f"the observations of group {name!r} are missing; give those of all groups: "
                    f"{', '.join(self.groups)}"
                )
            shape = (group.size, *group.observation.shape)
            array, batched = _batch(arrays[name], shape, name)
            obs, mask, alive = self._tensor(array, group.observation.dtype), masks.get(name), None
            if mask is not None:
                width = (group.size, group.action.mask_size)
                mask = self._tensor(_batch(mask, width, f"{name}'s action mask")[0], torch.bool)
            if group.mortal:
                alive = torch.ones(obs.shape[:2], dtype=torch.bool, device=self.device)
            groups[name] = GroupObservation(obs, mask, alive)
        return groups, batched

    def _by_agent(
        self, arrays: Mapping[str, Any], masks: Mapping[str, Any]
    ) -> tuple[dict[str, GroupObservation], bool]:
        rows, size, batched = {}, 1, False
        for agent, value in arrays.items():
            spec = self.groups[self.places[agent][0]].observation
            row, batched = _batch(value, spec.shape, agent)
            size = len(row)
            rows[agent] = row
        groups = {}
        for name, group in self.groups.items():
            missing = [agent for agent in group.agents if agent not in rows]
            if missing and not group.mortal:
                raise UserError(
                    f"the observations of {', '.join(missing[:5])} are missing; agents of group "
                    f"{name!r} were always present in training, so give those of all"
                )
            absent = np.zeros((size, *group.observation.shape), np.float32) if missing else None
            obs = self._stack([rows.get(a, absent) for a in group.agents], group.observation.dtype)
            alive = None
            if group.mortal:
                present = torch.tensor([a in rows for a in group.agents], device=self.device)
                alive = present.expand(size, -1)
            mask = self._agent_masks(group, masks, size, len(missing) < group.size)
            groups[name] = GroupObservation(obs, mask, alive)
        return groups, batched

    def _agent_masks(
        self, group: AgentGroup, masks: Mapping[str, Any], size: int, present: bool
    ) -> Tensor | None:
        """Returns ``[B, N, mask_size]``, all True for absent agents; None where none are given."""
        if not any(agent in masks for agent in group.agents) and (present or not group.masked):
            return None
        width = (group.action.mask_size,)
        allowed = np.ones((size, *width), bool)
        rows = [
            _batch(masks[a], width, f"{a}'s action mask")[0] if a in masks else allowed
            for a in group.agents
        ]
        return self._stack(rows, torch.bool)

    def _check_masks(self, groups: Mapping[str, GroupObservation]) -> None:
        for name, group in self.groups.items():
            given = groups[name].action_mask is not None
            if given != group.masked:
                raise UserError(
                    f"group {name!r} was trained {'with' if group.masked else 'without'} action "
                    f"masks; {'give them by action_masks=' if group.masked else 'leave them out'}"
                )

    def _stack(self, rows: Sequence[Any], dtype: torch.dtype) -> Tensor:
        """Returns arrays or tensors ``[B, *shape]`` of N agents as a tensor ``[B, N, *shape]``."""
        if len({len(row) for row in rows}) > 1:
            raise UserError(
                "the observations are of different numbers of environments: "
                f"{sorted({len(row) for row in rows})}"
            )
        if all(isinstance(row, np.ndarray) for row in rows):  # one copy for all agents
            return self._tensor(np.stack(rows, axis=1), dtype)
        return torch.stack([self._tensor(row, dtype) for row in rows], dim=1)

    def _tensor(self, value: Any, dtype: torch.dtype) -> Tensor:
        x = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        return x.to(self.device, dtype)


def _batch(value: Any, shape: tuple[int, ...], name: str) -> tuple[Any, bool]:
    """Returns an array or tensor as ``[B, *shape]``, and whether the axis B was there.

    Args:
        value: an array or tensor; a flat one will do.
        shape: of one environment.
        name: whose it is, for the error.

    Raises:
        UserError: it has another shape.
    """
    x = value if isinstance(value, Tensor | np.ndarray) else np.asarray(value)
    if x.shape == shape:
        return x[None], False
    if x.shape[1:] == shape:
        return x, True
    count, size = math.prod(shape), math.prod(x.shape)
    if size == count:
        return x.reshape(1, *shape), False
    if x.ndim and count and size == len(x) * count:
        return x.reshape(len(x), *shape), True
    raise UserError(
        f"the array of {name} has the shape {tuple(x.shape)}; expected {shape}, or {shape} "
        "after an axis of environments"
    )


def _split_masks(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns observations and masks, of values that may hold both as PettingZoo's dicts do."""
    arrays, masks = {}, {}
    for name, value in values.items():
        if isinstance(value, GroupObservation):
            arrays[name] = value.obs
            if value.action_mask is not None:
                masks[name] = value.action_mask
        elif isinstance(value, Mapping):
            key = next((key for key in MASK_KEYS if key in value), None)
            if key is None or "observation" not in value:
                raise UserError(
                    f"the observation of {name!r} is a dict of {', '.join(map(str, value))}; "
                    "expected an array, or a dict of 'observation' and 'action_mask'"
                )
            arrays[name], masks[name] = value["observation"], value[key]
        else:
            arrays[name] = value
    return arrays, masks
