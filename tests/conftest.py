"""One thread per process, and no look at the user's own accounts."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
os.environ["WANDB_MODE"] = "offline"
os.environ.pop("WANDB_API_KEY", None)

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_random_numbers():
    """Every test starts from the same global random state, whatever ran before it."""
    torch.manual_seed(0)
