"""Programs: pure functions of tensors, run eager, compiled by ``torch.compile``, or captured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from torch import Tensor
from torch.utils import _pytree as pytree

from marl.utils.capture import Captured, CapturedStep, Leaves
from marl.utils.compilation import compile_function

R = TypeVar("R")
#: A function of the tensors alone.
Flat: TypeAlias = Callable[[Leaves], Leaves]
#: Returns what runs in place of a flat function, for arguments of the shapes of the given ones.
Prepare: TypeAlias = Callable[[Flat, Leaves], Flat]


def eager(function: Flat, leaves: Leaves) -> Flat:
    """Returns the function itself."""
    return function


def compiled(function: Flat, leaves: Leaves) -> Flat:
    """Returns the function compiled into one graph, without gradients."""
    return compile_function(function, whole=True)


def captured(function: Flat, leaves: Leaves) -> Flat:
    """Returns the function captured as a CUDA graph."""
    return Captured(function, leaves)


def learning_step(
    word: str,
    function: Callable[..., R],
    state: Callable[[], Sequence[Tensor]] = tuple,
) -> Callable[..., R]:
    """Returns a step of learning that runs as ``word`` says.

    Args:
        word: ``eager``, ``compiled`` or ``captured``.
        function: takes trees of tensors, changes parameters and moments in place, and returns a
            tree of tensors.
        state: returns the tensors that it changes.
    """
    if word == "captured":
        return CapturedStep(function, state)
    return compile_function(function) if word == "compiled" else function


class TreeFunction:
    """A pure function of trees, as a function of their tensors, for arguments of one structure.

    Passing lists of tensors from one call to the next costs a fraction of passing trees.

    Args:
        function: takes trees and returns several; changes nothing else.
        examples: arguments of the structure and shapes to come. The function is called with them.

    Attributes:
        results: structure of each of the results.
    """

    def __init__(self, function: Callable[..., Any], examples: Sequence[Any]):
        self._leaves, spec = pytree.tree_flatten(tuple(examples))
        self.results = [pytree.tree_structure(part) for part in function(*examples)]

        def flat(leaves: Leaves) -> Leaves:
            return pytree.tree_leaves(function(*pytree.tree_unflatten(list(leaves), spec)))

        self._run = self._function = flat

    def prepare(self, prepare: Prepare) -> None:
        """Prepares the function to run as ``prepare`` says, and calls it once; if that fails, it
        stays as it was, and the error is raised."""
        run = prepare(self._function, self._leaves)
        run(self._leaves)
        self._run = run

    def __call__(self, leaves: Leaves) -> Leaves:
        """Returns the leaves of the results, from the leaves of the arguments."""
        return self._run(leaves)
