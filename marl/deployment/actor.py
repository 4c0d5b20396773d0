"""The decentralized actor of one group, as a function of tensors that can be exported."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from marl.policies.base import Policy
from marl.policies.kinds import graph_policy
from marl.types import AgentGroup, EntityGraph, GroupObservation, Observation

#: Inputs that hold the tensors of an ``EntityGraph``, in the order of its fields.
GRAPH = ("position", "velocity", "goal", "kind", "entity_mask")


class GroupActor(nn.Module):
    """The greedy actions of one group's agents, each from its own observation.

    Normalisation, squashing and bounds are inside. An actor of a joint policy leaves out its graph
    (``cut``).

    Args:
        policy: the policy of the team, a module.
        name: the group.
        graph: an example of the environment's graph, for networks that read it; else None.

    Attributes:
        inputs: names of the tensors that ``forward`` takes, in order.
        outputs: names of the tensors that it returns.
    """

    def __init__(self, policy: Policy, name: str, graph: EntityGraph | None = None):
        super().__init__()
        self.cut = graph_policy(policy) is not None
        self.policy = copy.copy(cast(nn.Module, policy))
        self.policy.groups = {name: policy.groups[name]}  # type: ignore[assignment]
        if self.cut:
            self.policy.without_graph = True  # type: ignore[assignment]
        self.name, self.group = name, policy.groups[name]
        self.static: tuple[Any, ...] = (graph.ego, graph.radius, graph.directed) if graph else ()
        self.entities = graph.position.shape[1] if graph else 0
        self.memory = policy.initial_carry(1).get(name)
        if self.memory is not None and self.memory.dtype != torch.float32:
            self.memory = None  # the index of an ensemble, which greedy play does not need
        self.inputs = ["obs"]
        self.inputs += ["action_mask"] if self.group.masked else []
        self.inputs += ["memory", "start"] if self.memory is not None else []
        self.inputs += GRAPH if graph else []
        self.outputs = ["action"] + (["next_memory"] if self.memory is not None else [])

    def forward(
        self,
        obs: Tensor,
        action_mask: Tensor | None = None,
        memory: Tensor | None = None,
        start: Tensor | None = None,
        position: Tensor | None = None,
        velocity: Tensor | None = None,
        goal: Tensor | None = None,
        kind: Tensor | None = None,
        entity_mask: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Computes the actions of one step.

        Args:
            obs: ``[B, N, *shape]``.
            action_mask: ``[B, N, choices]`` bool, True where a choice is allowed.
            memory: ``[B, N, H]``, zeros at first, then ``next_memory`` of the step before.
            start: ``[B]`` bool, True where an episode begins.
            position: of the entities, ``[B, E, D]``.
            velocity: of the entities, ``[B, E, D]``.
            goal: of the entities, ``[B, E, D]``.
            kind: of the entities, ``[B, E]`` int64.
            entity_mask: ``[B, E]`` bool, False for absent entities.

        Returns:
            Actions ``[B, N, *action shape]`` in the environment's unit, and the next memory if the
            policy has one.
        """
        graph = None
        if position is not None:
            tensors = (position, velocity, goal, kind, entity_mask)
            graph = EntityGraph(*tensors, *self.static)  # type: ignore[arg-type]  # none is None
        if start is None:
            start = torch.zeros(obs.shape[0], dtype=torch.bool, device=obs.device)
        seen = Observation({self.name: GroupObservation(obs, action_mask)}, graph=graph)
        carry = {} if memory is None else {self.name: memory}
        step = cast(Policy, self.policy).act(seen, carry, start, None)
        if self.memory is None:
            return (step.action[self.name],)
        return step.action[self.name], step.carry[self.name]

    def example(self, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draws random inputs.

        Args:
            size: B, the number of environments.
            generator: random numbers, of the CPU.

        Returns:
            A tensor for each of ``inputs``.
        """
        drawn = {
            "obs": _observations(self.group, size, generator),
            "action_mask": _masks(self.group, size, generator),
            **self._memories(size, generator),
            **self._entities(size, generator),
        }
        return {name: drawn[name] for name in self.inputs}

    def _memories(self, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        if self.memory is None:
            return {}
        shape = (size, *self.memory.shape[1:])
        start = torch.rand(size, generator=generator) < 0.3
        return {"memory": torch.rand(shape, generator=generator) * 2 - 1, "start": start}

    def _entities(self, size: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        if not self.entities or self.group.entities is None:
            return {}
        spec, count = self.group.entities, self.entities
        numbers = [
            torch.randn(size, count, spec.space, generator=generator) for _ in ("p", "v", "g")
        ]
        kind = torch.randint(spec.kinds, (size, count), generator=generator)
        mask = torch.rand(size, count, generator=generator) < 0.9
        for _, rows in self.static[0]:
            kind[:, rows.start : rows.stop] = 0
            mask[:, rows.start : rows.stop] = True
        return dict(zip(GRAPH, (*numbers, kind, mask), strict=True))


def _observations(group: AgentGroup, size: int, generator: torch.Generator) -> Tensor:
    spec, shape = group.observation, (size, group.size, *group.observation.shape)
    if not spec.is_image:
        return torch.randn(shape, generator=generator).to(spec.dtype)
    low, high = torch.tensor(spec.low), torch.tensor(spec.high)
    return (low + (high - low) * torch.rand(shape, generator=generator)).to(spec.dtype)


def _masks(group: AgentGroup, size: int, generator: torch.Generator) -> Tensor:
    """Draws masks that allow at least the first choice of each index."""
    allowed = torch.rand(size, group.size, group.action.mask_size, generator=generator) < 0.7
    first = 0
    for count in getattr(group.action, "nvec", (group.action.mask_size,)):
        allowed[..., first : first + 1] = True
        first += count
    return allowed
