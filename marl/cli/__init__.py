"""``marl``: the composition root. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence

DESCRIPTION = "Multi-agent reinforcement learning: train, evaluate, resume, look."
TRAIN_EXAMPLES = """\
examples:
  marl train                                        the default run
  marl train task=vmas/balance algorithm=ippo total_frames=1e6 seed=1
  marl train task=mpe2/simple_spread_v3 model=gru algorithm.actor_lr=3e-4
  marl train -m seed=0,1,2                          one run after the other
  marl train task=mpe2/simple_tag_v3 teams.agent.algorithm=random
  marl train task=my_package.my_module:my_factory   an environment of your own

Settings are key=value: task, algorithm and model choose by name ('marl list tasks'), task.…,
algorithm.… and model.… change one of their options, the rest belongs to the run (total_frames,
num_envs, steps, seed, device, evaluation_interval, wandb, tensorboard, directory, …). 'marl train
--cfg job' shows them all. Other flags are Hydra's (--config-dir, --multirun, …).
"""

# Each is imported only when it is wanted: some load torch, which takes seconds, and some need not.
COMMANDS = {
    "train": "marl.cli.commands:train",
    "resume": "marl.cli.commands:resume",
    "evaluate": "marl.cli.commands:evaluate",
    "list": "marl.cli.commands:names",
    "speed": "marl.cli.commands:speed",
    "benchmark": "marl.cli.benchmark:run",
    "tables": "marl.cli.tables:tables",
    "sweep": "marl.cli.sweep:run",
}

SWEEP_EXAMPLES = """\
examples:
  marl sweep mappo --jobs 4 --count 20
  marl sweep mappo --count 8 task=vmas/balance total_frames=1e6
  marl sweep my_sweep.yaml --dry-run

FILE is what 'wandb sweep FILE' takes. method: grid goes through all values; random draws points;
bayes, which W&B's server does, draws them too. early_terminate stops runs that fall behind. Runs
leave W&B alone unless wandb=true follows. Started again in the same directory, a sweep skips what
has ended, resumes what was cut off and tries again what failed; a larger --count adds to it.
"""


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser(
        "marl", description=DESCRIPTION, formatter_class=raw,
        epilog="example: marl train task=vmas/balance algorithm=mappo total_frames=1e6\n"
        "'marl COMMAND --help' tells more of each.",
    )  # fmt: skip
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train", help="train a team", formatter_class=raw, epilog=TRAIN_EXAMPLES
    )
    train.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="what to change")

    resume = commands.add_parser(
        "resume", help="continue a run exactly where its last checkpoint stands",
        epilog="example: marl resume runs/my-run total_frames=2000000", formatter_class=raw,
    )  # fmt: skip
    resume.add_argument("run", metavar="RUN", help="a run directory")
    resume.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="total_frames, progress, … to change"
    )

    evaluate = commands.add_parser(
        "evaluate", help="play episodes with a run's policies",
        epilog="examples: marl evaluate runs/my-run --episodes 100 --video out.mp4\n"
        "          marl evaluate runs/my-run task.kwargs.N=10   more agents than in training\n"
        "          marl evaluate runs/a --versus runs/b runs/c --episodes 200   who beats whom",
        formatter_class=raw,
    )  # fmt: skip
    evaluate.add_argument("run", metavar="RUN", help="a run directory, or one of its checkpoints")
    evaluate.add_argument(
        "settings", nargs="*", metavar="task.KEY=VALUE", help="another number of agents, …"
    )
    evaluate.add_argument("--episodes", type=positive, default=32, help="how many (default 32)")
    evaluate.add_argument("--video", metavar="FILE", help="film one episode: .mp4 or .gif")
    evaluate.add_argument(
        "--best", nargs="?", const="", metavar="TEAM",
        help="the checkpoint at which TEAM (or the only one) was best, not the last",
    )  # fmt: skip
    evaluate.add_argument("--sample", action="store_true", help="sampled actions, not greedy ones")
    evaluate.add_argument("--seed", type=natural, default=0, help="of the episodes (default 0)")
    evaluate.add_argument("--device", default="cpu")
    evaluate.add_argument("--json", action="store_true", help="print every episode as JSON")
    evaluate.add_argument(
        "--versus", nargs="+", metavar="RUN", help="runs of the same task: each team against "
        "all others; a table, crossplay.json and crossplay.png",
    )  # fmt: skip
    evaluate.add_argument("--side", default="", help="the team of the rows (default: the first)")
    evaluate.add_argument(
        "--out", metavar="DIRECTORY", help="where crossplay.* go (default: the first run's)"
    )

    listing = commands.add_parser(
        "list", help="what there is to choose from", epilog="example: marl list tasks",
        formatter_class=raw,
    )  # fmt: skip
    listing.add_argument(
        "what",
        choices=("tasks", "algorithms", "models", "experiments", "benchmarks", "sweeps"),
    )

    benchmark = commands.add_parser(
        "benchmark", help="all runs of a suite, and their records", formatter_class=raw,
        epilog="examples: marl benchmark smoke\n"
        "          marl benchmark mpe --jobs 8 --only task=spread,algorithm=mappo,hasac,seed=0\n"
        "          marl benchmark mpe --jobs 4 --devices cuda:0 cuda:1\n"
        "          marl benchmark my_suite.yaml --dry-run\n"
        "What has a record is skipped, what was cut off resumes: start the same command again.",
    )  # fmt: skip
    benchmark.add_argument("name", metavar="NAME", help="of 'marl list benchmarks', or a .yaml")
    benchmark.add_argument("--jobs", type=positive, help="runs at once (default: the cores)")
    benchmark.add_argument(
        "--only", action="append", default=[], metavar="task=…,algorithm=…,seed=…",
        help="these of the suite's runs; several values: algorithm=mappo,ippo",
    )  # fmt: skip
    benchmark.add_argument(
        "--devices", nargs="+", default=[], metavar="DEVICE", help="taken in turn (default: cpu)"
    )
    benchmark.add_argument("--runs", default="runs/benchmark", metavar="DIRECTORY",
                           help="where runs are kept (default runs/benchmark)")  # fmt: skip
    benchmark.add_argument("--results", metavar="DIRECTORY",
                           help="where records go (default results/NAME)")  # fmt: skip
    benchmark.add_argument("--dry-run", action="store_true", help="print the commands only")

    sweep = commands.add_parser(
        "sweep", help="many runs to find good settings, here and without a server",
        formatter_class=raw, epilog=SWEEP_EXAMPLES,
    )  # fmt: skip
    sweep.add_argument("file", metavar="FILE", help="a .yaml, or a name of 'marl list sweeps'")
    sweep.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="for all runs")
    sweep.add_argument("--jobs", type=positive, help="runs at once (default: the cores)")
    sweep.add_argument("--count", type=positive, metavar="K", help="runs (default: the run_cap)")
    sweep.add_argument("--seed", type=natural, default=0, help="of the points drawn (default 0)")
    sweep.add_argument("--directory", help="where the runs go (default runs/sweep-NAME)")
    sweep.add_argument("--dry-run", action="store_true", help="check and print the commands only")

    speed = commands.add_parser(
        "speed", help="steady frames/s of a configuration", formatter_class=raw,
        epilog="examples: marl speed task=vmas/balance num_envs=60 --json speed.json\n"
        "          marl speed task=mpe/simple_spread num_envs=1024 --environment",
    )  # fmt: skip
    speed.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as for train")
    speed.add_argument(
        "--environment", action="store_true", help="the environment alone, under random actions"
    )
    speed.add_argument("--iterations", type=positive, default=3, help="to time (default 3)")
    speed.add_argument("--warmup", type=positive, default=1, help="to run first (default 1)")
    speed.add_argument("--json", metavar="FILE", help="append the figures to this JSONL file")

    tables = commands.add_parser(
        "tables", help="tables, plots and the page from the records", formatter_class=raw,
        epilog="examples: marl tables            all suites, the page and the README's table\n"
        "          marl tables mpe        the files of one suite\n"
        "          marl tables --check    fails where anything differs from what the records say",
    )  # fmt: skip
    tables.add_argument(
        "suites", nargs="*", metavar="SUITE", help="a folder of records (default: all)"
    )
    tables.add_argument(
        "--results",
        metavar="DIRECTORY",
        default="results",
        help="where the suites are (default results)",
    )
    tables.add_argument(
        "--check", action="store_true", help="write nothing; say what differs, and end with code 1"
    )
    tables.add_argument(
        "--redraw", action="store_true", help="draw plots anew whose data is the same"
    )
    return root


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"a seed is at least 0, not {text}")
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; bad input ends in one sentence and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.path.append(os.getcwd())  # where import paths like my_tasks:duel are looked for last
    if words[:1] == ["train"] and not {"-h", "--help"} & set(words):
        command, options = "train", argparse.Namespace(settings=words[1:])
    else:
        # argparse takes settings behind the first word only
        separate = words[0] in ("evaluate", "sweep") if words else False
        changes = [word for word in words if separate and re.match(r"[\w.]+=", word)]
        options = parser().parse_args([word for word in words if word not in changes])
        command = options.command
        if separate:
            options.settings += changes
    from marl.errors import UserError

    try:
        module, name = COMMANDS[command].split(":")
        run = getattr(importlib.import_module(module), name)
        code = run(options)
        sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        print(f"marl: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # as of `marl list tasks | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
