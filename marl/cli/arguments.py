"""What the command line takes: one function per command. Loads nothing but argparse."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, _SubParsersAction
from typing import TypeAlias

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
--explain algorithm' tells what each option is (or run, task, model, teams, algorithm.gamma); '
--cfg job' shows them all. Other flags are Hydra's (--config-dir, --multirun, …).
"""
EVALUATE_EXAMPLES = """\
examples:
  marl evaluate runs/my-run --episodes 100 --video out.mp4
  marl evaluate runs/my-run task.kwargs.N=10   more agents than in training
  marl evaluate runs/a --versus runs/b runs/c --episodes 200   who beats whom
"""
BENCHMARK_EXAMPLES = """\
examples:
  marl benchmark smoke
  marl benchmark mpe --jobs 8 --only task=spread,algorithm=mappo,hasac,seed=0
  marl benchmark mpe --jobs 4 --devices cuda:0 cuda:1
  marl benchmark my_suite.yaml --dry-run

A file of yours may name import paths (task=my_tasks:duel) if --trust follows.
What has a record is skipped, what was cut off resumes: start the same command again.
"""
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
SPEED_EXAMPLES = """\
examples:
  marl speed task=vmas/balance num_envs=60 --json speed.json
  marl speed task=mpe/simple_spread num_envs=1024 --environment
"""
TABLES_EXAMPLES = """\
examples:
  marl tables            all suites, the page and the README's table
  marl tables mpe        the files of one suite
  marl tables --check    fails where anything differs from what the records say
"""
Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"
LISTS = ("tasks", "algorithms", "models", "experiments", "benchmarks", "sweeps")


def parser() -> ArgumentParser:
    root = ArgumentParser(
        "marl",
        description="Multi-agent reinforcement learning: train, evaluate, resume, look.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: marl train task=vmas/balance algorithm=mappo total_frames=1e6\n"
        "'marl COMMAND --help' tells more of each.",
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (train, resume, evaluate, listing, speed, benchmark, tables, sweep):
        add(commands)
    return root


def _command(commands: Commands, name: str, help: str, examples: str) -> ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    return commands.add_parser(name, help=help, formatter_class=raw, epilog=examples)


def _trust(parser: ArgumentParser, what: str = "run directories") -> None:
    parser.add_argument("--trust", action="store_true",
        help=f"{what} of somebody else may import the code that they name")  # fmt: skip


def train(commands: Commands) -> None:
    parser = _command(commands, "train", "train a team", TRAIN_EXAMPLES)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="what to change")
    _trust(parser)


def resume(commands: Commands) -> None:
    words = "continue a run exactly where its last checkpoint stands"
    example = "example: marl resume runs/my-run total_frames=2000000"
    parser = _command(commands, "resume", words, example)
    _trust(parser)
    add = parser.add_argument
    add("run", metavar="RUN", help="a run directory")
    add("settings", nargs="*", metavar="KEY=VALUE", help="total_frames, progress, … to change")


def evaluate(commands: Commands) -> None:
    words = "play episodes with a run's policies"
    parser = _command(commands, "evaluate", words, EVALUATE_EXAMPLES)
    _trust(parser)
    add = parser.add_argument
    add("run", metavar="RUN", help="a run directory, or one of its checkpoints")
    add("settings", nargs="*", metavar="task.KEY=VALUE", help="another number of agents, …")
    add("--episodes", type=positive, default=32, help="how many (default 32)")
    add("--max-steps", type=positive, metavar="STEPS",
        help="of an episode, beyond which it is refused (default: the run's)")  # fmt: skip
    add("--video", metavar="FILE", help="film one episode: .mp4 or .gif")
    add("--best", nargs="?", const="", metavar="TEAM",
        help="the checkpoint at which TEAM (or the only one) was best, not the last")  # fmt: skip
    add("--sample", action="store_true", help="sampled actions, not greedy ones")
    add("--seed", type=natural, default=0, help="of the episodes (default 0)")
    add("--device", default="cpu")
    add("--json", action="store_true", help="print every episode as JSON")
    add("--versus", nargs="+", metavar="RUN", help="runs of the same task: each team against "
        "all others; a table, crossplay.json and crossplay.png")  # fmt: skip
    add("--side", default="", help="the team of the rows (default: the first)")
    add("--out", metavar="DIRECTORY", help="where crossplay.* go (default: the first run's)")


def listing(commands: Commands) -> None:
    words = "what there is to choose from"
    add = _command(commands, "list", words, "example: marl list tasks").add_argument
    add("what", choices=LISTS)


def speed(commands: Commands) -> None:
    words = "steady frames/s of a configuration"
    parser = _command(commands, "speed", words, SPEED_EXAMPLES)
    _trust(parser)
    add = parser.add_argument
    add("settings", nargs="*", metavar="KEY=VALUE", help="as for train")
    add("--environment", action="store_true", help="the environment alone, under random actions")
    add("--iterations", type=positive, default=3, help="to time (default 3)")
    add("--warmup", type=positive, default=1, help="to run first (default 1)")
    add("--json", metavar="FILE", help="append the figures to this JSONL file")


def benchmark(commands: Commands) -> None:
    words = "all runs of a suite, and their records"
    parser = _command(commands, "benchmark", words, BENCHMARK_EXAMPLES)
    _trust(parser, "the file, and run directories,")
    add = parser.add_argument
    add("name", metavar="NAME", help="of 'marl list benchmarks', or a .yaml")
    add("--jobs", type=positive, help="runs at once (default: the cores)")
    add("--only", action="append", default=[], metavar="task=…,algorithm=…,seed=…",
        help="these of the suite's runs; several values: algorithm=mappo,ippo")  # fmt: skip
    add("--devices", nargs="+", default=[], metavar="DEVICE", help="taken in turn (default: cpu)")
    add("--runs", default="runs/benchmark", metavar="DIRECTORY",
        help="where runs are kept (default runs/benchmark)")  # fmt: skip
    add("--results", metavar="DIRECTORY", help="where records go (default results/NAME)")
    add("--wandb", action="store_true", help="log to W&B, grouped by task and algorithm")
    add("--prune", action="store_true",
        help="of a run that is recorded, keep the best policies only, no replay")  # fmt: skip
    add("--dry-run", action="store_true", help="print the commands only")


def tables(commands: Commands) -> None:
    words = "tables, plots and the page from the records"
    add = _command(commands, "tables", words, TABLES_EXAMPLES).add_argument
    add("suites", nargs="*", metavar="SUITE", help="a folder of records (default: all)")
    add("--results", metavar="DIRECTORY", default="results",
        help="where the suites are (default results)")  # fmt: skip
    add("--check", action="store_true", help="write nothing; say what differs, and exit with 1")
    add("--redraw", action="store_true", help="draw plots anew whose data is the same")


def sweep(commands: Commands) -> None:
    words = "many runs to find good settings, here and without a server"
    parser = _command(commands, "sweep", words, SWEEP_EXAMPLES)
    _trust(parser, "the file, and run directories,")
    add = parser.add_argument
    add("file", metavar="FILE", help="a .yaml, or a name of 'marl list sweeps'")
    add("settings", nargs="*", metavar="KEY=VALUE", help="for all runs")
    add("--jobs", type=positive, help="runs at once (default: the cores)")
    add("--count", type=positive, metavar="K", help="runs (default: the run_cap)")
    add("--seed", type=natural, default=0, help="of the points drawn (default 0)")
    add("--directory", help="where the runs go (default runs/sweep-NAME)")
    add("--dry-run", action="store_true", help="check and print the commands only")


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
