"""Adam and RMSprop in plain tensor code, so that a whole gradient step compiles into one graph.

Such a step reaches from gathering the minibatch to moving the parameters.
"""

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
RMSPROP_DECAY = 0.99  # of the second moment; torch's default, and PyMARL's


class Optimizer:
    """Adam (Kingma & Ba 2015) over several named parts, such as an actor and a critic.

    Each part has its own learning rate and moments, and its gradient is clipped by itself.

    Args:
        parts: parameters by part.
        lr: initial learning rate by part.
        eps: added to the root of the second moment.
        max_norm: largest norm of a part's gradient; a longer one is scaled down to it.
    """

    def __init__(
        self,
        parts: Mapping[str, Iterable[Tensor]],
        lr: Mapping[str, float],
        eps: float,
        max_norm: float,
    ):
        self.parts = {name: list(parameters) for name, parameters in parts.items()}
        self.initial_lr, self.eps, self.max_norm = dict(lr), eps, max_norm
        self.lr, self.first, self.second, self.steps = {}, {}, {}, {}
        for name, part in self.parts.items():  # all tensors, for compiled code bakes numbers in
            self.lr[name] = torch.tensor(lr[name], device=part[0].device)
            self.first[name] = [torch.zeros_like(p) for p in part]  # first and second moments
            self.second[name] = [torch.zeros_like(p) for p in part]
            self.steps[name] = [torch.zeros((), device=p.device) for p in part]

    def select(self, name: str) -> Optimizer:
        """Returns an optimizer of one part, whose steps leave the other parts and their moments.

        It shares state and learning rate with this one. Its part is always named ``""``, so that
        code compiled for one part serves others of the same shape.
        """
        view = copy.copy(self)
        for field in ("parts", "lr", "initial_lr", "first", "second", "steps"):
            setattr(view, field, {"": getattr(self, field)[name]})
        return view

    def step(self, loss: Tensor) -> Stats:
        """Takes one step down the gradient of a loss, averaged over ranks.

        Args:
            loss: the loss of this rank, a scalar (see ``marl.utils.distributed``).

        Returns:
            The norm of each part's gradient before clipping, by part.
        """
        parameters = [p for part in self.parts.values() for p in part]
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        gradients, norms, begin = distributed.averages(gradients), {}, 0
        for name, part in self.parts.items():  # no iterator: older Dynamos lose count of one here
            grads, begin = gradients[begin : begin + len(part)], begin + len(part)
            norm = torch.stack([self._squares(gradient) for gradient in grads]).sum(0).sqrt()
            scale = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)
            self._descend(name, [self._scaled(gradient, scale) for gradient in grads])
            norms[name] = norm
        return norms

    def _squares(self, gradient: Tensor) -> Tensor:
        """Returns the sum of a gradient's squares."""
        return gradient.square().sum()

    def _scaled(self, gradient: Tensor, scale: Tensor) -> Tensor:
        return gradient * scale

    @torch.no_grad()
    def _descend(self, name: str, gradients: list[Tensor]) -> None:
        state = (self.first[name], self.second[name], [], self.steps[name])
        options: Any = {
            "lr": self.lr[name], "eps": self.eps, "beta1": BETA1, "beta2": BETA2,
            "weight_decay": 0.0, "amsgrad": False, "maximize": False,
        }  # fmt: skip
        if torch.compiler.is_compiling():
            adam(self.parts[name], gradients, *state, fused=False, **options)  # type: ignore[arg-type]  # parameters are tensors
        else:  # what ``adam`` calls if fused, without its preparations, which take as long
            gradients = list(map(_laid_out_as, gradients, self.parts[name]))
            torch._foreach_add_(self.steps[name], 1)  # type: ignore[attr-defined]  # not exported
            torch._fused_adam_(self.parts[name], gradients, *state, **options)  # type: ignore[attr-defined]

    def scale_lr(self, factor: float) -> None:
        """Sets each learning rate to ``factor`` times its initial value."""
        for name, lr in self.lr.items():
            lr.fill_(self.initial_lr[name] * factor)

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that a step changes in place."""
        every = (self.parts, self.first, self.second, self.steps)
        return [x for by_part in every for part in by_part.values() for x in part]

    def state_dict(self) -> dict[str, Any]:
        """Returns the moments and step counts by part; learning rates follow from the run."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Mapping[str, list[Tensor]]]) -> None:
        """Restores moments and step counts in place."""
        for kind, by_part in self.state_dict().items():
            for name, tensors in by_part.items():
                for tensor, loaded in zip(tensors, state[kind][name], strict=True):
                    tensor.copy_(loaded)


def _laid_out_as(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Returns a gradient in the order in which its parameter is stored, which the fused kernel
    takes for granted."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012) over several named parts; arguments are ``Optimizer``'s.

    Gradients are divided by the root of their second moment alone, which is not corrected for its
    start from 0, so that the first steps are the largest.
    """

    @torch.no_grad()
    def _descend(self, name: str, gradients: list[Tensor]) -> None:
        for p, gradient, second in zip(self.parts[name], gradients, self.second[name], strict=True):
            second.mul_(RMSPROP_DECAY).addcmul_(gradient, gradient, value=1 - RMSPROP_DECAY)
            p.sub_(self.lr[name] * gradient / (second.sqrt() + self.eps))


#: Optimizers by the words of a configuration.
OPTIMIZERS = {"adam": Optimizer, "rmsprop": RMSprop}
