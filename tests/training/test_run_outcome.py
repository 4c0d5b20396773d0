"""What a run's directory says of how it ended."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from marl.comparison.overview import read
from marl.errors import Diverged
from marl.experiment import Experiment
from marl.training import run_outcome
from marl.utils.files import Taken
from tests.helpers.experiments import Kill, experiment


class Watch:
    """A sink that keeps what the directory says meanwhile."""

    def __init__(self, directory: Path):
        self.directory, self.states = directory, set()

    def log(self, kind: str, record: object) -> None:
        self.states.add((run_outcome.read(self.directory)[0], read(self.directory).state))

    def close(self) -> None: ...


def test_a_run_says_how_it_ended(tmp_path: Path) -> None:
    """Stopped by a signal, and on from there to its end; in between it is running."""
    watch = Watch(tmp_path / "run")
    run = experiment(tmp_path / "run", sinks=[Kill(3), watch], total_frames=80)
    assert not (tmp_path / "run/state.json").exists()
    run.run()
    assert run_outcome.read(tmp_path / "run") == ("stopped", "")
    assert watch.states == {("running", "running")}
    Experiment.load(tmp_path / "run").run()
    assert run_outcome.read(tmp_path / "run") == ("finished", "")
    assert (read(tmp_path / "run").state, read(tmp_path / "run").frames) == ("finished", 80)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Diverged("loss is nan\n at 4"), ("diverged", "loss is nan at 4")),
        (RuntimeError(), ("failed", "RuntimeError")),
        (KeyboardInterrupt(), ("running", "")),  # read as killed
        (Taken("another"), ("running", "")),  # its own state
    ],
)
def test_errors(tmp_path: Path, error: BaseException, expected: tuple[str, str]) -> None:
    run_outcome.write(tmp_path, "running")
    with (
        pytest.raises(type(error)),
        run_outcome.recorded(tmp_path, SimpleNamespace(signal=None)),
    ):
        raise error
    assert run_outcome.read(tmp_path) == expected


def test_what_is_no_state_counts_as_none(tmp_path: Path) -> None:
    for text in ("", "[]", '{"state": "gone"}', '{"state": 3}'):
        (tmp_path / "state.json").write_text(text)
        assert run_outcome.read(tmp_path) == ("", "")
