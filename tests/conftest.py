"""Settings of all tests: one thread per process, no account and no cache of the user."""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
os.environ["WANDB_MODE"] = "offline"
os.environ.pop("WANDB_API_KEY", None)
# Runs are signed with a key in the cache, which tests neither read nor create: this session has its
# own, for child processes too. The fonts that matplotlib lists there take seconds and stay shared.
os.environ.setdefault("MPLCONFIGDIR", os.path.expanduser("~/.cache/matplotlib"))
# Compiled code stays where torch keeps it, so that later sessions need not compile.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}"),
)
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="marl-tests-")

import pytest
import torch

torch.set_num_threads(1)
CACHE = os.environ["XDG_CACHE_HOME"]


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_random_numbers():
    """Every test starts from the same global random state, whatever ran before it."""
    torch.manual_seed(0)
