"""Where gradients become steps: in plain tensor code, so that a whole step, from gathering its
minibatch to moving the parameters, compiles into one graph."""

from __future__ import annotations

import copy
import inspect
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim.adam import adam

from marl import ranks
from marl.errors import UserError

BETA1, BETA2 = 0.9, 0.999
F = TypeVar("F", bound=Callable[..., Any])


class Optimizer:
    """Adam (Kingma & Ba 2015) over several parts (actor, critic), each with its own learning rate
    and moments, and its gradient clipped by itself.

    Args:
        parts: the parameters of each part.
        lr: the learning rate of each part.
        eps: added to the root of the second moment.
        max_norm: each part's gradient is clipped to this norm.
    """

    def __init__(
        self,
        parts: Mapping[str, Iterable[Tensor]],
        lr: Mapping[str, float],
        eps: float,
        max_norm: float,
    ):
        self.parts = {name: list(parameters) for name, parameters in parts.items()}
        self.first_lr, self.eps, self.max_norm = dict(lr), eps, max_norm
        self.lr, self.first, self.second, self.steps = {}, {}, {}, {}
        for name, part in self.parts.items():  # tensors all: a number would be compiled in
            self.lr[name] = torch.tensor(lr[name], device=part[0].device)
            self.first[name] = [torch.zeros_like(p) for p in part]  # moments of the gradient
            self.second[name] = [torch.zeros_like(p) for p in part]
            self.steps[name] = [torch.zeros((), device=p.device) for p in part]

    def only(self, name: str) -> Optimizer:
        """This optimizer's hold of one part: its steps leave the other parts and their moments
        alone. State and learning rate are shared, whoever sets them. All look alike, so that what
        is compiled for one serves for others of the same shape."""
        one = copy.copy(self)
        for field in ("parts", "lr", "first_lr", "first", "second", "steps"):
            setattr(one, field, {"": getattr(self, field)[name]})
        return one

    def step(self, loss: Tensor) -> Tensor:
        """Descends ``loss`` once, across ranks the mean of theirs (``marl.ranks``); returns each
        part's gradient norm before clipping."""
        parameters = [p for part in self.parts.values() for p in part]
        found = torch.autograd.grad(loss, parameters, materialize_grads=True)
        gradients, norms, taken = ranks.averages(found), [], 0
        for name, part in self.parts.items():  # no iterator: older Dynamos lose count of one here
            mine, taken = gradients[taken : taken + len(part)], taken + len(part)
            norm = torch.stack([gradient.square().sum() for gradient in mine]).sum().sqrt()
            scale = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)
            self._descend(name, [gradient * scale for gradient in mine])
            norms.append(norm)
        return torch.stack(norms)

    @torch.no_grad()
    def _descend(self, name: str, gradients: list[Tensor]) -> None:
        adam(
            self.parts[name], gradients, self.first[name], self.second[name], [], self.steps[name],  # type: ignore[arg-type]  # parameters are tensors
            lr=self.lr[name], eps=self.eps, beta1=BETA1, beta2=BETA2, weight_decay=0.0,  # type: ignore[arg-type]  # a tensor will do
            amsgrad=False, maximize=False, fused=not torch.compiler.is_compiling(),
        )  # fmt: skip

    def scale_lr(self, factor: float) -> None:
        """Sets every learning rate to ``factor`` times the first one."""
        for name, lr in self.lr.items():
            lr.fill_(self.first_lr[name] * factor)

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Mapping[str, list[Tensor]]]) -> None:
        for kind, mine in self.state_dict().items():
            for name, tensors in mine.items():
                for tensor, loaded in zip(tensors, state[kind][name], strict=True):
                    tensor.copy_(loaded)


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
