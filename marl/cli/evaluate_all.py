"""``marl evaluate RUN --all``: the same episodes with every checkpoint of a run."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marl.cli import compose
from marl.cli.evaluate import limit_of, print_whole, spread
from marl.cli.progress import counting
from marl.errors import UserError
from marl.training import (
    build,
    checkpoint,
    evaluation,
    loading,
    provenance,
    report,
    run_directory,
)
from marl.training.agent_order import OrderedTask, arrange
from marl.training.checkpoint import Checkpoints, CorruptCheckpoint, frames_of
from marl.training.origin import naming_origin
from marl.utils.device import find_device
from marl.utils.places import without_places
from marl.utils.seeding import evaluation_seed
from marl.utils.versions import learning

if TYPE_CHECKING:
    from rich.table import Table

    from marl.env import VectorEnv


def evaluate_all(options: Namespace) -> int:
    """Plays the same episodes with every checkpoint that a run has kept.

    It prints a table and writes ``checkpoints.json`` and ``checkpoints.png``.

    Returns:
        The exit code.

    Raises:
        UserError: another option does not go with ``--all``, or the run has no usable checkpoint.
    """
    _check(options)
    directory = Path(options.run)
    files = checkpoints_of(directory)
    with naming_origin(directory):
        config = run_directory.read_config(directory)
        task = compose.changed(config["task"], options.settings)
        make = OrderedTask(task, partial(arrange, saved=config.get("agents")))
        env = make(min(32, options.episodes), find_device(options.device))
    records = play_all(env, config, files, options)
    env.close()
    _write(records, directory, Path(options.out or directory), options)
    return 0


def _check(options: Namespace) -> None:
    """Raises UserError for an option that ``--all`` does not read, or a run that is a file."""
    others = {"--versus": options.versus, "--video": options.video, "--best": options.best}
    for flag, value in others.items():
        if value is not None:
            raise UserError(f"--all plays each checkpoint of the run; leave out --all or {flag}")
    if Path(options.run).suffix == ".pt":
        raise UserError(
            f"--all plays each checkpoint of a run, and {options.run!r} is one of them; give the "
            "run's directory, or leave out --all"
        )
    if file := loading.policies_of(Path(options.run)):
        raise UserError(
            f"--all plays each checkpoint of a run, and {str(file)!r} holds the best policies "
            "alone; leave out --all"
        )


def checkpoints_of(directory: Path) -> dict[Path, list[str]]:
    """Returns a run's checkpoint files in the order of their frames, one for each frame.

    Args:
        directory: the run's directory.

    Returns:
        The teams whose best checkpoint it is, by file.

    Raises:
        UserError: the directory is not a run's, or holds no checkpoint.
    """
    run_directory.check(directory)
    checkpoints = Checkpoints(directory / "checkpoints")
    files = {frames_of(path): path for path in checkpoints.all()}
    teams: dict[int, list[str]] = {}
    for team, path in checkpoints.all_best().items():
        files.setdefault(frames_of(path), path)
        teams.setdefault(frames_of(path), []).append(team)
    if not files:
        raise UserError(
            f"{str(directory)!r} holds no checkpoint to play; give the directory of a run that was "
            "trained, or leave out --all"
        )
    return {files[frames]: teams.get(frames, []) for frames in sorted(files)}


def play_all(
    env: VectorEnv,
    config: Mapping[str, Any],
    files: Mapping[Path, Sequence[str]],
    options: Namespace,
) -> list[dict[str, Any]]:
    """Plays the episodes with each checkpoint, and shows progress.

    A corrupt checkpoint is left out, with a message.

    Args:
        env: environment to play in.
        config: the run's configuration.
        files: teams whose best checkpoint it is, by checkpoint file.
        options: ``episodes``, ``seed``, ``sample`` and ``max_steps``.

    Returns:
        A record for each checkpoint: its name, frames, ``best_of``, returns and metrics.

    Raises:
        UserError: every checkpoint is corrupt, or an episode is too long.
    """
    records = []
    seed = evaluation_seed(options.seed, "evaluate")
    limit = limit_of(options, config["settings"], "evaluation")
    with counting("episodes", options.episodes * len(files)) as advance:
        for file, best_of in files.items():
            try:
                state = checkpoint.load(file, env.device)
            except CorruptCheckpoint as error:
                print(f"marl: {error}; it is left out", file=sys.stderr)
                continue
            known = state["teams"], file, config.get("agents"), learning(config)
            teams = build.load_teams(env, config["teams"], *known)
            words = options.episodes, seed, options.sample, limit, advance
            played = evaluation.evaluate(env, teams, *words)
            about = {"checkpoint": file.name, "frames": state["frames"], "best_of": [*best_of]}
            records.append({**about, **played})
    if not records:
        raise UserError("no checkpoint of this run is intact; restore one, or train it again")
    return records


def _write(
    records: Sequence[Mapping[str, Any]], directory: Path, out: Path, options: Namespace
) -> None:
    """Writes the record and the picture, and prints the table or the record."""
    out.mkdir(parents=True, exist_ok=True)
    plain = {"checkpoints": records, "episodes": options.episodes, "seed": options.seed,
             "sampled": options.sample, "task": list(options.settings)}  # fmt: skip
    record = without_places({**plain, "provenance": provenance.provenance()})
    run_directory.write_json(out / "checkpoints.json", record)
    if options.json:
        print(json.dumps(plain))
    else:
        print_whole(_table(records))
        print(f"mean ± standard error over {options.episodes} episodes, the same of each")
    # Random play was measured on the run's own task.
    baseline = {} if options.settings else report.random_returns(directory)
    title = f"checkpoints of {directory.absolute().name}"
    picture = report.draw_returns(records, out / "checkpoints.png", title, baseline, marker="o")
    print(f"record   {out / 'checkpoints.json'}\npicture  {picture}", file=sys.stderr)


def _table(records: Sequence[Mapping[str, Any]]) -> Table:
    from rich.table import Table

    table = Table()
    kinds = [(part, name) for part in ("returns", "metrics") for name in records[0][part]]
    table.add_column("checkpoint", no_wrap=True)
    table.add_column("frames", justify="right", no_wrap=True)
    for part, name in kinds:
        word = "return of " if part == "returns" else ""
        table.add_column(f"{word}{name}", justify="right", no_wrap=True)
    for record in records:
        best = f" (best of {', '.join(record['best_of'])})" if record["best_of"] else ""
        cells = [spread(record[part][name]) for part, name in kinds if name in record[part]]
        table.add_row(f"{record['checkpoint']}{best}", f"{record['frames']:,}", *cells)
    return table
