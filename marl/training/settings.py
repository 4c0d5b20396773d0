"""How a run collects, evaluates, saves and logs: what the command line sets at its top level."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any

from marl.errors import UserError, unknown
from marl.training.selfplay import SelfPlayConfig
from marl.utils.validation import check_range


@dataclass
class Settings:
    """How a run collects, evaluates, saves and logs. Of the whole run: ranks share it evenly."""

    total_frames: int = 1_000_000  # environment steps, all agents of one environment together
    num_envs: int = 32  # copies stepped together
    steps: int = 100  # of every copy between two updates
    seed: int = 0
    device: str = "cpu"  # cpu, cuda (each rank's own) or cuda:N
    threads: int = 1  # torch's on the CPU, where 1 is exact and rarely slower; 0 for torch's choice
    evaluation_interval: int = 50_000  # frames; 0 for the end only
    evaluation_episodes: int = 32
    evaluation_max_steps: int = 10_000  # of an episode; an evaluation with a longer one is refused
    absolute_episodes: int = 0  # of the best checkpoint in the end (absolute.json); 0 for none
    checkpoint_interval: int = 50_000  # frames
    checkpoints_kept: int = 2  # the newest; 0 for all, to play against them later
    replay_size: int = 1_000_000  # frames that off-policy algorithms draw from
    replay_gib: float = 8.0  # the most they may weigh, in GiB, of each rank
    memory_gib: float = 16.0  # the most that a rollout and learning from it may weigh, of each rank
    replay_checkpoint: bool = True  # checkpoints hold them; without, resuming is not exact
    selfplay: SelfPlayConfig = field(default_factory=SelfPlayConfig)  # against the teams' past
    video: bool = True  # film the learned policy at the end
    progress: bool = True  # a live bar, or plain lines off a terminal
    wandb: bool = False  # offline where there is no key
    wandb_project: str = "marl"
    wandb_group: str = ""  # of runs that W&B shows as one, such as the seeds of a setting
    wandb_tags: list[str] = field(default_factory=list)  # to filter by
    wandb_name: str = ""  # empty: the directory's
    tensorboard: bool = False  # needs the extra of that name

    def __post_init__(self) -> None:
        check_types(self)
        check_range(
            self, total_frames=(1, math.inf), num_envs=(1, math.inf), steps=(1, math.inf),
            seed=(0, 2**31 - 1), threads=(0, 1024), evaluation_interval=(0, math.inf),
            evaluation_episodes=(1, math.inf), evaluation_max_steps=(1, math.inf),
            absolute_episodes=(0, math.inf), checkpoint_interval=(1, math.inf),
            checkpoints_kept=(0, math.inf), replay_size=(1, math.inf), replay_gib=(0, math.inf),
            memory_gib=(0, math.inf),
        )  # fmt: skip
        for tag in self.wandb_tags:
            if not 1 <= len(tag) <= 64:
                raise UserError(f"wandb_tags: {tag!r} is no tag; W&B takes 1 to 64 characters")

    @property
    def frames_per_iteration(self) -> int:
        return self.num_envs * self.steps

    @property
    def iterations(self) -> int:
        return math.ceil(self.total_frames / self.frames_per_iteration)

    @property
    def whole_frames(self) -> int:
        """The frames that are played: ``total_frames`` rounded up to whole iterations."""
        return self.iterations * self.frames_per_iteration


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Returns the settings with ``changes``, checked as new ones are.

    Raises:
        UserError: an unknown setting, or a value that it cannot have.
    """
    known = [f.name for f in fields(Settings)]
    for name in changes:
        if name not in known:
            raise unknown("setting", name, known)
    return replace(settings, **changes)


def check_types(config: Any) -> None:
    """Checks the fields of a dataclass that are declared as plain types, and converts numbers to
    them (``1e6`` to a whole number).

    Raises:
        UserError: a value of another type, or one that is not a number.
    """
    for known in fields(config):
        convert = TYPES.get(str(known.type))
        if convert is not None:
            setattr(config, known.name, convert(known.name, getattr(config, known.name)))


def _whole(name: str, value: Any) -> int:
    if not _is_number(value) or value % 1:  # which is not a number for infinity
        raise _wrong(name, value, "a whole number")
    return int(value)


def _real(name: str, value: Any) -> float:
    if not _is_number(value) or math.isnan(value):
        raise _wrong(name, value, "a number")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _plain(kind: type, what: str) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            raise _wrong(name, value, what)
        return value

    return check


def _wrong(name: str, value: Any, expected: str) -> UserError:
    return UserError(f"{name}={value!r} is not {expected}")


TYPES: dict[str, Callable[[str, Any], Any]] = {
    "int": _whole,
    "float": _real,
    "bool": _plain(bool, "true or false"),
    "str": _plain(str, "text"),
    "list[str]": _plain(list, "a list of texts"),
}
