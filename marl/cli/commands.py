"""The commands ``marl train``, ``resume``, ``list`` and ``speed``: one function each."""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marl.cli import compose, explain, stacked
from marl.cli.config_errors import one_sentence
from marl.cli.multirun import check_directory
from marl.cli.overrides import overrides
from marl.cli.run_report import print_run, random_returns, summarize
from marl.errors import UserError
from marl.experiment import Experiment
from marl.launch.job import JOB
from marl.training import run_directory
from marl.training.settings import Settings
from marl.utils import distributed, trust
from marl.utils.device import find_device
from marl.utils.files import Lock

# Flags of Hydra that take a value.
VALUE_FLAGS = ("--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd")
VALUE_FLAGS += ("--config-path", "-cp", "--config-name", "-cn", "--experimental-rerun")
# All of its flags.
FLAGS = (*VALUE_FLAGS, "--multirun", "-m", "--run", "-r", "--resolve", "--shell-completion", "-sc")
FLAGS += ("--hydra-help", "--help", "-h", "--version")


def train(options: Namespace) -> int:
    """Runs ``marl train``: one run, or with Hydra's flags what they ask for.

    Returns:
        The exit code.
    """
    if explain.FLAG in options.settings:
        return explain.explain(options.settings)
    if any(word.startswith("-") for word in options.settings):
        check_flags(options.settings)
        return _hydra(options.settings)
    shared = bool({JOB, "WANDB_SWEEP_ID"} & os.environ.keys())  # with other runs of a launcher
    return _build_and_run(compose.composed(options.settings), () if shared else options.settings)


def _build_and_run(config: compose.RunConfig, words: Sequence[str] = ()) -> int:
    with distributed.joined(find_device(config.device)):
        if config.stacked_seeds > 1:
            return stacked.train(config, words)
        return run(compose.build(config, words))


def _hydra(words: Sequence[str]) -> int:
    """Lets Hydra run the settings, for --multirun, --cfg, --config-dir, launchers and sweepers."""
    import hydra

    if distributed.requested_size() > 1:
        raise UserError(
            "Hydra's flags do not work under torchrun, which starts one run; leave out flags like "
            "-m, or start marl without torchrun"
        )
    if "hydra/launcher=submitit_slurm" in words and not shutil.which("srun"):
        raise UserError(
            "no Slurm here: srun is not installed; choose hydra/launcher=submitit_local"
        )
    compose.register()
    flags, settings = split_flags(words)
    multirun = bool({"-m", "--multirun"} & set(flags))
    words = overrides(settings, multirun)
    if multirun:
        with one_sentence():
            check_directory(words)
    sys.argv = ["marl", *flags, *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach one_sentence below

    codes = [0]  # of every run; Hydra does not return them
    trusting = trust.accepts_all()  # a launcher may move the job to another process

    @hydra.main(version_base="1.3", config_path="pkg://marl.configs", config_name="train")
    def job(config: Any) -> None:
        with trust.accept_all(trusting):
            codes.append(_build_and_run(compose.typed(config), () if multirun else settings))
        if codes[-1] >= 128:  # a signal ends them all
            sys.exit(codes[-1])

    with one_sentence():
        job()
    return max(codes)


def check_flags(words: Sequence[str]) -> None:
    """Raises UserError for the first flag that is neither Hydra's nor ours."""
    for word in words:
        flag = word.partition("=")[0]
        short = flag in FLAGS or (flag.startswith("--") and any(f.startswith(flag) for f in FLAGS))
        if word.startswith("-") and not short:
            raise UserError(
                f"unknown flag {flag!r}; settings are KEY=VALUE without dashes, such as "
                "total_frames=1e6, and 'marl train --help' lists them"
            )


def split_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns Hydra's flags with their values, and the settings."""
    flags: list[str] = []
    settings: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        is_value = before in VALUE_FLAGS and "=" not in word
        (flags if is_value or word.startswith("-") else settings).append(word)
    return flags, settings


def run(experiment: Experiment) -> int:
    """Trains, draws the learning curve, films, and prints where everything is.

    Of several ranks only the first does more than train. The run's directory is locked meanwhile.

    Returns:
        The exit code: 0, or 128 + n after signal n.
    """
    with experiment.locked(), experiment.process.use():
        return _train(experiment) if distributed.rank() else _train_and_report(experiment)


def _train(experiment: Experiment) -> int:
    experiment.run()
    experiment.close()
    distributed.leave()
    return 128 + experiment.stop.signal if experiment.stop.signal else 0


def _train_and_report(experiment: Experiment) -> int:
    filmed = print_run(experiment)
    baseline = random_returns(experiment)
    code = _train(experiment)
    if code:
        print(f"stopped and saved; continue with: marl resume {experiment.directory}")
    else:
        summarize(experiment, baseline, filmed)
    return code


def resume(options: Namespace) -> int:
    """Runs ``marl resume``: continues a run, possibly to more frames.

    Returns:
        The exit code.
    """
    directory, changes = Path(options.run), _changes(options.settings)
    if stacked.is_stack(directory):
        return stacked.resume(directory, changes)
    run_directory.check(directory)
    if distributed.requested_size() == 1:
        Lock(directory).check()  # before loading, which takes time
    device = changes.get("device") or run_directory.device_of(directory)
    with distributed.joined(find_device(device)):
        experiment = Experiment.load(directory, **changes)
        if not distributed.rank() and experiment.checkpoints.last() is None:
            print("resume   no checkpoint yet: the run starts from its beginning")
        return run(experiment)


def _changes(words: Sequence[str]) -> dict[str, Any]:
    """Returns the settings that ``words`` (KEY=VALUE) change, checked as new ones are."""
    allowed = ("total_frames", "absolute_episodes", "evaluation_max_steps", "stop_at_return",
               "stop_after_no_improvement", "stop_team", "progress", "threads",
               "device")  # fmt: skip
    names = []
    for word in words:
        name, equals, _ = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} is not a setting; expected KEY=VALUE")
        if name not in allowed:
            raise UserError(f"resume changes only {', '.join(allowed)}, not {name!r}; leave it out")
        names.append(name)
    changed = compose.merged(Settings(), words)
    return {name: getattr(changed, name) for name in names}


def speed(options: Namespace) -> int:
    """Runs ``marl speed``: measures frames per second.

    Returns:
        The exit code.
    """
    from marl.cli.speed import measure

    return measure(options)
