"""Arguments of the command line, one function per command. Loads only argparse."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, _SubParsersAction
from typing import TypeAlias

import marl
from marl.cli import help_texts as texts

Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"
LISTS = ("tasks", "algorithms", "models", "experiments", "benchmarks", "sweeps", "zoo", "runs")


def parser() -> ArgumentParser:
    """Returns the parser of all commands."""
    root = ArgumentParser(
        "marl",
        description="Multi-agent reinforcement learning: train, evaluate, benchmark, sweep.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: marl train task=vmas/balance algorithm=mappo total_frames=1e6\n"
        "'marl COMMAND --help' explains each command.",
    )
    root.add_argument("--version", action=_Version, nargs=0, help="of marl, Python and torch")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (train, resume, evaluate, export, listing, compare, record, check, speed,
                benchmark, tables, sweep, new):  # fmt: skip
        add(commands)
    return root


def flags_of(root: ArgumentParser, command: str) -> list[str]:
    """Returns the long flags of a command.

    Args:
        root: the parser of all commands.
        command: the command's name.
    """
    choices = next(a.choices for a in root._actions if isinstance(a, _SubParsersAction))
    actions = choices[command]._actions
    return [flag for action in actions for flag in action.option_strings if flag[:2] == "--"]


class _Version(argparse.Action):
    """Prints the versions that a report of a fault needs; reads them only when it is asked."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        import importlib.metadata
        import platform

        torch = importlib.metadata.version("torch")
        print(f"marl {marl.__version__} (Python {platform.python_version()}, torch {torch})")
        parser.exit()


def _command(commands: Commands, name: str, help: str, about: str, examples: str) -> ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    return commands.add_parser(
        name, help=help, description=about, formatter_class=raw, epilog=examples
    )


def _trust(parser: ArgumentParser, subject: str = "another user's run directories") -> None:
    parser.add_argument("--trust", action="store_true",
        help=f"let {subject} import the code that they name")  # fmt: skip


def train(commands: Commands) -> None:
    """Adds ``marl train``."""
    parser = _command(
        commands, "train", "train one or several teams", texts.TRAIN, texts.TRAIN_EXAMPLES
    )
    parser.add_argument(
        "settings", nargs="*", default=[], metavar="KEY=VALUE", help="settings to change"
    )
    _trust(parser)


def resume(commands: Commands) -> None:
    """Adds ``marl resume``."""
    words = "continue a run exactly from its last checkpoint"
    parser = _command(commands, "resume", words, texts.RESUME, texts.RESUME_EXAMPLES)
    _trust(parser)
    add = parser.add_argument
    add("run", metavar="RUN", help="a run directory")
    add("settings", nargs="*", default=[], metavar="KEY=VALUE",
        help="settings to change: total_frames, absolute_episodes, evaluation_max_steps, "
        "stop_at_return, stop_after_no_improvement, stop_team, progress, threads, "
        "device")  # fmt: skip


def evaluate(commands: Commands) -> None:
    """Adds ``marl evaluate``."""
    words = "play episodes with a run's policies"
    parser = _command(commands, "evaluate", words, texts.EVALUATE, texts.EVALUATE_EXAMPLES)
    _trust(parser)
    add = parser.add_argument
    add("run", metavar="RUN",
        help="a run directory, a checkpoint file, or a name of 'marl list zoo'")  # fmt: skip
    add("settings", nargs="*", default=[], metavar="task.KEY=VALUE",
        help="options of the task to change, such as the number of agents")  # fmt: skip
    add("--episodes", type=positive, default=32, help="episodes to play (default 32)")
    add("--max-steps", type=positive, metavar="STEPS",
        help="refuse episodes longer than this (default: the run's limit)")  # fmt: skip
    add("--video", metavar="FILE", help="film one episode to an .mp4 or .gif file")
    add("--best", nargs="?", const="", metavar="TEAM",
        help="use TEAM's best checkpoint instead of the last (TEAM may be left out where only one "
        "team learns)")  # fmt: skip
    add(
        "--all",
        action="store_true",
        help="play with every checkpoint of the run; writes checkpoints.json and checkpoints.png",
    )
    add("--sampled", "--sample", dest="sample", action="store_true",
        help="sample actions instead of taking the greedy ones")  # fmt: skip
    add("--seed", type=natural, default=0, help="seed of the episodes (default 0)")
    add("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    add("--json", action="store_true", help="print every episode as JSON")
    add("--versus", nargs="+", metavar="RUN",
        help="play against these runs of the same task, each team against all others; writes "
        "crossplay.json and crossplay.png")  # fmt: skip
    add("--side", default="", help="the team of the table's rows (default: the first)")
    add("--out", metavar="DIRECTORY", 
        help="folder of crossplay.* or checkpoints.* (default: that of RUN)")  # fmt: skip


def export(commands: Commands) -> None:
    """Adds ``marl export``."""
    words = "write a run's policies as files for other programs"
    parser = _command(commands, "export", words, texts.EXPORT, texts.EXPORT_EXAMPLES)
    _trust(parser)
    add = parser.add_argument
    add("run", metavar="RUN",
        help="a run directory, a checkpoint file, or a name of 'marl list zoo'")  # fmt: skip
    add("--format", choices=("torch", "onnx", "safetensors"), default="torch",
        help="torch.export program, ONNX, or the weights alone (default torch)")  # fmt: skip
    add("--checkpoint", default="best", metavar="NAME",
        help="best (default), last, or the name of a file in checkpoints/")  # fmt: skip
    add("--team", help="the team (default: all)")
    add("--out", metavar="DIRECTORY", help="folder of the files (default RUN/export)")


def new(commands: Commands) -> None:
    """Adds ``marl new``."""
    words = "make a folder with an environment, an algorithm and tests"
    add = _command(commands, "new", words, texts.NEW, texts.NEW_EXAMPLES).add_argument
    add("folder", metavar="FOLDER", help="the folder, which must be new or empty")


def listing(commands: Commands) -> None:
    """Adds ``marl list``."""
    words = "list runs, tasks, algorithms, models, experiments, benchmarks, sweeps, the zoo"
    add = _command(commands, "list", words, texts.LIST, texts.LIST_EXAMPLES).add_argument
    add("what", choices=LISTS, help="the kind of names")
    add(
        "settings",
        nargs="*",
        default=[],
        metavar="FILTER",
        help="of runs: KEY=VALUE, a text, or a folder",
    )
    add("--json", action="store_true", help="print the runs as JSON")


def compare(commands: Commands) -> None:
    """Adds ``marl compare``."""
    words = "draw the curves of runs, and tabulate their final returns"
    add = _command(commands, "compare", words, texts.COMPARE, texts.COMPARE_EXAMPLES).add_argument
    add("runs", nargs="+", metavar="RUN", help="run directories, folders of runs, or patterns")
    add("--out", default="compare", metavar="DIRECTORY",
        help="folder of the page, pictures and CSV files (default compare)")  # fmt: skip
    add("--sampled", action="store_true",
        help="compare episodes with sampled actions, of evaluation=both or sampled")  # fmt: skip


def record(commands: Commands) -> None:
    """Adds ``marl record``."""
    words = "turn finished runs into records for 'marl tables'"
    add = _command(commands, "record", words, texts.RECORD, texts.RECORD_EXAMPLES).add_argument
    add("runs", nargs="+", metavar="RUN", help="run directories, folders of runs, or patterns")
    add("--suite", required=True, metavar="NAME", help="the suite, a folder in results")
    add("--results", default="results", metavar="DIRECTORY",
        help="folder of the suites (default results)")  # fmt: skip
    add("--task", metavar="NAME", help="name of the task in the suite (default: the task's own)")
    add("--algorithm", metavar="NAME",
        help="name of the algorithm in the suite (default: with what differs)")  # fmt: skip


def check(commands: Commands) -> None:
    """Adds ``marl check``."""
    words = "check an environment, and print what it is and does"
    add = _command(commands, "check", words, texts.CHECK, texts.CHECK_EXAMPLES).add_argument
    add("task", nargs="?", metavar="TASK", help="a name of 'marl list tasks', or an import path")
    add("settings", nargs="*", default=[], metavar="task.KEY=VALUE", help="options of the task")
    add("--steps", type=positive, default=200, help="steps of random play (default 200)")
    add("--copies", type=positive, default=32, help="copies that play them (default 32)")
    add("--seed", type=natural, default=0, help="seed of the episodes and actions (default 0)")
    add("--device", default="cpu", help="cpu, cuda or cuda:N (default cpu)")
    add("--picture", metavar="FILE",
        help="PNG file of one step (default check-TASK.png, here)")  # fmt: skip


def speed(commands: Commands) -> None:
    """Adds ``marl speed``."""
    words = "measure frames per second"
    parser = _command(commands, "speed", words, texts.SPEED, texts.SPEED_EXAMPLES)
    _trust(parser)
    add = parser.add_argument
    add("settings", nargs="*", default=[], metavar="KEY=VALUE", help="settings, as for train")
    add("--environment", action="store_true", help="time the environment alone, random actions")
    add("--iterations", type=positive, default=3, help="iterations to time (default 3)")
    add("--warmup", type=positive, default=1, help="iterations before that (default 1)")
    add("--json", metavar="FILE", help="append the result to this JSONL file")


def benchmark(commands: Commands) -> None:
    """Adds ``marl benchmark``."""
    words = "run a suite and record its runs"
    parser = _command(commands, "benchmark", words, texts.BENCHMARK, texts.BENCHMARK_EXAMPLES)
    _trust(parser, "the file, and another user's run directories,")
    add = parser.add_argument
    add("name", metavar="NAME", help="a name of 'marl list benchmarks', or a .yaml file")
    _parallel(parser)
    add("--only", action="append", default=[], metavar="task=…,algorithm=…,seed=…",
        help="run this part of the suite; a key may have several values: "
        "algorithm=mappo,ippo")  # fmt: skip
    add("--runs", default="runs/benchmark", metavar="DIRECTORY",
        help="folder of the run directories (default runs/benchmark)")  # fmt: skip
    add("--results", metavar="DIRECTORY", help="folder of the records (default results/NAME)")
    add("--wandb", action="store_true", help="log to W&B, grouped by task and algorithm")
    add("--prune", action="store_true",
        help="once a run is recorded, delete its checkpoints but the best policies")  # fmt: skip
    add("--references", action="store_true",
        help="measure what doing nothing earns on each task, for the tables, and stop")  # fmt: skip
    add("--dry-run", action="store_true", help="print the commands without running them")


def _parallel(parser: ArgumentParser) -> None:
    parser.add_argument("--jobs", type=positive,
        help="runs at the same time (default: the number of cores)")  # fmt: skip
    parser.add_argument("--devices", nargs="+", default=[], metavar="DEVICE",
        help="devices that the runs take in turn (default: the settings' device)")  # fmt: skip


def tables(commands: Commands) -> None:
    """Adds ``marl tables``."""
    words = "write tables, plots and the page from the records"
    add = _command(commands, "tables", words, texts.TABLES, texts.TABLES_EXAMPLES).add_argument
    add("suites", nargs="*", default=[], metavar="SUITE", help="folders of records (default: all)")
    add("--results", metavar="DIRECTORY", default="results",
        help="folder of the suites (default results)")  # fmt: skip
    add("--check", action="store_true",
        help="write nothing; print what differs and exit with 1")  # fmt: skip
    add("--readme", metavar="SUITE",
        help="from now on show this suite's table in the README, between its marks")  # fmt: skip
    add("--redraw", action="store_true", help="redraw plots even where their data is unchanged")


def sweep(commands: Commands) -> None:
    """Adds ``marl sweep``."""
    words = "search for good settings"
    parser = _command(commands, "sweep", words, texts.SWEEP, texts.SWEEP_EXAMPLES)
    _trust(parser, "the file, and another user's run directories,")
    add = parser.add_argument
    add("file", metavar="FILE", help="a .yaml file, or a name of 'marl list sweeps'")
    add("settings", nargs="*", default=[], metavar="KEY=VALUE", help="settings of all runs")
    _parallel(parser)
    add("--count", type=positive, metavar="K", help="number of runs (default: run_cap)")
    add("--seed", type=natural, default=0, help="seed of the sampled points (default 0)")
    add("--directory", help="folder of the runs (default runs/sweep-NAME)")
    add("--dry-run", action="store_true", help="check and print the commands without running them")


def positive(text: str) -> int:
    """Returns a whole number of at least 1; argparse reports others."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def natural(text: str) -> int:
    """Returns a whole number of at least 0; argparse reports others."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} must be at least 0")
    return value
