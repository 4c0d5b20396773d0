"""``torch.compile`` with the guards that matter."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import Any, TypeVar

import torch

from marl.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F, whole: bool = False) -> F:
    """``function`` as ``torch.compile`` makes it, gradients in the same graph. Each shape is
    compiled by itself, so that a resumed run computes what the first one did. ``whole``: it takes
    no gradients, and what does not fit into one graph is refused.

    Raises:
        UserError: there is no C++ compiler, or torch is too old.
    """
    compilers = [os.environ.get("CXX", "g++"), "clang++"]
    if not any(map(shutil.which, compilers)):
        raise UserError(
            "compile=true needs a C++ compiler, and there is neither "
            f"{' nor '.join(compilers)}; install one, or leave compile=false"
        )
    if not whole:
        _trace_gradients()
    options = {"guard_filter_fn": _of_arguments(function)}
    return torch.compile(_own_code(function), dynamic=False, fullgraph=whole, options=options)  # type: ignore[return-value]


def _trace_gradients() -> None:
    """Before 2.13 a graph breaks where gradients are taken, and what follows the break went wrong:
    with 2.11 the critic of a compiled MAPPO learned something else than that of an eager one."""
    version = tuple(map(int, torch.__version__.split(".")[:2]))
    if version < (2, 13):
        raise UserError(
            "algorithm.compile=true needs torch 2.13, which takes gradients into the graph, "
            f"and this is {torch.__version__}; upgrade it, or leave compile=false"
        )
    torch._dynamo.config.trace_autograd_ops = True


def _of_arguments(function: Any) -> Callable[[Sequence[Any]], list[bool]]:
    """Tells which of Dynamo's guards are checked at every call: those of the arguments and of the
    state of torch. What hangs on a method's ``self`` (networks, hyperparameters) and what modules
    hold is built once and stays, and to look whether it did costs more than a small step itself."""
    own = [name for name in inspect.signature(function).parameters if name != "self"]
    told = re.compile(rf"(L\[')?({'|'.join(own)})\b" if own else "$")
    return lambda guards: [not guard.name or bool(told.match(guard.name)) for guard in guards]


def _own_code(function: Any) -> Any:
    """A copy of a function or bound method with a code object of its own: Dynamo keeps what it
    compiled by code object, a few versions of each, and looks through all of them at every call."""
    plain = getattr(function, "__func__", function)
    if not isinstance(plain, FunctionType):
        return function
    own = FunctionType(
        plain.__code__.replace(),
        plain.__globals__,
        plain.__name__,
        plain.__defaults__,
        plain.__closure__,
    )
    own.__kwdefaults__ = plain.__kwdefaults__
    return MethodType(own, function.__self__) if hasattr(function, "__self__") else own
