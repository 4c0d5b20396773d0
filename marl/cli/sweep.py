"""The command ``marl sweep``: runs the points of a sweep file on this machine, without a server."""

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
from marl.launch.scheduler import place_of_slot
from marl.launch.sweep import Point, Sweep

FOLDER = Path(configs.__file__).parent / "sweep"
SHOWN = 10  # runs in the table
FOR_AGENTS = ("progress", "wandb")  # parameters of a file that only W&B's agents need


def names() -> list[str]:
    """Returns the names of this package's sweep files."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def listed() -> list[str]:
    """Returns the lines of ``marl list sweeps``: names, what they search, and their files."""
    sweeps = {name: sweep.load(FOLDER / f"{name}.yaml") for name in names()}
    about = {name: f"{len(one.varied):2} parameters, {one.method}" for name, one in sweeps.items()}
    return [f"{name:10} {words:24} {FOLDER / name}.yaml" for name, words in about.items()]


def find(name: str) -> Path:
    """Returns the file of that name or at that path.

    Raises:
        UserError: an unknown name.
    """
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        return Path(name)
    if name not in names():
        raise unknown("sweep", name, names())
    return FOLDER / f"{name}.yaml"


def run(options: Namespace) -> int:
    """Runs the trials that are not done yet.

    Returns:
        The exit code: 0 when all are done, 1 where a run failed, 128 + n after signal n.
    """
    path = find(options.file)
    content = sweep.load(path)
    file_settings.check(path, FOLDER, content.all_settings())
    settings = _settings(content, options.settings)
    directory = Path(options.directory or f"runs/sweep-{path.stem}")
    points = content.points(options.count, options.seed)
    trials = _trials(content, points, settings, directory, options.trust)
    _check(content, trials)
    parallel = options.jobs or os.cpu_count() or 1
    places = [f"device={device}" for device in options.devices]
    if options.dry_run:
        for number, trial in enumerate(trials):
            place = place_of_slot(places, number % parallel)
            print(shlex.join(["marl", "train", *trial.job.words, *place]))
        return 0
    search = Search(content, trials, settings, options.seed, directory)
    _announce(path, search, parallel)
    signals = search.run(parallel, places)
    show(search)
    if signals:
        print("stopped; the same command continues")
        return 128 + signals[0]
    return 1 if any(trial.status == "failed" for trial in trials) else 0


def _settings(content: Sweep, words: Sequence[str]) -> dict[str, str]:
    """Returns the settings of the command line, which override the file's constants.

    Raises:
        UserError: a word that is no setting, a setting that the file varies, or one that the sweep
            chooses itself.
    """
    settings: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(f"{word!r} is not a setting; expected KEY=VALUE")
        if key in content.varied:
            raise UserError(f"{key} is a parameter that this sweep varies; leave it out")
        if key in ("directory", "progress"):
            raise UserError(
                f"the sweep chooses {key} for every run; leave it out (--directory sets the "
                "folder of the runs)"
            )
        settings[key] = value
    return settings


def _trials(
    content: Sweep,
    points: Sequence[Point],
    settings: Mapping[str, str],
    directory: Path,
    trust: bool = False,
) -> list[Trial]:
    trials = []
    for number, point in enumerate(points):
        values = {name: value for name, value in point.items() if name not in FOR_AGENTS}
        words = tuple(content.settings({**values, **settings}))
        name = f"run-{number:03d}"
        trials.append(Trial(Job(name, words, (directory / name).absolute(), trust=trust), point))
    return trials


def _check(content: Sweep, trials: Sequence[Trial]) -> None:
    """Raises UserError where ``marl train`` would refuse a point, or no run logs the metric."""
    from marl.cli import compose

    teams: dict[str, list[str]] = {}  # by task: its environment is made once
    for trial in trials:
        try:
            run = compose.composed(trial.job.words)
            if (task := repr((run.task, run.teams))) not in teams:
                teams[task] = _teams(run)
            sweep.check_metric(content.metric, teams[task])
        except UserError as error:
            point = ", ".join(f"{name}={_short(trial.point[name])}" for name in content.varied)
            raise UserError(f"{trial.job.name} ({point}): {error}") from None


def _teams(run: Any) -> list[str]:
    """Returns the names of a run's teams."""
    import torch

    from marl.training.teams import Team, resolve_teams

    env = run.task(1, torch.device("cpu"))
    try:
        return list(resolve_teams(env, run.teams, Team(algorithm=run.algorithm)))
    finally:
        env.close()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _announce(path: Path, search: Search, parallel: int) -> None:
    content, trials = search.sweep, search.trials
    ended = sum(trial.status in ("done", "early") for trial in trials)
    print(f"sweep    {path}: {len(trials)} runs, {ended} done already, {parallel} at once")
    print(f"runs     {search.directory}")
    if content.method == "bayes":
        print("method   bayes: points are random here; only W&B's server learns from earlier ones")
    if content.early_terminate:
        print("early    runs that fall behind are stopped (early_terminate)")
    print(end="", flush=True)


def show(search: Search) -> None:
    """Prints the table of the best runs, the failed ones, and the command of the best."""
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
