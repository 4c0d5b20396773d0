"""Search for what keeps a step of VMAS out of a CUDA graph: work that needs the host.

A graph is recorded once and replayed. While it is recorded, nothing may depend on the contents of
tensors, and nothing may be copied from the host's own memory.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from marl.env import VectorEnv, random_action

READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal")
TO_HOST = ("tolist", "numpy", "cpu", "__array__")
FROM_HOST = ("tensor", "as_tensor")
# Ordered by how hard they are to remove.
WAITS, SELECTS, COPIES = "reads the device", "indexes by a mask", "copies numbers from the host"


class _Reads(TorchDispatchMode):
    """Records operations whose result's shape or value the host needs."""

    def __init__(self, reads: set[tuple[str, str]]) -> None:
        super().__init__()
        self.reads = reads

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False: else torch imports its compiler for every such mode."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in READS:
            self.reads.add((WAITS, _place()))
        if name in ("index", "index_put", "index_put_") and _selects(*args):
            self.reads.add((SELECTS, _place()))
        return func(*args, **(kwargs or {}))


class _Copies(TorchFunctionMode):
    """Records calls that copy to or from the host, which on a CPU no operation shows."""

    def __init__(self, reads: set[tuple[str, str]]) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in TO_HOST:
            self.reads.add((WAITS, _place()))
        if name in FROM_HOST and not isinstance(args[0], Tensor):
            self.reads.add((COPIES, _place()))
        return func(*args, **(kwargs or {}))


def find_reads(env: VectorEnv, steps: int = 3) -> list[str]:
    """Returns what needs the host in steps of random actions, such as ``reads the device in reward
    (navigation.py)``, the hardest to remove first.

    Args:
        env: the environment, on the CPU; it is reset.
        steps: number of steps.
    """
    reads: set[tuple[str, str]] = set()
    generator = torch.Generator().manual_seed(0)
    obs = env.reset(0)
    for number in range(1 + steps):  # the first prepares what stays
        action = {n: random_action(g, obs.groups[n], generator) for n, g in env.groups.items()}
        with _Copies(reads), _Reads(reads):
            obs = env.step(action).obs
        if number == 0:
            reads.clear()
    kinds = (WAITS, SELECTS, COPIES)
    ordered = sorted(reads, key=lambda read: (kinds.index(read[0]), read[1]))
    return [f"{kind} in {place}" for kind, place in ordered]


def _selects(tensor: Tensor, indices: Any, value: Tensor | None = None, *_: Any) -> bool:
    """Returns whether an indexing has a result, or reads values, of as many rows as a mask has.

    A single value is filled in by the mask.
    """
    masked = any(index is not None and index.dtype == torch.bool for index in indices)
    return masked and (value is None or value.numel() != 1)


def _place() -> str:
    """Returns the innermost function outside of torch and of this file, with its file."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path != Path(__file__) and "torch" not in path.parts:
            return f"{frame.f_code.co_name} ({path.name})"
        frame = frame.f_back
    return "?"
