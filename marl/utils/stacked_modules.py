"""Stacks of networks: the weights of several copies as one tensor each, for one batched product."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from marl.errors import UserError


class Stack:
    """S copies of the same modules, whose tensors are stored in stacked ones, ``[S, ...]``.

    Afterwards each copy's parameters and buffers are views of its row, so that what changes one in
    place changes the other: copies go on to be saved, loaded and played by themselves.

    Args:
        copies: modules of each copy, by name; all copies have tensors of the same shapes.

    Attributes:
        size: S.
        tensors: the stacked parameters and buffers by name; parameters require gradients.
    """

    def __init__(self, copies: Sequence[Mapping[str, nn.Module]]):
        self.size = len(copies)
        holders = [_Holder(modules) for modules in copies]
        self._first = holders[0]
        self.tensors: dict[str, Tensor] = {}
        self._stacked: dict[int, Tensor] = {}  # by identity of the first copy's tensor
        of_copies = [_tensors(holder) for holder in holders]
        for name, tensor in of_copies[0].items():
            if id(tensor) in self._stacked:  # under a second name
                self.tensors[name] = self.of(tensor)
                continue
            rows = [tensors[name] for tensors in of_copies]
            stacked = torch.stack([row.detach() for row in rows])
            for row, value in zip(rows, stacked, strict=True):
                row.data = value
            stacked.requires_grad_(tensor.requires_grad)
            self.tensors[name] = self._stacked[id(tensor)] = stacked

    def of(self, tensor: Tensor) -> Tensor:
        """Returns the stacked tensor ``[S, ...]`` of a tensor of the first copy."""
        return self._stacked[id(tensor)]

    def map(
        self,
        function: Callable[..., Any],
        modules: Sequence[str] = (),
        side_by_side: bool = False,
    ) -> Callable[..., Any]:
        """Returns a function of all copies from one of the first.

        Args:
            function: reads and changes modules of the first copy and its arguments, which are trees
                of tensors, and nothing else that differs between copies. It neither depends on the
                values of tensors in Python nor draws random numbers.
            modules: names of the modules that it reads or changes; all if empty.
            side_by_side: whether the copies' rows follow each other along the first axis, ``S * B``
                in place of ``[S, B]``.

        Returns:
            The function whose arguments and results have a leading axis S, one row for each copy.
        """
        chosen = {
            name: tensor
            for name, tensor in self.tensors.items()
            if not modules or name.partition(".")[0] in modules
        }

        def mapped(*trees: Any) -> Any:
            leaves, spec = pytree.tree_flatten(trees)
            given = [x for x in leaves if x is not None]
            found: list[Any] = []

            def flat(tensors: dict[str, Tensor], given: list[Tensor]) -> list[Tensor]:
                parts = iter(given)
                arguments = [None if x is None else next(parts) for x in leaves]
                call = function, *pytree.tree_unflatten(arguments, spec)
                results, structure = pytree.tree_flatten(
                    functional_call(self._first, tensors, call, tie_weights=False)
                )
                found[:] = [structure, [x is None for x in results]]
                return [x for x in results if x is not None]

            if side_by_side:
                given = [x.unflatten(0, (self.size, -1)) for x in given]
            with _mapping():
                results = torch.vmap(flat)(chosen, given)
            structure, missing = found
            rows = iter([x.flatten(0, 1) for x in results] if side_by_side else results)
            return pytree.tree_unflatten(
                [None if is_missing else next(rows) for is_missing in missing], structure
            )

        return mapped


@contextmanager
def _mapping() -> Iterator[None]:
    """Marks what runs within as a call for all copies, and explains what has no such call."""
    global _depth
    _depth += 1
    try:
        yield
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0]
        if "atching rule" not in first and "vmap" not in first:
            raise
        raise UserError(
            f"a network of this run cannot be computed for several copies at once ({first}); take "
            "another one (model=mlp, or model=informarl model.form=dense), or leave stacked_seeds "
            "out"
        ) from error
    finally:
        _depth -= 1


_depth = 0  # calls of ``Stack.map``'s functions that have begun and not ended


def is_mapping() -> bool:
    """Returns whether a function is being computed for all copies of a stack, in which shapes must
    not depend on values."""
    return _depth > 0


class _Holder(nn.Module):
    """Modules by name, and a call of any function that reads them."""

    def __init__(self, modules: Mapping[str, nn.Module]):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Returns parameters and buffers by name; one that several modules share by all of its names,
    one of a module that has several names by the first."""
    found: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        of_part: Any = {"prefix": name, "recurse": False, "remove_duplicate": False}
        found.update([*part.named_parameters(**of_part), *part.named_buffers(**of_part)])
    return found
