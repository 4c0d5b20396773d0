"""``marl train stacked_seeds=8`` and ``marl resume`` of what it made: seeds in one process."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from marl.cli import compose
from marl.cli.evaluate import spread
from marl.cli.run_report import print_run, random_returns
from marl.errors import UserError
from marl.experiment import Experiment
from marl.stacked_run import StackedRun
from marl.training import report, run_directory
from marl.utils.files import Lock, Taken
from marl.utils.jsonl import read_json


def train(config: compose.RunConfig, words: Sequence[str] = ()) -> int:
    """Trains the seeds ``seed`` to ``seed + stacked_seeds - 1`` of a composed run.

    Args:
        config: the run.
        words: its settings that were chosen for it alone.

    Returns:
        The exit code: 0, 2 where a seed diverged, or 128 + n after signal n.

    Raises:
        UserError: the seeds cannot be trained in one stack, or the folder is not empty.
    """
    seeds = range(config.seed, config.seed + config.stacked_seeds)
    if seeds[-1] >= 2**31:
        raise UserError(
            f"seed={config.seed} and the {len(seeds) - 1} seeds after it must be below "
            f"{2**31:,}; take a smaller seed"
        )
    folder = Path(config.directory or compose.default_directory(config))
    with _created(folder, numbered=not config.directory) as folder:
        runs = [compose.build(_of_seed(config, seed, folder), words) for seed in seeds]
        stack = StackedRun(runs)
    for run in runs:
        path = run.directory / "provenance.json"
        run_directory.write_json(path, {**read_json(path), "stacked": list(seeds)})
    names = [run.directory.name for run in runs]
    run_directory.write_json(folder / run_directory.STACK, {"runs": names})
    return _train(stack, folder)


@contextmanager
def _created(folder: Path, numbered: bool) -> Iterator[Path]:
    """Creates the folder of the seeds' run directories; after an error nothing of it stays.

    Args:
        folder: the folder.
        numbered: append a number if it is in use.
    """
    if not numbered and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Taken(
            f"{str(folder)!r} is not empty; choose another directory, or continue it with "
            f"'marl resume {folder}'"
        )
    names = (folder if n == 1 else folder.with_name(f"{folder.name}-{n}") for n in count(1))
    made = next(path for path in names if not (numbered and path.exists()))
    new = [path for path in (made, *made.parents) if not path.exists()]
    made.mkdir(parents=True, exist_ok=True)
    try:
        yield made
    except BaseException:
        for run in made.glob("seed_*"):
            shutil.rmtree(run, ignore_errors=True)
        for path in new:
            with suppress(OSError):  # not empty: another run's
                path.rmdir()
        raise


def _of_seed(config: compose.RunConfig, seed: int, folder: Path) -> compose.RunConfig:
    own = copy.copy(config)
    own.seed, own.stacked_seeds, own.directory = seed, 1, str(folder / f"seed_{seed}")
    return own


def is_stack(folder: Path) -> bool:
    """Returns whether a folder holds the runs of a stack."""
    return (folder / run_directory.STACK).exists()


def resume(folder: Path, changes: Mapping[str, Any]) -> int:
    """Continues the seeds of a stack, each from its last checkpoint.

    Args:
        folder: of their run directories.
        changes: new values of settings, for all of them.

    Returns:
        The exit code.
    """
    content = read_json(folder / run_directory.STACK)
    names = content.get("runs") if isinstance(content, dict) else None
    if not names or not isinstance(names, list):
        raise UserError(f"{str(folder / run_directory.STACK)!r} does not name the runs of a stack")
    directories = [folder / str(name) for name in names]
    for directory in directories:
        if not (directory / "config.json").exists():
            raise UserError(
                f"{str(directory)!r} is not there: restore it, or remove its name from "
                f"{str(folder / run_directory.STACK)!r} to go on without it"
            )
        Lock(directory).check()  # before loading, which takes time
    runs = [Experiment.load(directory, **changes) for directory in directories]
    return _train(StackedRun(runs), folder)


def _train(stack: StackedRun, folder: Path) -> int:
    """Trains, and prints how good each seed's policies are."""
    runs = stack.runs
    print(f"stack    seeds {', '.join(str(run.settings.seed) for run in runs)} in {folder}")
    filmed = print_run(runs[0], folder, ended=all(run.ending for run in runs))
    baselines = {run: _with_process(run, random_returns) for run in runs}
    stack.run()
    for run in runs:
        run.close()
    if stack.stop.signal:
        print(f"stopped and saved; continue with: marl resume {folder}")
        return 128 + stack.stop.signal
    for run in runs:
        print(f"seed {run.settings.seed:<3} {_summary(stack, run, baselines[run], filmed)}")
    print(f"compare  marl compare {folder}")
    return 2 if stack.diverged else 0


def _summary(
    stack: StackedRun, run: Experiment, baseline: Mapping[str, list[float]], filmed: bool
) -> str:
    """Draws a seed's curve, films it, and returns how good it is beside random play."""
    if run in stack.diverged:
        return f"diverged: {stack.diverged[run]}  {run.directory}"
    report.draw_curve(run.directory)
    if filmed:
        report.write_video(run.film(), run.directory / "video.mp4")
    returns = ", ".join(
        f"{team} {spread(x)} (random {spread(baseline[team])})"
        for team, x in run.evaluations.returns.items()
    )
    why = f"  finished {run.stop.why}" if run.stop.why else ""
    return f"{returns}  {run.directory}{why}"


def _with_process(run: Experiment, function: Any) -> Any:
    with run.process.use():
        return function(run)
