"""Random streams of one VMAS environment, apart from everybody else's.

VMAS draws from the process's global generators. Around each call the environment's own states are
installed, and afterwards the process's restored. Torch's are swapped at every step (microseconds);
numpy's and Python's (hundreds) only for construction and resets, the only times VMAS draws from
them.
"""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

SEEDS = 2**31  # numpy takes seeds below 2**32


class TorchStream(AbstractContextManager[None]):
    """Context in which torch's default generators (CPU, and the CUDA device's) continue this
    stream.

    Args:
        device: where the environment runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._devices = [torch.device("cpu")]
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            torch.cuda.init()  # before that there are no default generators
            index = torch.cuda.current_device() if device.index is None else device.index
            self._devices.append(torch.device("cuda", index))
            self._generators.append(torch.cuda.default_generators[index])
        self.states: list[Tensor] = []
        self._outer: list[Tensor] = []
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Restarts the stream from ``seed``."""
        self.states = [torch.Generator(d).manual_seed(seed).get_state() for d in self._devices]

    def __enter__(self) -> None:
        self._outer = self._exchange(self.states)

    def __exit__(self, *exception: object) -> None:
        self.states = self._exchange(self._outer)

    def _exchange(self, states: list[Tensor]) -> list[Tensor]:
        before = [generator.get_state() for generator in self._generators]
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)
        return before


class HostStream(AbstractContextManager[None]):
    """Context in which the global generators of numpy and Python continue this stream."""

    def __init__(self) -> None:
        self.states: tuple[Any, Any] = (None, None)
        self._outer: tuple[Any, Any] = (None, None)
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Restarts the stream from ``seed``."""
        # The old numpy interface throughout: it is the one that VMAS draws from.
        self.states = (np.random.RandomState(seed).get_state(), random.Random(seed).getstate())

    def __enter__(self) -> None:
        self._outer = self._exchange(self.states)

    def __exit__(self, *exception: object) -> None:
        self.states = self._exchange(self._outer)

    def _exchange(self, states: tuple[Any, Any]) -> tuple[Any, Any]:
        before = (np.random.get_state(), random.getstate())  # noqa: NPY002
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
        return before


class RandomStreams:
    """Random streams of one environment: contexts around everything that draws random numbers.

    Args:
        device: where the environment runs.

    Attributes:
        torch: stream of torch's default generators.
        host: stream of numpy's and Python's global generators.
    """

    def __init__(self, device: torch.device) -> None:
        self.torch = TorchStream(device)
        self.host = HostStream()

    def everything(self) -> ExitStack:
        """Returns a context of both streams, for construction and resets."""
        stack = ExitStack()
        stack.enter_context(self.torch)
        stack.enter_context(self.host)
        return stack

    def seed(self, seed: int) -> None:
        """Restarts both streams from ``seed``."""
        self.torch.seed(seed % SEEDS)
        self.host.seed(seed % SEEDS)

    def state_dict(self) -> dict[str, Any]:
        (name, keys, position, has_gauss, gauss), (version, words, normal) = self.host.states
        numpy_state = [str(name), torch.from_numpy(keys.astype(np.int64))]
        numpy_state += [int(position), int(has_gauss), float(gauss)]
        return {
            "torch": [state.clone() for state in self.torch.states],
            "numpy": numpy_state,
            "python": [version, list(words), normal],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.torch.states = [saved.cpu().clone() for saved in state["torch"]]
        name, keys, *rest = state["numpy"]
        version, words, normal = state["python"]
        numpy_state = (name, keys.cpu().numpy().astype(np.uint32), *rest)
        self.host.states = (numpy_state, (version, tuple(words), normal))
