"""Where gradients become steps: in plain tensor code, so that a whole step, from gathering its
minibatch to moving the parameters, compiles into one graph."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from marl.types import Stats
from marl.utils import distributed

BETA1, BETA2 = 0.9, 0.999


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

    def step(self, loss: Tensor) -> Stats:
        """Descends ``loss`` once, across ranks the mean of theirs (``marl.utils.distributed``).

        Returns:
            The norm of each part's gradient before clipping, by part.
        """
        parameters = [p for part in self.parts.values() for p in part]
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        gradients, norms, begin = distributed.averages(gradients), {}, 0
        for name, part in self.parts.items():  # no iterator: older Dynamos lose count of one here
            grads, begin = gradients[begin : begin + len(part)], begin + len(part)
            norm = torch.stack([gradient.square().sum() for gradient in grads]).sum().sqrt()
            scale = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)
            self._descend(name, [gradient * scale for gradient in grads])
            norms[name] = norm
        return norms

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
