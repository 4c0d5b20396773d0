"""What ``marl train`` and ``marl resume`` print of a run, before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from marl.cli import compose
from marl.cli.evaluate import spread
from marl.envs.drawing import why_not_drawn
from marl.envs.graph import cannot_draw
from marl.experiment import Experiment
from marl.launch.progress import rounding
from marl.learning.replay_limits import format_bytes
from marl.training import run_directory, stage_borders
from marl.training.teams import Team
from marl.types import AgentGroup
from marl.utils.capabilities import learns
from marl.utils.jsonl import read_json


def print_run(experiment: Experiment, folder: Path | None = None, ended: bool = True) -> bool:
    """Prints where a run's files go, who learns with what, and what its options cause.

    Args:
        experiment: the run; of a stack the first seed's.
        folder: what to resume; by default the run's directory.
        ended: False where other seeds of the stack have not ended, even if this one has.

    Returns:
        Whether the run is to be filmed.
    """
    settings = experiment.settings
    print(f"run      {experiment.directory}", flush=True)
    if words := rounding(settings.total_frames, settings.frames_per_iteration):
        print(f"frames   {words}", flush=True)
    for name, team in experiment.specs.items():
        print(f"team     {describe(name, team, experiment.env.groups)}", flush=True)
    if ended:
        print_end(experiment, folder)
    print_stages(experiment)
    print_replay(experiment)
    print_images(experiment)
    return print_video(experiment)


def describe(name: str, team: Team, groups: Mapping[str, AgentGroup]) -> str:
    """Returns ``team: 2 agents (a_0, a_1), mappo, reward team_mean``.

    Args:
        name: of the team.
        team: its groups and algorithm.
        groups: all groups of the environment. Of more than six agents the first three and the last
            are named.
    """
    agents = [agent for group in team.groups or () for agent in groups[group].agents]
    shown = agents if len(agents) <= 6 else [*agents[:3], "…", agents[-1]]
    number = f"{len(agents)} agent{'s' if len(agents) > 1 else ''}"
    config = type(team.algorithm)
    names = {kind: word for word, kind in compose.choices("algorithm").items()}
    words = [f"{number} ({', '.join(shown)})", names.get(config, config.__name__)]
    if reward := getattr(team.algorithm, "reward", None):
        words.append(f"reward {reward}")
    return f"{name}: {', '.join(words)}"


def print_stages(experiment: Experiment) -> None:
    """Prints the stages of a curriculum from the present one on."""
    stages = experiment.stages
    for number in range(stages.number, len(stages) if len(stages) > 1 else 0):
        print(f"stage    {stages.describe(number)}", flush=True)


def print_end(experiment: Experiment, folder: Path | None = None) -> None:
    """Prints of a run that is resumed and finished already why it is, and how to train on."""
    if not experiment.ending:
        return
    settings, setting = experiment.settings, experiment.early_stop.setting
    if experiment.frames >= settings.total_frames or experiment.early_stop.requested:
        change = f"total_frames={2 * settings.total_frames}"
    else:
        change = f"{setting}={'null' if setting == 'stop_at_return' else 0}"
    on = f"train on with: marl resume {folder or experiment.directory} {change}"
    print(f"finished {experiment.ending}; {on}", flush=True)


def print_replay(experiment: Experiment) -> None:
    """Prints the replay's capacity and size, and whether resuming will be exact."""
    replay = experiment.replay
    if replay is None:
        return
    words = "saved in each checkpoint"
    if not experiment.settings.replay_checkpoint:
        words = "not saved in checkpoints, so that resuming is not exact"
    full, largest = format_bytes(replay.storage_bytes), format_bytes(replay.largest_bytes)
    size = f"{full} (short episodes: up to {largest})"
    print(f"replay   {replay.capacity_frames:,} frames, {size}; {words}", flush=True)
    if experiment.frames and not replay.stored_frames:
        print("replay   starts empty, since the checkpoint has none: this resume is not exact")


def print_images(experiment: Experiment) -> None:
    """Prints how the teams that learn read images, and other observations with many features."""
    from marl.networks.encoders import describe_input
    from marl.networks.perceptron import Perceptron

    lines: dict[str, None] = {}  # an ordered set
    for name, team in experiment.specs.items():
        models = [m for m in (team.model, team.critic_model) if isinstance(m, Perceptron)]
        if not learns(experiment.teams[name]):
            continue
        for group in team.groups or []:
            lines |= dict.fromkeys(
                filter(None, (describe_input(experiment.env.groups[group], m) for m in models))
            )
    for line in lines:
        print(f"images   {line}", flush=True)


def print_video(experiment: Experiment) -> bool:
    """Prints that there will be no video where the environment cannot draw itself.

    Returns:
        Whether the run is to be filmed.
    """
    if not experiment.settings.video:
        return False
    if why := cannot_draw(experiment.evaluations.env):
        print(f"video    none: {why}; set video=false to hide this line", flush=True)
    return not why


def random_returns(experiment: Experiment) -> dict[str, list[float]]:
    """Returns the episode returns of random teams on the same task (of a curriculum's last stage),
    by team; they are stored as ``random.json``."""
    from marl.algorithms.scripted import RandomConfig
    from marl.training.build import build_teams
    from marl.training.evaluation import Limit, evaluate
    from marl.training.teams import RunShape
    from marl.utils.seeding import evaluation_seed

    path, settings = experiment.directory / "random.json", experiment.settings
    if (stored := read_json(path)) is not None:
        return stored["returns"]
    specs = {name: Team(team.groups, RandomConfig()) for name, team in experiment.specs.items()}
    env, seed = experiment.evaluations.env, evaluation_seed(settings.seed, "random")
    if not experiment.stages.is_last:
        env = stage_borders.last_environment(experiment)
    teams = build_teams(env, specs, RunShape(), settings.seed)
    limit = Limit(settings.evaluation_max_steps, "random play")
    result = evaluate(env, teams, settings.evaluation_episodes, seed, limit=limit)
    if env is not experiment.evaluations.env:
        env.close()
    run_directory.write_json(path, result)
    return result["returns"]


def summarize(
    experiment: Experiment, baseline: Mapping[str, list[float]], filmed: bool = True
) -> None:
    """Prints how good the policies are, beside random play, and where everything is.

    Args:
        experiment: the run, trained to its end.
        baseline: episode returns of random play, by team.
        filmed: whether to film an episode; where it cannot be, ``print_run`` has said so.
    """
    from marl.training import report

    directory, evaluations = experiment.directory, experiment.evaluations
    if experiment.stop.why:
        print(f"finished {experiment.stop.why}")
    if not experiment.stages.is_last:
        print(f"stage    {experiment.stages.number + 1} was never over: no later stage was trained")
    for team, returns in evaluations.returns.items():
        print(
            f"return   {team}: {spread(returns)} (mean ± standard error of {len(returns)} episodes "
            f"at frame {evaluations.last_frame:,}; random play: {spread(baseline[team])})"
        )
    print(f"record   {directory / 'evaluations.jsonl'}")
    print(f"curve    {report.draw_curve(directory)}")
    print(f"weights  {experiment.checkpoints.last()}")
    if filmed:
        try:
            print(f"video    {report.write_video(experiment.film(), directory / 'video.mp4')}")
        except Exception as error:  # any error of the environment's own drawing
            (directory / "video.mp4").unlink(missing_ok=True)  # half a file
            print(f"video    none: {why_not_drawn(error)}")
