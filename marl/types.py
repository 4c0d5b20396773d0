"""The tensors that everything exchanges: agent groups, observations, transitions, rollouts.

Axis letters: ``T`` time, ``B`` environments, ``N`` agents of one group, ``A`` action, ``E``
entities, ``S`` state, ``D`` space dimensions. All classes are frozen dataclasses registered as
pytrees.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

T = TypeVar("T")


def register(cls: type[T]) -> type[T]:
    """Registers a dataclass of tensors as a pytree, so that ``tree_map`` and ``torch.compile`` see
    into it. Fields made by ``fixed`` are no leaves: they belong to the tree's structure."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # a dataclass
    names = [field.name for field in fields if "fixed" not in field.metadata]
    others = [field.name for field in fields if "fixed" in field.metadata]
    pytree.register_pytree_node(
        cls,
        lambda value: ([getattr(value, n) for n in names], [getattr(value, n) for n in others]),
        lambda children, kept: cls(
            **dict(zip([*names, *others], [*children, *(kept or ())], strict=True))
        ),
    )
    return cls


def fixed(default: Any) -> Any:
    """A field of a registered dataclass that is no tensor and stays the same."""
    return dataclasses.field(default=default, metadata={"fixed": True})


def tree_map(function: Callable[..., Any], tree: T, *others: T) -> T:
    """Applies ``function`` to the tensors of one or several trees of the same shape; ``None`` stays
    ``None``."""
    return pytree.tree_map(
        lambda *leaves: None if leaves[0] is None else function(*leaves), tree, *others
    )


def tree_tensors(tree: Any) -> list[Tensor]:
    """All tensors of a tree, in a fixed order."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def take(tree: T, index: Tensor) -> T:
    """The frames of ``index`` (any shape, counting ``t * B + b``) of a tree ``[T, B, ...]``."""
    flat = index.flatten()
    return tree_map(lambda x: x.flatten(0, 1).index_select(0, flat).unflatten(0, index.shape), tree)


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """``values`` beside ``like`` and of its type, made once, not to be written to: to copy numbers
    to a GPU the host waits until it has done all it was asked."""
    if torch.compiler.is_compiling():  # then it is part of the graph
        return like.new_tensor(values)
    return _constant(values, like.device, like.dtype)


@cache
def _constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, device=device, dtype=dtype)


def zero_absent(x: Tensor, alive: Tensor | None) -> Tensor:
    """Returns ``x [..., N, *]`` with zeros where ``alive [..., N]`` is False; None means that all
    are there."""
    if alive is None:
        return x
    return torch.where(alive.reshape(*alive.shape, *[1] * (x.dim() - alive.dim())), x, 0.0)


# ------------------------------------------------------------------------------------------- spaces


@dataclass(frozen=True)
class TensorSpec:
    """What one agent observes: a tensor of this shape; images are ``[H, W, C]`` of bytes or floats.

    ``low`` and ``high`` are the bounds of an image's channels, between which it is scaled to 0..1
    before a network reads it; of bytes they are 0 and 255. What has none is no image."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype == torch.uint8 and len(self.shape) == 3 and not self.low:
            object.__setattr__(self, "low", (0.0,) * self.shape[-1])
            object.__setattr__(self, "high", (255.0,) * self.shape[-1])

    @property
    def is_image(self) -> bool:
        return bool(self.low)

    @property
    def size(self) -> int:
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True)
class Discrete:
    """One choice among ``n``: int64 indices of shape ``[..., N]``."""

    n: int

    shape = ()
    dtype = torch.int64

    @property
    def encoded_size(self) -> int:
        return self.n

    @property
    def mask_size(self) -> int:
        return self.n

    def encode(self, action: Tensor) -> Tensor:
        """One-hot, ``[..., n]`` float32."""
        return F.one_hot(action, self.n).float()


@dataclass(frozen=True)
class MultiDiscrete:
    """Several choices at once: int64 indices of shape ``[..., N, K]``, the k-th among
    ``nvec[k]``."""

    nvec: tuple[int, ...]

    dtype = torch.int64

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.nvec),)

    @property
    def encoded_size(self) -> int:
        return sum(self.nvec)

    @property
    def mask_size(self) -> int:
        return sum(self.nvec)

    def encode(self, action: Tensor) -> Tensor:
        """The choices' one-hots side by side, ``[..., sum(nvec)]`` float32."""
        parts = [F.one_hot(action[..., k], n) for k, n in enumerate(self.nvec)]
        return torch.cat(parts, dim=-1).float()


@dataclass(frozen=True)
class Continuous:
    """A vector within bounds: float32 of shape ``[..., N, A]``."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    dtype = torch.float32

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.low),)

    @property
    def encoded_size(self) -> int:
        return len(self.low)

    @property
    def mask_size(self) -> int:
        return 0

    @property
    def free(self) -> tuple[float, ...]:
        """1.0 where the bounds leave a choice, 0.0 where they are the same."""
        return tuple(float(low < high) for low, high in self._bounds)

    def encode(self, action: Tensor) -> Tensor:
        """In [-1, 1] whatever the bounds; 0 where they are the same."""
        centre = constant(self._centre, action)
        scale = tuple(2 / (high - low) if low < high else 0.0 for low, high in self._bounds)
        return ((action - centre) * constant(scale, action)).clamp(-1, 1)

    def decode(self, encoded: Tensor) -> Tensor:
        """The action that ``encode`` gives back as ``encoded``."""
        half = tuple((high - low) / 2 for low, high in self._bounds)
        return constant(self._centre, encoded) + constant(half, encoded) * encoded

    def zero_fixed(self, encoded: Tensor) -> Tensor:
        """``encoded [..., A]`` with zeros where the bounds leave no choice."""
        return encoded if all(self.free) else encoded * constant(self.free, encoded)

    @property
    def _bounds(self) -> list[tuple[float, float]]:
        return list(zip(self.low, self.high, strict=True))

    @property
    def _centre(self) -> tuple[float, ...]:
        return tuple((low + high) / 2 for low, high in self._bounds)


ActionSpec: TypeAlias = Discrete | MultiDiscrete | Continuous


@dataclass(frozen=True)
class EntitySpec:
    """What the graph of an environment tells of an entity."""

    space: int  # D, of positions, velocities and goals
    kinds: int  # how many there are


@dataclass(frozen=True)
class AgentGroup:
    """Agents alike in what they see and do, so that one tensor holds them all.

    ``masked`` says whether observations carry an action mask; ``mortal`` whether agents may be
    absent (``GroupObservation.alive``)."""

    name: str
    agents: tuple[str, ...]
    observation: TensorSpec
    action: ActionSpec
    masked: bool = False
    mortal: bool = False
    entities: EntitySpec | None = None  # of Observation.graph, where there is one

    @property
    def size(self) -> int:
        return len(self.agents)


# --------------------------------------------------------------------------- what environments give


@register
@dataclass(frozen=True)
class GroupObservation:
    obs: Tensor  # [B, N, *shape]
    action_mask: Tensor | None = None  # [B, N, mask_size] bool, True where allowed
    alive: Tensor | None = None  # [B, N] bool; an absent agent observes zeros


@register
@dataclass(frozen=True)
class EntityGraph:
    """The entities of one environment: all groups' agents and things;
    ``marl.networks.entity_graph`` reads it."""

    position: Tensor  # [B, E, D]
    velocity: Tensor  # [B, E, D]
    goal: Tensor  # [B, E, D] where one is to be; its own position where there is no such place
    kind: Tensor  # [B, E] int64, 0 for agents
    mask: Tensor  # [B, E] bool, False for what is not there
    ego: tuple[tuple[str, range], ...] = fixed(())  # groups, and where their agents stand among E
    radius: float = fixed(math.inf)  # how far entities sense each other, in the unit of position
    directed: bool = fixed(True)  # only agents hear; False: edges go both ways


@register
@dataclass(frozen=True)
class Observation:
    groups: Mapping[str, GroupObservation]
    state: Tensor | None = None  # [B, S]; where there is none, critics concatenate observations
    graph: EntityGraph | None = None


@register
@dataclass(frozen=True)
class Transition:
    """One step of all environments.

    An agent's own return ends for good where it is ``terminated``. It is cut where the agent is
    ``truncated``, by a limit of its own or by the episode's, and bootstrapped from ``next_obs``. No
    agent is both, and where an episode is ``done`` everyone who is still there is one of them.

    An agent that is truncated while its episode goes on is alive in ``next_obs``, with its last
    observation, and absent in ``obs``. So the two differ where an episode is done or an agent is
    truncated and nowhere else, and a step without either may give one object as both.
    """

    obs: Observation  # to act on next, after auto-reset
    next_obs: Observation  # the true successor
    reward: Mapping[str, Tensor]  # [B, N]; what an agent is paid after it left counts too
    terminated: Mapping[str, Tensor]  # [B, N] bool
    truncated: Mapping[str, Tensor]  # [B, N] bool
    done: Tensor  # [B] bool; the episode ended, for all its agents
    info: Mapping[str, Tensor]  # named episode metrics, [B] float32, valid where done


# ------------------------------------------------------------------------- what algorithms exchange

Carry: TypeAlias = Mapping[str, Tensor]  # group -> [B, N, H]; empty without memory
Noise: TypeAlias = Mapping[str, Tensor]  # group -> the random numbers that draw its actions
Aux: TypeAlias = Mapping[
    str, Mapping[str, Tensor]
]  # group -> what `evaluate` needs besides the action
Metrics: TypeAlias = Mapping[str, Tensor]  # scalars on the device, read once per iteration
Stats: TypeAlias = dict[str, Tensor]  # of one step of learning: scalars on the device, by name


@register
@dataclass(frozen=True)
class PolicyStep:
    action: Mapping[str, Tensor]  # group -> [B, N, *action shape]
    log_prob: Mapping[str, Tensor]  # group -> [B, N]
    carry: Carry
    aux: Aux


@register
@dataclass(frozen=True)
class Rollout:
    """``T`` joint steps of ``B`` environments, for all groups of all teams."""

    obs: Observation  # [T, B, ...]
    next_obs: Observation  # [T, B, ...] true successors, before any reset
    action: Mapping[str, Tensor]  # [T, B, N, *action shape]
    log_prob: Mapping[str, Tensor]  # [T, B, N] under the policy that acted
    aux: Aux
    reward: Mapping[str, Tensor]  # [T, B, N]
    terminated: Mapping[str, Tensor]  # [T, B, N] bool
    truncated: Mapping[str, Tensor]  # [T, B, N] bool
    done: Tensor  # [T, B] bool
    start: Tensor  # [T, B] bool: an episode begins here, memories are zeroed before use
    carry: Carry  # the policies' memories before the first step, [B, N, H]

    @property
    def steps(self) -> int:
        return self.done.shape[0]

    @property
    def frames(self) -> int:
        return self.done.numel()
