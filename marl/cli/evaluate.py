"""The command ``marl evaluate``: episodes with a run's policies, and runs against each other."""

from __future__ import annotations

import json
import statistics
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marl.cli import compose
from marl.cli.progress import counting
from marl.envs.drawing import why_not_drawn
from marl.envs.graph import cannot_draw
from marl.errors import UserError
from marl.utils.device import find_device

if TYPE_CHECKING:
    from rich.table import Table

    from marl.env import VectorEnv
    from marl.training.collector import Teams
    from marl.training.crossplay import Crossplay
    from marl.training.evaluation import Limit
    from marl.training.settings import Settings


def evaluate(options: Namespace) -> int:
    """Runs ``marl evaluate``: prints returns and metrics of fresh episodes, and writes a video.

    Returns:
        The exit code.
    """
    from marl.training import build, loading, report, run_directory
    from marl.training.agent_order import OrderedTask, arrange
    from marl.training.origin import naming_origin
    from marl.utils.seeding import evaluation_seed
    from marl.utils.versions import learning

    if options.all:
        from marl.cli.evaluate_all import evaluate_all

        return evaluate_all(options)
    if options.versus:
        return versus(options)
    device = find_device(options.device)
    directory, path, state = loading.load_checkpoint(Path(options.run), device, options.best)
    with naming_origin(directory):
        config = run_directory.read_config(directory)
    if options.video:
        report.check_video(Path(options.video))
    agents = config.get("agents")
    task = build.for_evaluation(compose.changed(config["task"], options.settings))
    make = OrderedTask(task, partial(arrange, saved=agents))
    with naming_origin(directory):
        env = make(min(32, options.episodes), device)
    parts = config["teams"], state["teams"], path, agents, learning(config)
    if options.video and (why := cannot_draw(env)):
        raise _not_drawn(why)
    teams = build.load_teams(env, *parts)
    seed = evaluation_seed(options.seed, "evaluate")
    limit = limit_of(options, config["settings"], "evaluation")
    result = _played(env, teams, options, seed, limit)
    env.close()
    if options.json:
        print(json.dumps({"checkpoint": str(path), "frames": state["frames"], **result}))
    else:
        _print_evaluation(path, state["frames"], result)
    if options.video:
        env = make(1, device)
        _write_video(env, build.load_teams(env, *parts), seed, Path(options.video))
    return 0


def _played(
    env: VectorEnv, teams: Teams, options: Namespace, seed: int, limit: Limit
) -> dict[str, Any]:
    """Plays the command's episodes, with progress; along a graph of agents also without it."""
    from marl.training import joint_evaluation

    total = options.episodes * (2 if joint_evaluation.ablations(teams) else 1)
    with counting("episodes", total) as advance:
        return joint_evaluation.play(
            env, teams, options.episodes, seed, options.sample, limit, advance
        )


def _write_video(env: VectorEnv, teams: Teams, seed: int, path: Path) -> None:
    """Films an episode, prints the file's path, and closes the environment."""
    from marl.training import evaluation, report

    try:
        frames = evaluation.film(env, teams, seed)
    except NotImplementedError as error:
        raise _not_drawn(why_not_drawn(error)) from None
    finally:
        env.close()
    print(f"video    {report.write_video(frames, path)}", file=sys.stderr)


def _not_drawn(why: str) -> UserError:
    return UserError(f"--video: {why}; or leave out --video")


def limit_of(options: Namespace, settings: Settings, name: str) -> Limit:
    """Returns the run's limit on episode length, or that of ``--max-steps``."""
    from marl.training.evaluation import Limit

    return Limit(options.max_steps or settings.evaluation_max_steps, name, "--max-steps")


def versus(options: Namespace) -> int:
    """Runs ``marl evaluate RUN --versus RUN …``: plays each run's team against all others' and
    writes the table, ``crossplay.json`` and ``crossplay.png``.

    Returns:
        The exit code.
    """
    from marl.training import crossplay, provenance, report, run_directory
    from marl.utils.places import without_places
    from marl.utils.seeding import evaluation_seed

    if options.video:
        raise UserError("--video films one run; leave out --versus or --video")
    if options.settings:
        raise UserError(
            f"--versus plays the runs' own task; leave out --versus or {options.settings[0]!r}"
        )
    paths = [Path(run) for run in (options.run, *options.versus)]
    first = paths[0].absolute().parent.parent if paths[0].suffix == ".pt" else paths[0]
    out = Path(options.out) if options.out else first
    env, entrants = crossplay.enter(
        paths, options.episodes, find_device(options.device), options.best, options.side
    )
    seed = evaluation_seed(options.seed, "evaluate")
    with counting("pairings", len(paths) ** 2) as advance:
        result = crossplay.crossplay(
            env, entrants, options.episodes, seed, options.sample, options.side,
            partial(advance, 1),
            limit_of(options, run_directory.read_config(first)["settings"], "cross-play"),
        )  # fmt: skip
    env.close()
    out.mkdir(parents=True, exist_ok=True)
    plain = {**result.to_plain(), "episodes": options.episodes, "seed": options.seed}
    record = {**plain, "provenance": provenance.provenance()}
    run_directory.write_json(out / "crossplay.json", without_places(record))
    if options.json:
        print(json.dumps(plain))
    else:
        for kind, name in result.quantities():
            print_whole(_pairings(result, kind, name))
        print("mean ± standard error over episodes")
    picture = report.draw_crossplay(result, out / "crossplay.png")
    print(f"record   {out / 'crossplay.json'}\npicture  {picture}", file=sys.stderr)
    return 0


def print_whole(table: Table) -> None:
    """Prints a table at its full width, so that no figure is cut on a narrow terminal."""
    from rich.console import Console
    from rich.measure import Measurement

    wide = Console(width=1000)
    needed = Measurement.get(wide, wide.options, table).maximum
    Console(width=max(needed, Console().width)).print(table)


def _pairings(result: Crossplay, kind: str, name: str) -> Table:
    """Returns the table of one quantity, row against column; columns have the rows' numbers."""
    from rich.table import Table

    word = {"returns": "return of team", "metrics": "metric"}[kind]
    table = Table(title=f"{word} {name}", title_justify="left")
    table.add_column(f"{result.side} \\ others", no_wrap=True)
    for number in range(1, len(result.entrants) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    rows = zip(result.entrants, result.matrix(kind, name), strict=True)
    for number, (entrant, row) in enumerate(rows, 1):
        cells = [f"{mean:.2f} ± {error:.2f}" for mean, error in row]
        table.add_row(f"{number} {entrant.name}", *cells)
    return table


def _print_evaluation(path: Path, frames: int, result: Mapping[str, Any]) -> None:
    print(f"{path} ({frames:,} frames)")
    for part, word in (("returns", "return"), ("metrics", "metric"), ("cut", "cut")):
        for name, values in result.get(part, {}).items():
            more = "; return without graphs: agents know no other's action" * (part == "cut")
            print(f"{word:8} {name}: {spread(values)}   over {len(values)} episodes{more}")
    for name, (value,) in result.get("density", {}).items():
        print(f"density  {name}: {value:.3f}   share of the possible edges")
    print("mean ± standard error over episodes")


def spread(values: Sequence[float]) -> str:
    """Returns mean and standard error as ``mean ± error``."""
    mean = statistics.fmean(values)
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{mean:.2f} ± {error:.2f}"
