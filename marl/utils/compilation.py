"""``torch.compile`` with only those guards that are necessary."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import Any, TypeVar

import torch

from marl.errors import UserError
from marl.utils.files import cache_directory

CACHE = "TORCHINDUCTOR_CACHE_DIR"
F = TypeVar("F", bound=Callable[..., Any])


def compile_function(function: F, whole: bool = False) -> F:
    """Returns ``function`` compiled by ``torch.compile``, with gradients in the same graph.

    Each shape is compiled by itself, so that a resumed run computes what the first one did.

    Args:
        function: a function or bound method of tensors.
        whole: refuse what does not fit into one graph; only for functions that take no gradients.

    Raises:
        UserError: there is no C++ compiler, or this version of torch is too old.
    """
    compilers = [os.environ.get("CXX", "g++"), "clang++"]
    if not any(map(shutil.which, compilers)):
        raise UserError(
            "compile=true needs a C++ compiler, and this machine has neither "
            f"{' nor '.join(compilers)}; install one, or leave compile=false"
        )
    keep_compiled_code()
    if not whole:
        _trace_gradients()
    options = {"guard_filter_fn": _argument_guards(function)}
    return torch.compile(_copy_code(function), dynamic=False, fullgraph=whole, options=options)  # type: ignore[return-value]


def keep_compiled_code() -> None:
    """Has torch keep compiled code in the user's cache, for later processes.

    Torch's own place is in ``/tmp``, which machines empty. It is used where the user's cache cannot
    be written to. A directory in the variable ``TORCHINDUCTOR_CACHE_DIR`` stays.
    """
    folder = cache_directory()
    if CACHE in os.environ or folder is None:
        return
    with contextlib.suppress(OSError):
        (folder / "inductor").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder / "inductor"):
            os.environ[CACHE] = str(folder / "inductor")


def _trace_gradients() -> None:
    """Lets Dynamo trace gradients.

    Before 2.13 a graph breaks where gradients are taken, and what follows the break is wrong: with
    2.11 the critic of a compiled MAPPO learned something else than that of an eager one.
    """
    version = tuple(map(int, torch.__version__.split(".")[:2]))
    if version < (2, 13):
        raise UserError(
            "algorithm.compile=true needs torch 2.13, which takes gradients into the graph, "
            f"and this is {torch.__version__}; upgrade it, or leave compile=false"
        )
    torch._dynamo.config.trace_autograd_ops = True


def _argument_guards(function: Any) -> Callable[[Sequence[Any]], list[bool]]:
    """Returns a filter for Dynamo's guards, which are checked at every call.

    It keeps the guards on arguments and on the state of torch. The attributes of a method's
    ``self`` (networks, hyperparameters) and the contents of modules are built once and do not
    change, and to check them costs more than a small step itself.
    """
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    argument = re.compile(rf"(L\[')?({'|'.join(names)})\b" if names else "$")
    return lambda guards: [not guard.name or bool(argument.match(guard.name)) for guard in guards]


def _copy_code(function: Any) -> Any:
    """Returns a copy of a function or bound method with its own code object.

    Dynamo stores compiled code by code object, a few versions of each, and looks through all of
    them at every call.
    """
    plain = getattr(function, "__func__", function)
    if not isinstance(plain, FunctionType):
        return function
    copy = FunctionType(
        plain.__code__.replace(),
        plain.__globals__,
        plain.__name__,
        plain.__defaults__,
        plain.__closure__,
    )
    copy.__kwdefaults__ = plain.__kwdefaults__
    return MethodType(copy, function.__self__) if hasattr(function, "__self__") else copy
