"""Settings of a run, which the command line sets at its top level."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any

from marl.errors import UserError, unknown
from marl.training import curriculum
from marl.training.selfplay import SelfPlayConfig
from marl.training.start_from import StartFrom
from marl.utils.user_files import absolute
from marl.utils.validation import check_range, check_word


@dataclass
class Settings:
    """Settings of a run: how it collects, evaluates, saves and logs.

    All numbers are of the whole run: ranks share frames and copies evenly.
    """

    #: Frames to train for; one frame is one step of one copy of the environment, whatever the
    #: number of its agents. Rounded up to whole iterations. Usual 100,000 to 100,000,000.
    total_frames: int = 1_000_000
    #: Copies of the environment that are stepped together; ranks share them evenly. Usual 8 to 64
    #: in Python environments, 32 to 4,096 in batched ones.
    num_envs: int = 32
    #: Steps of each copy between two updates; ``num_envs * steps`` frames are one iteration. Usual
    #: 25 to 400, for off-policy algorithms also fewer.
    steps: int = 100
    #: Seed of weights, environments, actions and evaluations, from 0 to 2,147,483,647.
    seed: int = 0
    #: Device of networks, rollouts and batched environments: cpu, cuda (of several ranks each takes
    #: its own) or cuda:N.
    device: str = "cpu"
    #: Threads of torch on the CPU; 1 makes results exact and is rarely slower, 0 leaves the choice
    #: to torch.
    threads: int = 1
    #: How the run executes: eager (the reference); compiled (rollouts in native environments, and
    #: steps of learning, compiled for the processor: minutes at the start, faster afterwards);
    #: captured (the same recorded as CUDA graphs, with device=cuda; not tried on a GPU yet); or
    #: auto, which is eager. Results are equal up to rounding.
    execution: str = "auto"
    #: Frames between two evaluations; 0 evaluates at the end only. Usual 2 to 10% of total_frames.
    evaluation_interval: int = 50_000
    #: Actions of the evaluations' episodes: greedy, sampled (as in training, with its exploration
    #: noise), or both, where the best checkpoint is chosen by the greedy ones. Sampled episodes
    #: show more of a competitive game, which greedy teams may play the same way every time.
    evaluation: str = "greedy"
    #: Episodes of each evaluation; of each kind, where it has both. Usual 10 to 100.
    evaluation_episodes: int = 32
    #: Longest episode of an evaluation, in steps; an evaluation with a longer one ends the run with
    #: an error, and the run can be resumed with another limit.
    evaluation_max_steps: int = 10_000
    #: Episodes of the absolute metric: each team's best checkpoint is played again at the end of
    #: the run (absolute.json). 0 for none; usual 10 times evaluation_episodes.
    absolute_episodes: int = 0
    #: Ends the run at the first evaluation whose mean return is at least this; null for none.
    stop_at_return: float | None = None
    #: Ends the run after this many evaluations in a row whose mean return does not surpass the best
    #: one before; 0 for none. Usual 5 to 20.
    stop_after_no_improvement: int = 0
    #: Team whose returns ``stop_at_return`` and ``stop_after_no_improvement`` read; empty for the
    #: only team that learns.
    stop_team: str = ""
    #: Frames between two checkpoints; one more is written at the end and at each new best return.
    checkpoint_interval: int = 50_000
    #: Newest checkpoints to keep; 0 keeps all, for instance to play against them later. The best
    #: checkpoint of each team is kept besides.
    checkpoints_kept: int = 2
    #: Capacity of the replay in frames, for off-policy algorithms only; the oldest frames are
    #: overwritten. Usual 100,000 to 1,000,000.
    replay_size: int = 1_000_000
    #: Limit of the replay's storage on each rank, in GiB; a larger replay is refused before the
    #: run starts, or as soon as short episodes make it too large.
    replay_gib: float = 8.0
    #: Limit of a rollout and of learning from it on each rank, in GiB, estimated before the run
    #: starts; a run that needs more is refused.
    memory_gib: float = 16.0
    #: Checkpoints hold the replay; without it they are smaller, and a resumed run starts with an
    #: empty replay, so that it differs from the uninterrupted one.
    replay_checkpoint: bool = True
    #: Weights to begin with, of an earlier run: ``start_from=RUN``.
    start_from: StartFrom = field(default_factory=StartFrom)
    #: Stages of the run in which options of the task differ, such as
    #: ``[{until: 200_000, task.kwargs.N: 3}, {task.kwargs.N: 5}]``. Keys of a stage: ``until``
    #: (frames of the run), ``until_return`` (a number, or one by team), ``until_metric`` and
    #: ``until_metric_below`` (by metric), of which the first that is reached ends it; ``task.KEY``;
    #: ``evaluation_interval``, ``evaluation_episodes``, ``evaluation_max_steps``. The last stage
    #: has no end.
    curriculum: list[dict[str, Any]] = field(default_factory=list)
    #: Self-play against past policies of the teams, for tasks with at least two learning teams.
    selfplay: SelfPlayConfig = field(default_factory=SelfPlayConfig)
    #: Code of your own that the run calls: import paths of ``marl.Callback`` classes, such as
    #: ``[./callbacks.py:RewardSpread]``.
    callbacks: list[str] = field(default_factory=list)
    #: Films the learned policy at the end (video.mp4).
    video: bool = True
    #: Shows progress: a live bar on a terminal, otherwise a line every ten seconds.
    progress: bool = True
    #: Logs to Weights & Biases; offline if no key is configured.
    wandb: bool = False
    #: Project at Weights & Biases; only with wandb.
    wandb_project: str = "marl"
    #: Group at Weights & Biases, which shows its runs as one, such as the seeds of a configuration;
    #: empty for no group. Only with wandb.
    wandb_group: str = ""
    #: Tags at Weights & Biases, of 1 to 64 characters each, to filter by; only with wandb.
    wandb_tags: list[str] = field(default_factory=list)
    #: Name of the run at Weights & Biases; empty for the name of the directory. Only with wandb.
    wandb_name: str = ""
    #: Logs to TensorBoard, in the folder tensorboard of the run; needs the extra of that name.
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.start_from, str | Path):
            self.start_from = StartFrom(str(self.start_from))
        check_types(self)
        curriculum.check(self.curriculum, self.total_frames, self.evaluation_interval)
        self.callbacks = [absolute(path) for path in self.callbacks]
        check_word("execution", self.execution, ("eager", "compiled", "captured", "auto"))
        check_word("evaluation", self.evaluation, ("greedy", "sampled", "both"))
        check_range(
            self, total_frames=(1, math.inf), num_envs=(1, math.inf), steps=(1, math.inf),
            seed=(0, 2**31 - 1), threads=(0, 1024), evaluation_interval=(0, math.inf),
            evaluation_episodes=(1, math.inf), evaluation_max_steps=(1, math.inf),
            absolute_episodes=(0, math.inf), checkpoint_interval=(1, math.inf),
            stop_after_no_improvement=(0, math.inf),
            checkpoints_kept=(0, math.inf), replay_size=(1, math.inf), replay_gib=(0, math.inf),
            memory_gib=(0, math.inf),
        )  # fmt: skip
        for tag in self.wandb_tags:
            if not 1 <= len(tag) <= 64:
                raise UserError(
                    f"wandb_tags: {tag!r} is not a tag; W&B requires 1 to 64 characters"
                )

    def imports(self) -> list[str]:
        """Returns the import paths of the user's code that the run calls."""
        return list(self.callbacks)

    @property
    def frames_per_iteration(self) -> int:
        """Frames of one iteration: ``num_envs * steps``."""
        return self.num_envs * self.steps

    @property
    def iterations(self) -> int:
        """Number of iterations of the run."""
        return math.ceil(self.total_frames / self.frames_per_iteration)

    @property
    def whole_frames(self) -> int:
        """Frames that the run plays: ``total_frames`` rounded up to whole iterations."""
        return self.iterations * self.frames_per_iteration


def apply_changes(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Returns settings with some values changed, and checks them.

    Args:
        settings: the settings of a run; not changed.
        changes: new values by name.

    Raises:
        UserError: a setting does not exist, or cannot have the value.
    """
    names = [f.name for f in fields(Settings)]
    for name in changes:
        if name not in names:
            raise unknown("setting", name, names)
    return replace(settings, **changes)


def check_types(config: Any) -> None:
    """Checks the fields of a dataclass that have plain types, and converts numbers to them.

    So ``1e6`` becomes a whole number. Fields are changed in place.

    Raises:
        UserError: a value has another type, or is not a number.
    """
    for option in fields(config):
        convert = TYPES.get(str(option.type))
        if convert is not None:
            setattr(config, option.name, convert(option.name, getattr(config, option.name)))


def _whole_number(name: str, value: Any) -> int:
    if not _is_number(value) or value % 1:  # NaN, and so true, for infinity
        raise _wrong(name, value, "a whole number")
    return int(value)


def _real_number(name: str, value: Any) -> float:
    if not _is_number(value) or math.isnan(value):
        raise _wrong(name, value, "a number")
    return float(value)


def _optional_number(name: str, value: Any) -> float | None:
    return None if value is None else _real_number(name, value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _plain(kind: type, expected: str) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            raise _wrong(name, value, expected)
        return value

    return check


def _wrong(name: str, value: Any, expected: str) -> UserError:
    return UserError(f"{name}={value!r} is not {expected}")


TYPES: dict[str, Callable[[str, Any], Any]] = {
    "int": _whole_number,
    "float": _real_number,
    "float | None": _optional_number,
    "bool": _plain(bool, "true or false"),
    "str": _plain(str, "text"),
    "list[str]": _plain(list, "a list of texts"),
    "list[dict[str, Any]]": _plain(list, "a list of mappings"),
}
