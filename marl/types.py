"""The data that environments, policies and algorithms exchange.

Agent groups, observations, transitions and rollouts. Axis letters: ``T`` time, ``B`` environments,
``N`` agents of one group, ``A`` action, ``E`` entities, ``S`` state, ``D`` dimensions of space,
``H`` units of a memory. All classes are frozen dataclasses, and all but ``AgentGroup`` are
registered as pytrees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

# Names of ``marl.spaces`` and ``marl.tensors`` that are imported from here.
from marl.spaces import ActionSpec as ActionSpec
from marl.spaces import Continuous as Continuous
from marl.spaces import Discrete as Discrete
from marl.spaces import EntitySpec as EntitySpec
from marl.spaces import MultiDiscrete as MultiDiscrete
from marl.spaces import TensorSpec as TensorSpec
from marl.tensors import constant as constant
from marl.tensors import register as register
from marl.tensors import static_field
from marl.tensors import take as take
from marl.tensors import tree_map as tree_map
from marl.tensors import tree_tensors as tree_tensors
from marl.tensors import zero_absent as zero_absent


@dataclass(frozen=True)
class AgentGroup:
    """Agents with the same observation and action spaces, which one tensor holds together."""

    #: Key of the group in all mappings.
    name: str
    #: Names of the agents, in the order of the axis N.
    agents: tuple[str, ...]
    observation: TensorSpec
    action: ActionSpec
    #: True if observations hold an ``action_mask``.
    masked: bool = False
    #: True if agents may be absent, and observations hold ``alive``.
    mortal: bool = False
    #: Specification of ``Observation.graph``; None in environments without a graph.
    entities: EntitySpec | None = None

    @property
    def size(self) -> int:
        """N, the number of agents."""
        return len(self.agents)


# ------------------------------------------------------------------------------- from environments


@register
@dataclass(frozen=True)
class GroupObservation:
    """The observations of one group's agents."""

    #: ``[B, N, *shape]``; zeros for absent agents.
    obs: Tensor
    #: ``[B, N, mask_size]`` bool, True where an action is allowed; None in groups without masks.
    action_mask: Tensor | None = None
    #: ``[B, N]`` bool, False for absent agents; None in groups whose agents are always present.
    alive: Tensor | None = None


@register
@dataclass(frozen=True)
class EntityGraph:
    """The entities of an environment, all groups' agents among them.

    ``marl.networks.entity_graph`` computes its edges.
    """

    #: ``[B, E, D]``.
    position: Tensor
    #: ``[B, E, D]``.
    velocity: Tensor
    #: ``[B, E, D]``, the place that the entity is to reach; its own position if it has none.
    goal: Tensor
    #: ``[B, E]`` int64, 0 for agents.
    kind: Tensor
    #: ``[B, E]`` bool, False for absent entities.
    mask: Tensor
    #: Groups, and the indices of their agents among the entities.
    ego: tuple[tuple[str, range], ...] = static_field(())
    #: Largest distance at which entities sense each other, in the unit of ``position``.
    radius: float = static_field(math.inf)
    #: True if only agents receive messages; False if edges go both ways.
    directed: bool = static_field(True)


@register
@dataclass(frozen=True)
class Observation:
    """The observations of all groups at one moment."""

    groups: Mapping[str, GroupObservation]
    #: ``[B, S]``; None in environments without a state.
    state: Tensor | None = None
    #: None in environments without a graph.
    graph: EntityGraph | None = None


@register
@dataclass(frozen=True)
class Transition:
    """One step of all environments.

    An agent's own return ends for good where the agent is ``terminated``. It is cut where the agent
    is ``truncated``, by a limit of its own or by the episode's, and bootstrapped from ``next_obs``.
    No agent is both, and where an episode is ``done`` every agent still present is one of them.

    An agent that is truncated while its episode goes on is alive in ``next_obs``, with its last
    observation, and absent in ``obs``. Therefore the two differ where an episode is done or an
    agent is truncated and nowhere else, and a step without either may use one object for both.
    """

    #: The observation to act on next, after automatic resets.
    obs: Observation
    #: The observation that the step really led to, before any reset.
    next_obs: Observation
    #: Group -> ``[B, N]`` float32. Rewards that an agent gets after it has left count too.
    reward: Mapping[str, Tensor]
    #: Group -> ``[B, N]`` bool.
    terminated: Mapping[str, Tensor]
    #: Group -> ``[B, N]`` bool.
    truncated: Mapping[str, Tensor]
    #: ``[B]`` bool: the episode has ended for all its agents.
    done: Tensor
    #: Metrics of the episode by name, ``[B]`` float32, valid where ``done``.
    info: Mapping[str, Tensor]


# ------------------------------------------------------------------------------- between algorithms

#: Group -> the memories of its agents, ``[B, N, H]``; empty for policies without memory.
Carry: TypeAlias = Mapping[str, Tensor]
#: Group -> the random numbers that decide its actions. Policies add entries under longer names.
Noise: TypeAlias = Mapping[str, Tensor]
#: Group -> the tensors that ``Policy.evaluate`` needs beside the action.
Aux: TypeAlias = Mapping[str, Mapping[str, Tensor]]
#: Name -> a scalar on the device, which is read once per iteration.
Metrics: TypeAlias = Mapping[str, Tensor]
#: Name -> a scalar on the device, of one step of learning.
Stats: TypeAlias = dict[str, Tensor]


@register
@dataclass(frozen=True)
class PolicyStep:
    """The actions of a team at one moment."""

    #: Group -> ``[B, N, *action shape]``.
    action: Mapping[str, Tensor]
    #: Group -> ``[B, N]``.
    log_prob: Mapping[str, Tensor]
    #: The memories after the step.
    carry: Carry
    aux: Aux


@register
@dataclass(frozen=True)
class Rollout:
    """``T`` joint steps of ``B`` environments, for all groups of all teams."""

    #: ``[T, B, ...]``, what the agents acted on.
    obs: Observation
    #: ``[T, B, ...]``, the true successors, before any reset.
    next_obs: Observation
    #: Group -> ``[T, B, N, *action shape]``.
    action: Mapping[str, Tensor]
    #: Group -> ``[T, B, N]``, under the policy that acted.
    log_prob: Mapping[str, Tensor]
    aux: Aux
    #: Group -> ``[T, B, N]``.
    reward: Mapping[str, Tensor]
    #: Group -> ``[T, B, N]`` bool.
    terminated: Mapping[str, Tensor]
    #: Group -> ``[T, B, N]`` bool.
    truncated: Mapping[str, Tensor]
    #: ``[T, B]`` bool.
    done: Tensor
    #: ``[T, B]`` bool: an episode begins with this step, before which memories are set to zero.
    start: Tensor
    #: The policies' memories before the first step.
    carry: Carry

    @property
    def steps(self) -> int:
        """T, the number of steps."""
        return self.done.shape[0]

    @property
    def frames(self) -> int:
        """T * B, the number of frames: one step of one environment each."""
        return self.done.numel()
