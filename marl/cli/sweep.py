"""``marl sweep``: the points of a sweep file as runs on this machine, without a server."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marl import configs
from marl.cli.search import Search, Trial
from marl.errors import UserError, unknown
from marl.launch import file_settings, sweep
from marl.launch.job import Job
from marl.launch.sweep import Point, Sweep

FOLDER = Path(configs.__file__).parent / "sweep"
SHOWN = 10  # runs in the table
OURS = ("progress", "wandb")  # of the file's parameters, those that are for W&B's agents


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def listed() -> list[str]:
    """The files with what they search, for ``marl list sweeps``."""
    found = [(name, sweep.load(FOLDER / f"{name}.yaml")) for name in names()]
    about = [f"{len(one.varied):2} parameters, {one.method}" for _, one in found]
    return [
        f"{name:10} {words:24} {FOLDER / name}.yaml"
        for (name, _), words in zip(found, about, strict=True)
    ]


def find(name: str) -> Path:
    """The file of that name, or at that path."""
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        return Path(name)
    if name not in names():
        raise unknown("sweep", name, names())
    return FOLDER / f"{name}.yaml"


def run(options: Namespace) -> int:
    """Runs what is not done yet; 0 when all is, 1 where a run failed."""
    path = find(options.file)
    found = sweep.load(path)
    file_settings.check(path, FOLDER, found.given())
    settings = _settings(found, options.settings)
    directory = Path(options.directory or f"runs/sweep-{path.stem}")
    points = found.points(options.count, options.seed)
    trials = _trials(found, points, settings, directory, options.trust)
    _check(found, trials)
    if options.dry_run:
        for trial in trials:
            print(shlex.join(["marl", "train", *trial.job.words]))
        return 0
    search = Search(found, trials, settings, options.seed, directory)
    parallel = options.jobs or os.cpu_count() or 1
    _announce(path, search, parallel)
    signals = search.run(parallel)
    show(search)
    if signals:
        print("stopped; the same command goes on")
        return 128 + signals[0]
    return 1 if any(trial.status == "failed" for trial in trials) else 0


def _settings(found: Sweep, words: Sequence[str]) -> dict[str, str]:
    """What the command line sets, which overrules what the file sets.

    Raises:
        UserError: no setting, one that the file varies, or one that is not the user's.
    """
    settings: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(f"{word!r} is not a setting; expected KEY=VALUE")
        if key in found.varied:
            raise UserError(f"{key} is one of the parameters that this sweep varies; leave it out")
        if key in ("directory", "progress"):
            raise UserError(f"{key} is not for every run; --directory is where the sweep is kept")
        settings[key] = value
    return settings


def _trials(
    found: Sweep,
    points: Sequence[Point],
    settings: Mapping[str, str],
    directory: Path,
    trust: bool = False,
) -> list[Trial]:
    trials = []
    for number, point in enumerate(points):
        kept = {name: value for name, value in point.items() if name not in OURS}
        words = tuple(found.settings({**kept, **settings}))
        name = f"run-{number:03d}"
        trials.append(Trial(Job(name, words, (directory / name).absolute(), trust=trust), point))
    return trials


def _check(found: Sweep, trials: Sequence[Trial]) -> None:
    """Raises UserError where the command line would not take a point."""
    from marl.cli import compose

    for trial in trials:
        try:
            compose.composed(trial.job.words)
        except UserError as error:
            told = ", ".join(f"{name}={_short(trial.point[name])}" for name in found.varied)
            raise UserError(f"{trial.job.name} ({told}): {error}") from None


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _announce(path: Path, search: Search, parallel: int) -> None:
    found, trials = search.sweep, search.trials
    ended = sum(trial.status in ("done", "early") for trial in trials)
    print(f"sweep    {path}: {len(trials)} runs, {ended} ended already, {parallel} at once")
    print(f"runs     {search.directory}")
    if found.method == "bayes":
        print("method   bayes: here the points are drawn at random; W&B learns from earlier ones")
    if found.early_terminate:
        print("early    runs that fall behind are stopped (early_terminate)")
    print(end="", flush=True)


def show(search: Search) -> None:
    """The table of the best, what failed, and how the best is trained."""
    from rich.table import Table

    from marl.cli.evaluate import print_whole

    rows, varied = search.rows(), search.sweep.varied
    title = (
        f"{search.sweep.metric} ({search.sweep.goal}), {min(SHOWN, len(rows))} of {len(rows)} runs"
    )
    table = Table(title=title, title_justify="left")
    for name in ("run", "status", "last", "best", "best at", *varied):
        table.add_column(name, justify="left" if name in ("run", "status") else "right")
    for row in rows[:SHOWN]:
        numbers = _number(row["last"]), _number(row["best"]), f"{row['best_frames']:,}"
        values = (_short(row["parameters"][name]) for name in varied)
        table.add_row(row["run"], row["status"], *numbers, *values)
    print_whole(table)
    for trial in search.trials:
        if trial.status == "failed":
            print(f"failed   {trial.job.name}: {trial.why}\nlog      {trial.job.log}")
    print(f"record   {search.directory / 'sweep.json'}\n         {search.directory / 'sweep.csv'}")
    if (best := search.ranked()[0]).history:
        print(f"again    {shlex.join(['marl', 'train', *best.job.words])}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
