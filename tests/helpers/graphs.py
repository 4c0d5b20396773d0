"""CUDA graphs without a GPU: a recording that calls its function again at every replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from marl.utils import capture
from marl.utils.capture import Leaves


def fake_graph(function: Callable[[], Leaves]) -> tuple[Callable[[], None], Leaves]:
    """Stands for ``capture.cuda_graph``: warms up, and writes to the same tensors at each
    replay."""
    for _ in range(capture.WARMUPS):
        function()
    results = [None if x is None else x.clone(memory_format=capture.CONTIGUOUS) for x in function()]

    def replay() -> None:
        for old, new in zip(results, function(), strict=True):
            if old is not None and new is not None:
                old.data.copy_(new)  # as a replay, unseen by the version of the tensor

    return replay, results


def use_fake_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a CPU capture."""
    fake: Any = fake_graph
    monkeypatch.setattr(capture, "cuda_graph", fake)
