"""Comparison of stored weights with those of a new algorithm: which tensors fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from marl.training.checkpoint_formats import State

#: Parts of an algorithm's state that are no weights: random numbers, memories and statistics.
NO_WEIGHTS = ("generator", "critic_carry", "actor_stats")
#: Parts whose shapes follow the number of agents and copies, and which new episodes begin anew.
OF_AGENTS = ("critic_carry",)
#: Parts that are loaded layer by layer; each other part as a whole or not at all.
BY_LAYER = ("policy", "target_policy")
#: Keys of the state of ``marl.learning.optimizer.Optimizer``.
OPTIMIZER = {"first", "second", "steps"}


@dataclass(frozen=True)
class Difference:
    """A tensor that does not fit."""

    #: Name in the part's state, such as ``networks.agent.head.weight``.
    tensor: str
    #: Shape in the earlier run; None if it has no such tensor.
    there: tuple[int, ...] | None
    #: Shape in the new run; None if it has no such tensor.
    here: tuple[int, ...] | None


@dataclass(frozen=True)
class Fit:
    """How one part of an algorithm's state fits."""

    #: The state to load: tensors of the earlier run where they fit, and else the new ones.
    state: Any
    #: Tensors of the new part, and how many of them are loaded.
    tensors: int
    loaded: int
    #: What does not fit.
    differences: list[Difference]

    @property
    def complete(self) -> bool:
        """Whether each tensor of the new part is loaded."""
        return self.loaded == self.tensors


def is_optimizer(part: Any) -> bool:
    """Returns whether a part of an algorithm's state is that of an optimizer."""
    return isinstance(part, Mapping) and (
        part.keys() == OPTIMIZER or part.keys() == {"state", "param_groups"}
    )


def has_weights(name: str, part: Any) -> bool:
    """Returns whether a part of an algorithm's state holds what it has learned.

    Args:
        name: the part's name in the state.
        part: its value.
    """
    return name not in NO_WEIGHTS and not is_optimizer(part) and bool(flat(part))


def flat(part: Any) -> dict[str, Tensor]:
    """Returns the tensors of nested mappings and lists by dotted names; of a tensor itself by
    ``""``."""
    return {name.removeprefix("."): tensor for name, tensor in _tensors(part, "")}


def _tensors(part: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(part, Tensor):
        yield name, part
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from _tensors(value, f"{name}.{key}")
    elif isinstance(part, list | tuple):
        for number, value in enumerate(part):
            yield from _tensors(value, f"{name}.{number}")


def fit_whole(new: Any, old: Any) -> Fit:
    """Fits a part that is loaded as a whole, or not at all.

    Args:
        new: the part of the new algorithm.
        old: the same part of the earlier run; None if it has none.
    """
    here, there = flat(new), flat(old)
    differences = [Difference(n, *_shapes(n, there, here)) for n in {**here, **there}]
    differences = [d for d in differences if d.there != d.here]
    loaded = 0 if differences else len(here)
    return Fit(old if loaded else new, len(here), loaded, differences)


def fit_layers(new: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> Fit:
    """Fits a module layer by layer.

    A layer is the tensors of one module (the part of the name before the last dot), such as weight
    and bias, or the moments of a normaliser: all of them are loaded, or none.

    Args:
        new: ``state_dict`` of the new module.
        old: ``state_dict`` of the module of the earlier run.
    """
    names = {**new, **old}
    differences = [Difference(n, *_shapes(n, old, new)) for n in names]
    differences = [d for d in differences if d.there != d.here]
    refused = {layer_of(d.tensor) for d in differences}
    fits = [name for name in new if layer_of(name) not in refused]
    return Fit({**new, **{n: old[n] for n in fits}}, len(new), len(fits), differences)


def fit_optimizer(new: Mapping[str, Any], old: Any) -> Fit:
    """Fits an optimizer part by part (``Optimizer.parts``), such as an actor's and a critic's.

    Args:
        new: state of the new optimizer.
        old: state of the optimizer of the earlier run, or something else.
    """
    if not is_optimizer(old) or old.keys() != OPTIMIZER or new.keys() != OPTIMIZER:
        return Fit(new, len(flat(new)), 0, [])
    fits = {part: fit_whole(_part(new, part), _part(old, part)) for part in new["first"]}
    state = {kind: {part: fits[part].state[kind][part] for part in fits} for kind in new}
    differences = [
        d for fit in fits.values() for d in fit.differences if d.tensor.startswith("first")
    ]
    loaded = sum(fit.loaded for fit in fits.values())
    return Fit(state, len(flat(new)), loaded, differences)


def _part(state: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Returns the state of one part of an optimizer: ``{first: {part: tensors}, ...}``."""
    return {kind: {part: by_part.get(part)} for kind, by_part in state.items()}


def layer_of(tensor: str) -> str:
    """Returns the name of the module that holds a tensor."""
    return tensor.rpartition(".")[0]


def nothing_fits(fit: Fit, new: State) -> Difference | None:
    """Returns a tensor that does not fit if no weights of a policy do, and else None.

    Biases and moments alone, of fewer than two axes, count as nothing where the policy has more.

    Args:
        fit: how the policy fits.
        new: ``state_dict`` of the new policy.
    """
    refused = {layer_of(d.tensor) for d in fit.differences}
    matrices = [n for n, x in new.items() if x.dim() > 1] or list(new)
    if not fit.differences or any(layer_of(name) not in refused for name in matrices):
        return None
    both = [d for d in fit.differences if d.there and d.here]
    return max(both or fit.differences, key=lambda d: len(d.here or ()) > 1)  # the first such


def _shapes(
    name: str, there: Mapping[str, Tensor], here: Mapping[str, Tensor]
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    old, new = there.get(name), here.get(name)
    return None if old is None else tuple(old.shape), None if new is None else tuple(new.shape)
