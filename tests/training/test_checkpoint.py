"""Checkpoints survive what can happen to a file, and execute nothing."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from marl.errors import UserError
from marl.training import checkpoint, checkpoint_formats
from marl.training.checkpoint import Checkpoints, CorruptCheckpoint, checksum_of, load, write_atomic
from marl.training.checkpoint_formats import FORMAT
from marl.utils import seeding
from tests.helpers.builders import CPU


def state(value: float) -> dict:
    return {"weight": torch.full((3,), value), "nested": [{"n": 1, "none": None}, 2.5]}


def names(folder: Path, ending: str = ".pt") -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(ending))


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    """Three saves; the last two are kept."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for frames in (5, 10, 1_000_000):
        checkpoints.save(frames, state(frames))
    return checkpoints


def spoil(path: Path | None) -> None:
    assert path is not None
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_round_trip(saved: Checkpoints) -> None:
    path, found = saved.load_last(CPU)
    assert path.name == "frames-000001000000.pt"
    assert torch.equal(found["weight"], torch.full((3,), 1e6))
    assert found["nested"] == state(0)["nested"]


def test_a_team_may_have_any_name(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    teams = ["r/1", "../r", "50%", "a-b", "b b", "a%2Fb"]
    checkpoints.save(5, state(5), teams)
    checkpoints.save(7, state(7), teams[:2])
    frames = [best and checkpoint.frames_of(best) for best in map(checkpoints.best, teams)]
    assert frames == [7, 7, 5, 5, 5, 5]
    assert len(names(checkpoints.folder)) == 2 + len(teams)
    assert {path.parent for path in tmp_path.rglob("*.pt")} == {checkpoints.folder}


@pytest.mark.parametrize(("keep", "kept"), [(0, [5, 7, 9]), (1, [9])])
def test_as_many_are_kept_as_asked_for(tmp_path: Path, keep: int, kept: list[int]) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep)
    for frames in (5, 7, 9):
        checkpoints.save(frames, state(frames))
    assert names(tmp_path / "checkpoints") == [f"frames-{n:012d}.pt" for n in kept]


def test_the_last_two_and_the_best_are_kept(saved: Checkpoints) -> None:
    saved.save(20, state(20), best=["prey"])
    saved.save(30, state(30), best=["prey", "predators"])
    for frames in (2_000_000, 3_000_000):
        saved.save(frames, state(frames))
    assert names(saved.folder) == [
        "best-predators-000000000030.pt", "best-prey-000000000030.pt",
        "frames-000002000000.pt", "frames-000003000000.pt",
    ]  # fmt: skip
    assert len(names(saved.folder, ".sha256")) == 4
    best = saved.best("prey")
    assert best is not None and load(best, CPU)["weight"][0] == 30


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new and longer")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_within_a_write_is_told_as_such(saved: Checkpoints, monkeypatch) -> None:
    """torch.save answers a failed write with an error of its own."""

    @contextmanager
    def full(path: Path) -> Iterator[BinaryIO]:
        with open("/dev/full", "wb", buffering=0) as file:
            yield file

    monkeypatch.setattr(checkpoint, "atomic", full)
    with pytest.raises(OSError, match="No space left") as error:
        saved.save(2_000_000, state(2e6))
    assert error.value.errno == errno.ENOSPC


@pytest.mark.parametrize("moment", [1, 2])
def test_a_crash_between_files_leaves_a_usable_checkpoint(
    saved: Checkpoints, monkeypatch, moment: int
) -> None:
    """Whether before the checksum or between it and the data."""
    count, replace = 0, os.replace

    def crash(source, target) -> None:
        nonlocal count
        count += 1
        if count == moment:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        saved.save(2_000_000, state(2e6))
    monkeypatch.undo()
    assert saved.load_last(CPU)[1]["weight"][0] == 1e6
    saved.save(2_000_000, state(2e6))
    assert saved.load_last(CPU)[1]["weight"][0] == 2e6


def test_a_corrupt_last_falls_back_with_a_warning(saved: Checkpoints) -> None:
    spoil(saved.last())
    with pytest.warns(UserWarning, match="frames-000001000000.pt' is corrupt: its checksum"):
        path, found = saved.load_last(CPU)
    assert path.name == "frames-000000000010.pt" and found["weight"][0] == 10


@pytest.mark.parametrize("damage", ["empty", "short", "no checksum"])
def test_every_kind_of_damage_is_noticed(saved: Checkpoints, damage: str) -> None:
    path = saved.last()
    assert path is not None
    if damage == "no checksum":
        checksum_of(path).unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-7])
    with pytest.raises(CorruptCheckpoint):
        load(path, CPU)


@pytest.mark.filterwarnings("ignore:checkpoint")
def test_all_corrupt_is_an_error_in_words(saved: Checkpoints) -> None:
    for name in names(saved.folder):
        spoil(saved.folder / name)
    with pytest.raises(UserError, match="holds no usable checkpoint"):
        saved.load_last(CPU)


def older(path: Path, **changes: object) -> Path:
    """Writes a checkpoint anew, as another version would have; None takes a key away."""
    state = {**torch.load(path, weights_only=True), **changes}
    torch.save({key: value for key, value in state.items() if value is not None}, path)
    checksum_of(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_a_checkpoint_names_its_format(saved: Checkpoints) -> None:
    path = saved.last()
    assert path is not None
    assert torch.load(path, weights_only=True)["format"] == FORMAT == load(path, CPU)["format"]


def test_the_first_format_is_read_as_the_newest(saved: Checkpoints) -> None:
    """It had no number, called a statistic otherwise and lacked what came later."""
    path = saved.last()
    assert path is not None
    stats, first = torch.tensor([1.0, 2.0]), {"next": 3}
    teams = {"off": {"told": stats, "frames": 7}, "on": {"policy": {}, "value_norm": {}}}
    state = load(older(path, format=None, teams=teams, collector={}, evaluations=first), CPU)
    assert state["format"] == FORMAT and state["learning"] == 1
    assert state["teams"]["off"].keys() == {"actor_stats", "frames"}
    assert torch.equal(state["teams"]["off"]["actor_stats"], stats)
    assert state["teams"]["on"] == {"policy": {}, "value_norm": {}, "auxiliaries": {}}
    assert state["collector"] == {"info": []} and state["evaluations"] == {**first, "metrics": []}
    assert state["selfplay"]["pools"] == {}


def test_there_is_a_reader_for_every_older_format() -> None:
    assert list(checkpoint_formats.READERS) == list(range(1, FORMAT))


def test_a_newer_format_is_refused_in_a_sentence(saved: Checkpoints) -> None:
    """And an older checkpoint beside it is not taken in its place, for that would lose frames."""
    path = saved.last()
    assert path is not None
    older(path, format=FORMAT + 1)
    with pytest.raises(UserError, match=rf"has format {FORMAT + 1}, and .* up to {FORMAT}; update"):
        saved.load_last(CPU)


@pytest.mark.parametrize("whole", [[1, 2], {"format": "new"}])
def test_tensors_without_the_shape_of_a_checkpoint_are_none(tmp_path: Path, whole: object) -> None:
    path = tmp_path / "frames-000000000001.pt"
    torch.save(whole, path)
    checksum_of(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(CorruptCheckpoint, match="is not a checkpoint of this program"):
        load(path, CPU)


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.last() is None and checkpoints.best("team") is None
    with pytest.raises(UserError, match="holds no usable checkpoint"):
        checkpoints.load_last(CPU)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def poisoned(folder: Path) -> Path:
    """A file with a right checksum and wrong intentions."""
    buffer = io.BytesIO()
    torch.save({"weight": Malicious()}, buffer)
    path = folder / "frames-000000000001.pt"
    path.write_bytes(buffer.getvalue())
    checksum_of(path).write_text(hashlib.sha256(buffer.getvalue()).hexdigest())
    return path


def test_loading_executes_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=r"(?i)weights.only|refused|executes"):
        load(poisoned(tmp_path), CPU)
    assert not (tmp_path / "pwned").exists()


def test_a_foreign_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        load(poisoned(tmp_path), CPU)


def test_global_random_states_round_trip() -> None:
    kept = seeding.random_state(CPU)
    buffer = io.BytesIO()
    torch.save(kept, buffer)

    def draws() -> list[float]:
        return [float(torch.rand(())), float(np.random.normal()), random.gauss(0, 1)]  # noqa: NPY002

    first = draws()
    assert draws() != first
    buffer.seek(0)
    seeding.set_random_state(torch.load(buffer, weights_only=True), CPU)
    assert draws() == first
