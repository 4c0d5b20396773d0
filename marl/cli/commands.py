"""``marl train``, ``resume``, ``list``, ``speed``: a function each; it takes the parsed options."""

from __future__ import annotations

import json
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marl.cli import compose, explain
from marl.cli.config_errors import one_sentence
from marl.cli.evaluate import spread
from marl.cli.overrides import overrides
from marl.envs.graph import cannot_draw
from marl.errors import UserError
from marl.experiment import Experiment
from marl.launch.progress import rounding
from marl.learning.replay import weight
from marl.training import run_directory
from marl.training.settings import Settings
from marl.training.teams import Team
from marl.types import AgentGroup
from marl.utils import distributed, trust
from marl.utils.capabilities import learns
from marl.utils.device import find_device
from marl.utils.files import Lock

# Flags of Hydra that take a value.
VALUE_FLAGS = ("--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd")
VALUE_FLAGS += ("--config-path", "-cp", "--config-name", "-cn", "--experimental-rerun")


def train(options: Namespace) -> int:
    """``marl train``: one run, or with Hydra's flags what they ask for."""
    if explain.FLAG in options.settings:
        return explain.explain(options.settings)
    if any(word.startswith("-") for word in options.settings):
        return _hydra(options.settings)
    return _build_and_run(compose.composed(options.settings))


def _build_and_run(config: compose.RunConfig) -> int:
    with distributed.joined(find_device(config.device)):
        return run(compose.build(config))


def _hydra(words: Sequence[str]) -> int:
    """Hands over to Hydra: multirun, --cfg, --config-dir, launchers and sweepers."""
    import hydra

    if distributed.requested_size() > 1:
        raise UserError("torchrun is for one run; leave out flags like -m, or start marl alone")
    if "hydra/launcher=submitit_slurm" in words and not shutil.which("srun"):
        raise UserError("there is no Slurm here (no srun); take hydra/launcher=submitit_local")
    compose.register()
    flags, settings = split_flags(words)
    multirun = bool({"-m", "--multirun"} & set(flags))
    sys.argv = ["marl", *flags, *overrides(settings, multirun)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors arrive here, to be said in a sentence

    codes = [0]  # of every run; Hydra keeps none of them
    trusting = trust.accepts_all()  # a launcher may take the job to another process

    @hydra.main(version_base="1.3", config_path="pkg://marl.configs", config_name="train")
    def job(config: Any) -> None:
        with trust.accept_all(trusting):
            codes.append(_build_and_run(compose.typed(config)))
        if codes[-1] >= 128:  # a signal ends them all
            sys.exit(codes[-1])

    with one_sentence():
        job()
    return max(codes)


def split_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the settings."""
    flags: list[str] = []
    settings: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        is_value = before in VALUE_FLAGS and "=" not in word
        (flags if is_value or word.startswith("-") else settings).append(word)
    return flags, settings


def run(experiment: Experiment) -> int:
    """Trains, draws the curve, films, and says where everything lies; 128 + n after signal n. Of
    several ranks the first does what is not training. All the while nobody else trains there."""
    with experiment.locked(), experiment.process.use():
        return _training(experiment) if distributed.rank() else _telling(experiment)


def _training(experiment: Experiment) -> int:
    experiment.run()
    experiment.close()
    distributed.leave()
    return 128 + experiment.stop.signal if experiment.stop.signal else 0


def _telling(experiment: Experiment) -> int:
    print(f"run      {experiment.directory}", flush=True)
    if words := rounding(
        experiment.settings.total_frames, experiment.settings.frames_per_iteration
    ):
        print(f"frames   {words}", flush=True)
    for name, team in experiment.specs.items():
        print(f"team     {describe(name, team, experiment.env.groups)}", flush=True)
    print_replay(experiment)
    print_images(experiment)
    print_video(experiment)
    baseline = random_returns(experiment)
    code = _training(experiment)
    if code:
        print(f"stopped and saved; continue with: marl resume {experiment.directory}")
    else:
        summarize(experiment, baseline)
    return code


def describe(name: str, team: Team, groups: Mapping[str, AgentGroup]) -> str:
    """``team: 2 agents (a_0, a_1), mappo, reward team_mean``; of many agents the first and last."""
    agents = [agent for group in team.groups or () for agent in groups[group].agents]
    shown = agents if len(agents) <= 6 else [*agents[:3], "…", agents[-1]]
    number = f"{len(agents)} agent{'s' if len(agents) > 1 else ''}"
    config = type(team.algorithm)
    known = {chosen: word for word, chosen in compose.choices("algorithm").items()}
    words = [f"{number} ({', '.join(shown)})", known.get(config, config.__name__)]
    if reward := getattr(team.algorithm, "reward", None):
        words.append(f"reward {reward}")
    return f"{name}: {', '.join(words)}"


def print_replay(experiment: Experiment) -> None:
    """Says what the replay will hold and weigh, and whether resuming is exact with it."""
    replay = experiment.replay
    if replay is None:
        return
    kept = experiment.settings.replay_checkpoint
    words = "each checkpoint holds it" if kept else "no checkpoint does: resuming is not exact"
    size = f"{weight(replay.weighs)} (short episodes: up to {weight(replay.most)})"
    print(f"replay   {replay.room:,} frames, {size}; {words}", flush=True)
    if experiment.frames and not len(replay):
        print("replay   starts empty, for the checkpoint has none: this run goes on inexactly")


def print_images(experiment: Experiment) -> None:
    """Says how the teams that learn read images, and other observations of many numbers."""
    from marl.networks.encoders import reading
    from marl.networks.perceptron import Perceptron

    lines: dict[str, None] = {}  # each once, in order
    for name, team in experiment.specs.items():
        models = [m for m in (team.model, team.critic_model) if isinstance(m, Perceptron)]
        if not learns(experiment.teams[name]):
            continue
        for group in team.groups or []:
            lines |= dict.fromkeys(
                filter(None, (reading(experiment.env.groups[group], m) for m in models))
            )
    for line in lines:
        print(f"images   {line}", flush=True)


def print_video(experiment: Experiment) -> None:
    """Says that there will be no video where the environment draws none."""
    if experiment.settings.video and (why := cannot_draw(experiment.evaluations.env)):
        print(f"video    there will be none: {why}; video=false asks for none", flush=True)


def random_returns(experiment: Experiment) -> dict[str, list[float]]:
    """What random teams reach on the same task, kept as ``random.json``."""
    from marl.algorithms.scripted import RandomConfig
    from marl.training.build import build_teams
    from marl.training.evaluation import Limit, evaluate
    from marl.training.teams import RunShape
    from marl.utils.seeding import evaluation_seed

    path, settings = experiment.directory / "random.json", experiment.settings
    if path.exists():
        return json.loads(path.read_text())["returns"]
    specs = {name: Team(team.groups, RandomConfig()) for name, team in experiment.specs.items()}
    env, seed = experiment.evaluations.env, evaluation_seed(settings.seed, "random")
    teams = build_teams(env, specs, RunShape(), settings.seed)
    limit = Limit(settings.evaluation_max_steps, "random play")
    result = evaluate(env, teams, settings.evaluation_episodes, seed, limit=limit)
    run_directory.write_json(path, result)
    return result["returns"]


def summarize(experiment: Experiment, baseline: Mapping[str, list[float]]) -> None:
    """Says how good the policy is, and where everything lies."""
    from marl.training import report

    directory = experiment.directory
    for team, returns in experiment.evaluations.returns.items():
        print(f"return   {team}: {spread(returns)}   (random: {spread(baseline[team])})")
    print(f"record   {directory / 'evaluations.jsonl'}")
    print(f"curve    {report.draw_curve(directory)}")
    print(f"weights  {experiment.checkpoints.last()}")
    if experiment.settings.video:
        try:
            print(f"video    {report.write_video(experiment.film(), directory / 'video.mp4')}")
        except Exception as error:  # whatever an environment raises that cannot draw itself
            (directory / "video.mp4").unlink(missing_ok=True)  # what there is of it
            why = str(error).splitlines() or [type(error).__name__]
            print(f"video    none, rendering failed: {why[0]}")


def resume(options: Namespace) -> int:
    """``marl resume``: continues a run, possibly to more frames."""
    directory, changes = Path(options.run), _changes(options.settings)
    run_directory.check(directory)
    if distributed.requested_size() == 1:
        Lock(directory).check()  # before the time is spent to load it
    device = changes.get("device") or run_directory.device_of(directory)
    with distributed.joined(find_device(device)):
        experiment = Experiment.load(directory, **changes)
        if not distributed.rank() and experiment.checkpoints.last() is None:
            print("resume   there is no checkpoint yet: the run starts from its beginning")
        return run(experiment)


def _changes(words: Sequence[str]) -> dict[str, Any]:
    """What ``words`` (KEY=VALUE) change of a run's settings, checked as new ones are."""
    allowed = ("total_frames", "absolute_episodes", "evaluation_max_steps", "progress", "threads",
               "device")  # fmt: skip
    names = []
    for word in words:
        name, equals, _ = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} is not a setting; expected KEY=VALUE")
        if name not in allowed:
            raise UserError(f"resume changes only {', '.join(allowed)}, not {name!r}")
        names.append(name)
    changed = compose.merged(Settings(), words)
    return {name: getattr(changed, name) for name in names}


def names(options: Namespace) -> int:
    """``marl list``: the names that settings take."""
    from marl import configs
    from marl.envs.task import task_names

    folder = Path(configs.__file__).parent
    if options.what == "tasks":
        found: Sequence[str] = task_names()
    elif options.what == "benchmarks":
        from marl.cli.benchmark import listed

        found = listed()
    elif options.what == "sweeps":
        from marl.cli.sweep import listed

        found = listed()
    elif options.what == "experiments":
        found = sorted(path.stem for path in (folder / "experiment").glob("*.yaml"))
    else:
        kind = options.what.removesuffix("s")
        files = (path.stem for path in (folder / kind).glob("*.yaml"))
        found = sorted({*compose.choices(kind), *files})
    print("\n".join(found))
    return 0


def speed(options: Namespace) -> int:
    """``marl speed``: steady frames/s, split into its parts."""
    from marl.cli.speed import measure

    return measure(options)
