"""Devices by name, and memory kept for the next tensor."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from marl.errors import UserError
from marl.utils.device import find_device


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "meta"])
def test_a_device_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(UserError, match=name):
        find_device(name)


FAULTS = """
import resource, torch
from marl.utils.device import keep_freed_memory

with keep_freed_memory(), keep_freed_memory():
    pass
with keep_freed_memory():
    for turn in range(6):
        if turn == 4:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        tensors = [torch.ones(6 << 20) for _ in range(4)]
        del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is meant")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    """Four tensors of 24 MiB, again and again: once settled, no page comes twice. (Left to itself,
    glibc faults in one process of two: 24,576 pages.)"""
    command = [sys.executable, "-c", FAULTS]
    assert int(subprocess.run(command, capture_output=True, check=True).stdout) < 1000
