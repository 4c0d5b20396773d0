"""Functions of tensors, and of trees of tensors such as the dataclasses in ``marl.types``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

T = TypeVar("T")


def register(cls: type[T]) -> type[T]:
    """Registers a dataclass of tensors as a pytree, and returns it.

    ``tree_map`` and ``torch.compile`` then see its tensors. Fields made by ``static_field`` are not
    among the leaves: they belong to the structure of the tree.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # a dataclass
    leaves = [field.name for field in fields if "static" not in field.metadata]
    static = [field.name for field in fields if "static" in field.metadata]
    pytree.register_pytree_node(
        cls,
        lambda value: ([getattr(value, n) for n in leaves], [getattr(value, n) for n in static]),
        lambda children, context: cls(
            **dict(zip([*leaves, *static], [*children, *(context or ())], strict=True))
        ),
    )
    return cls


def static_field(default: Any) -> Any:
    """Returns a field of a registered dataclass that is not a tensor and does not change."""
    return dataclasses.field(default=default, metadata={"static": True})


def tree_map(function: Callable[..., Any], tree: T, *others: T) -> T:
    """Returns a tree with ``function`` applied to the tensors of one or several trees.

    Args:
        function: takes one tensor of each tree; ``None`` in place of a tensor stays ``None``.
        tree: the first tree.
        *others: trees of the same structure.
    """
    return pytree.tree_map(
        lambda *leaves: None if leaves[0] is None else function(*leaves), tree, *others
    )


def tree_tensors(tree: Any) -> list[Tensor]:
    """Returns all tensors of a tree, in an order that depends on its structure only."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def take(tree: T, index: Tensor) -> T:
    """Selects frames from a tree of tensors ``[T, B, ...]``.

    Args:
        tree: the tensors.
        index: numbers ``t * B + b`` of the frames, of any shape ``[*]``, int64.

    Returns:
        The tree with tensors ``[*, ...]``.
    """
    flat = index.flatten()
    return tree_map(lambda x: x.flatten(0, 1).index_select(0, flat).unflatten(0, index.shape), tree)


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Returns numbers as a tensor ``[len(values)]``, which must not be written to.

    The tensor is made once and then reused, because a copy of numbers to a GPU makes the host wait
    until the GPU has finished everything before it.

    Args:
        values: the numbers.
        like: a tensor with the device and the dtype of the result.
    """
    if torch.compiler.is_compiling():  # then it becomes a part of the graph
        return like.new_tensor(values)
    return _constant(values, like.device, like.dtype)


@cache
def _constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, device=device, dtype=dtype)


def zero_absent(x: Tensor, alive: Tensor | None) -> Tensor:
    """Returns ``x`` with zeros for absent agents.

    Args:
        x: ``[..., N, *]``.
        alive: ``[..., N]`` bool, False for absent agents; None if all agents are present.
    """
    if alive is None:
        return x
    return torch.where(alive.reshape(*alive.shape, *[1] * (x.dim() - alive.dim())), x, 0.0)
