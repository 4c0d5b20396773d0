"""CUDA graphs of functions that read and write the same tensors in every call.

A graph is a recording of eager kernels: replaying it costs one launch, whatever their number. It
reads its inputs from tensors of its own, into which each call copies what differs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from marl.utils import distributed

R = TypeVar("R")
#: Tensors of a tree, with None in place of tensors that are not there.
Leaves: TypeAlias = Sequence[Tensor | None]
#: Records a function without arguments; returns what replays it, and the function's result.
Record: TypeAlias = Callable[[Callable[[], Leaves]], tuple[Callable[[], None], Leaves]]

CONTIGUOUS = torch.contiguous_format  # an expanded tensor cannot be written to
WARMUPS = 2  # calls before the recording, in which libraries allocate what they need


def cuda_graph(function: Callable[[], Leaves]) -> tuple[Callable[[], None], Leaves]:
    """Records a function as a CUDA graph.

    Args:
        function: reads and writes the same tensors in every call; neither waits for the device nor
            draws random numbers.

    Returns:
        The replay, and the tensors that each replay writes the results to.
    """
    present, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(present)
    with torch.cuda.stream(side):
        for _ in range(WARMUPS):
            function()
    present.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph.replay, results


def fall_back(word: str, what: str, cause: Exception | str) -> None:
    """Prints what part of a run is eager in spite of its ``execution``, and why, on one line.

    Args:
        word: the execution.
        what: the part.
        cause: the error that another way led to, or a clause.
    """
    if isinstance(cause, Exception):
        lines = (line.strip() for line in str(cause).splitlines())
        cause = f"{type(cause).__name__}: {next(filter(None, lines), '')}"
    if distributed.rank() == 0:
        line = f"marl: execution={word}: {what} is eager, for {cause}"
        print(line, file=sys.stderr, flush=True)


class Captured:
    """A function of tensors that is recorded at once and replayed by each call.

    Args:
        function: takes leaves and returns leaves, always of the same shapes.
        leaves: arguments of the shapes to come.
        state: tensors that the function changes in place; recording leaves them as they are.
        record: how it is recorded.
    """

    def __init__(
        self,
        function: Callable[[Leaves], Leaves],
        leaves: Leaves,
        state: Sequence[Tensor] = (),
        record: Record | None = None,
    ):
        self._inputs = [None if x is None else x.clone(memory_format=CONTIGUOUS) for x in leaves]
        self._latest: list[tuple[Tensor | None, int]] = [(None, 0) for _ in leaves]
        before = [x.detach().clone() for x in state]
        try:
            self._replay, self._results = (record or cuda_graph)(lambda: function(self._inputs))
        finally:
            with torch.no_grad():
                for x, value in zip(state, before, strict=True):
                    x.copy_(value)

    def __call__(self, leaves: Leaves) -> Leaves:
        """Returns the results, valid until the next call.

        Args:
            leaves: arguments; those that no one has written to since the last call, in which they
                were the same objects, are not copied again.
        """
        for number, (slot, x) in enumerate(zip(self._inputs, leaves, strict=True)):
            if slot is None or x is None:
                continue
            same, version = self._latest[number]
            if x is not same or x._version != version:
                slot.copy_(x)
                self._latest[number] = (x, x._version)
        self._replay()
        # A replay does not count as writing: as new objects they are copied where they come back.
        return [None if x is None else x.detach() for x in self._results]


class CapturedStep(Generic[R]):
    """A step of learning that is captured for every shape of its arguments.

    Where that fails, a line on stderr names the cause, and the step runs eager from then on.

    Args:
        function: takes trees of tensors, changes ``state`` in place, and returns a tree of tensors.
        state: returns all that it changes.
        record: how it is recorded.
    """

    def __init__(
        self,
        function: Callable[..., R],
        state: Callable[[], Sequence[Tensor]],
        record: Record | None = None,
    ):
        self._function, self._state, self._record = function, state, record
        self._graphs: dict[Any, tuple[Captured, _Results]] = {}
        self._fails = False

    def __call__(self, *trees: Any) -> R:
        leaves, spec = pytree.tree_flatten(trees)
        key = spec, tuple(None if x is None else (x.shape, x.dtype) for x in leaves)
        if not self._fails and key not in self._graphs:
            try:
                self._graphs[key] = self._capture(leaves, spec)
            except Exception as error:
                fall_back("captured", "learning", error)
                self._fails = True
        if self._fails:
            return self._function(*trees)
        captured, results = self._graphs[key]
        return results.unpack(captured(leaves))

    def _capture(self, leaves: Leaves, spec: Any) -> tuple[Captured, _Results]:
        results = _Results()

        def flat(leaves: Leaves) -> Leaves:
            return results.pack(self._function(*pytree.tree_unflatten(list(leaves), spec)))

        return Captured(flat, leaves, self._state(), self._record), results


class _Results:
    """The results of a captured step: its scalars, such as statistics, in one tensor, so that one
    copy keeps them all from the next replay."""

    def pack(self, tree: Any) -> Leaves:
        """Returns the tensors that a graph leaves, and remembers where they belong."""
        leaves, self._structure = pytree.tree_flatten(tree)
        self._scalar = [x is not None and x.dim() == 0 for x in leaves]
        pairs = list(zip(leaves, self._scalar, strict=True))
        scalars = [x for x, is_scalar in pairs if is_scalar]
        others = [x for x, is_scalar in pairs if not is_scalar]
        return [torch.stack(scalars) if scalars else None, *others]

    def unpack(self, packed: Leaves) -> Any:
        """Returns the tree that ``pack`` took, in tensors of its own."""
        first, *rest = (None if x is None else x.clone() for x in packed)
        scalars, others = iter(() if first is None else first.unbind()), iter(rest)
        leaves = [next(scalars if is_scalar else others) for is_scalar in self._scalar]
        return pytree.tree_unflatten(leaves, self._structure)
