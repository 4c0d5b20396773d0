"""What only a CUDA device shows: the loop on it, and exact resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from marl.checkpoint import Checkpoints
from marl.experiment import Experiment
from tests.runs import experiment, outcome

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.mark.parametrize("task", ["identity", "vmas/navigation"])
def test_a_run_on_the_gpu_resumes(tmp_path: Path, task: str) -> None:
    """Without its last checkpoint, a run plays its last part again."""
    directory = tmp_path / "run"
    experiment(directory, task, device="cuda").run()
    whole = outcome(directory)
    last = Checkpoints(directory / "checkpoints").last()
    assert last is not None
    last.unlink()
    Experiment.load(directory).run()
    again = outcome(directory)
    pairs = zip(whole["teams"], again["teams"], strict=True)
    assert all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in pairs)
