"""Where compiled code is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from marl.utils.compilation import CACHE, compile_function, keep_compiled_code


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(CACHE, "")  # so that it is restored after the test
    monkeypatch.delenv(CACHE)
    return tmp_path / "marl" / "inductor"


def double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def test_compiled_code_is_kept_in_the_users_cache(cache: Path) -> None:
    compile_function(double, whole=True)
    assert os.environ[CACHE] == str(cache) and list(cache.iterdir()) == []


def test_a_directory_of_the_users_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, "/somewhere")
    keep_compiled_code()
    assert os.environ[CACHE] == "/somewhere" and not cache.exists()


def test_a_cache_that_cannot_be_written_to(cache: Path) -> None:
    """A file where the folder would be: root, who may run this, writes to any folder."""
    cache.parent.write_text("")
    keep_compiled_code()
    assert CACHE not in os.environ
