"""The setting ``curriculum``: stages of a run, in which the options of its task differ."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from marl.errors import UserError, unknown

#: Keys of a stage that end it.
ENDS = ("until", "until_return", "until_metric", "until_metric_below")
#: Settings of the run that a stage may change.
SETTINGS = ("evaluation_interval", "evaluation_episodes", "evaluation_max_steps")


@dataclass(frozen=True)
class Stage:
    """One stage: what differs in it, and when it ends.

    It ends after the first iteration in which one of its ends is reached; the last stage has none.
    """

    #: Options of the task by key without ``task.``, such as ``kwargs.N``.
    task: Mapping[str, Any] = field(default_factory=dict)
    #: Settings of the run, of ``SETTINGS``.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Frames of the run at which it ends; None for no such end.
    frames: int | None = None
    #: Mean returns of an evaluation that end it, by team; ``""`` is the only team that learns.
    returns: Mapping[str, float] = field(default_factory=dict)
    #: Means of an evaluation's metrics at or above which it ends.
    metrics: Mapping[str, float] = field(default_factory=dict)
    #: Means of an evaluation's metrics at or below which it ends.
    metrics_below: Mapping[str, float] = field(default_factory=dict)

    @property
    def reads_evaluations(self) -> bool:
        """Whether an evaluation may end it."""
        return bool(self.returns or self.metrics or self.metrics_below)

    @property
    def ends(self) -> bool:
        """Whether it may end before the run does."""
        return self.frames is not None or self.reads_evaluations

    @property
    def changes(self) -> str:
        """What differs in it, as settings."""
        changes = {**{f"task.{key}": value for key, value in self.task.items()}, **self.settings}
        return " ".join(f"{key}={value}" for key, value in changes.items()) or "the run's own task"

    @property
    def end(self) -> str:
        """When it ends, in words."""
        parts = [f"{self.frames:,} frames"] if self.frames is not None else []
        parts += [f"a return{' of ' * bool(t)}{t} of {x:g}" for t, x in self.returns.items()]
        parts += [f"{name} of at least {x:g}" for name, x in self.metrics.items()]
        parts += [f"{name} of at most {x:g}" for name, x in self.metrics_below.items()]
        return " or ".join(parts) or "the end of the run"


def parse(plain: Sequence[Any]) -> list[Stage]:
    """Returns the stages that a setting describes, in order.

    Raises:
        UserError: a key does not exist, or a value has a wrong type.
    """
    return [_stage(number, entry) for number, entry in enumerate(plain, 1)]


def check(plain: Sequence[Any], total_frames: int, evaluation_interval: int) -> None:
    """Checks that each stage of a curriculum begins and ends.

    Args:
        plain: the setting.
        total_frames: frames of the run.
        evaluation_interval: frames between two evaluations; 0 for none before the end.

    Raises:
        UserError: it cannot advance to its last stage.
    """
    stages = parse(plain)
    if len(stages) == 1:
        raise UserError(
            "curriculum has a single stage, and so nothing to advance to; add a stage, or give its "
            "values as settings of the run"
        )
    last = 0
    for number, stage in enumerate(stages[:-1], 1):
        name = f"curriculum: stage {number} of {len(stages)}"
        interval = stage.settings.get("evaluation_interval", evaluation_interval)
        if not stage.ends:
            raise UserError(f"{name} never ends; add until=FRAMES, until_return or until_metric")
        if stage.reads_evaluations and not interval:
            raise UserError(
                f"{name} ends by an evaluation, and evaluation_interval=0 evaluates at the end of "
                "the run only; set evaluation_interval"
            )
        if stage.frames is not None and stage.frames <= last:
            raise UserError(
                f"{name} ends at until={stage.frames:,} frames, which must be more than the "
                f"{last:,} at which it begins"
            )
        if stage.frames is not None and stage.frames >= total_frames:
            raise UserError(
                f"{name} ends at until={stage.frames:,} frames, and the run has "
                f"total_frames={total_frames:,}; take a smaller until, or a larger total_frames"
            )
        last = stage.frames or last
    if stages and stages[-1].ends:
        raise UserError(
            f"curriculum: stage {len(stages)}, the last, must have no end, for it lasts as long as "
            f"the run; leave out its {next(key for key in plain[-1] if key in ENDS)}, or add a "
            "stage after it"
        )


def changed_task(task: Any, changes: Mapping[str, Any]) -> Any:
    """Returns a task with some options changed.

    Args:
        task: the run's task.
        changes: new values by key, such as ``max_steps`` or ``kwargs.N``.

    Raises:
        UserError: the task has no such option, or no options at all.
    """
    if changes and not is_dataclass(task):
        raise UserError(
            "curriculum changes options of the task, and this run's task is a Python function, "
            "which has none; take marl.Task('module:function')"
        )
    for key, value in changes.items():
        name, _, rest = key.partition(".")
        known = [f.name for f in fields(task)]
        if name not in known:
            keys = [f"task.{option}" for option in known]
            raise unknown("setting", f"task.{key}", keys, where=" in curriculum")
        new = _nested(getattr(task, name), rest.split("."), value) if rest else value
        try:
            task = dataclasses.replace(task, **{name: new})  # type: ignore[type-var]  # a dataclass
        except (TypeError, AttributeError) as error:
            raise UserError(f"curriculum: task.{key}={value!r} is of a wrong type") from error
    return task


def _nested(old: Any, keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Returns nested dicts with one value changed; those given stay as they are."""
    content = dict(old) if isinstance(old, Mapping) else {}
    first, *rest = keys
    content[first] = _nested(content.get(first), rest, value) if rest else value
    return content


def _stage(number: int, entry: Any) -> Stage:
    if not isinstance(entry, Mapping):
        raise UserError(
            f"curriculum: stage {number} is {entry!r}; expected a mapping such as "
            "{until: 200_000, task.kwargs.N: 3}"
        )
    known = [*ENDS, *SETTINGS, "task.KEY"]
    for key in entry:
        if key not in known and not str(key).startswith("task."):
            keys = [*known, f"task.{key}"] if re.match(r"kwargs\.|max_steps$", str(key)) else known
            where = f" in stage {number} of curriculum, beside options of the task (task.KEY)"
            raise unknown("key", key, keys, where=where)
    return Stage(
        task={k.removeprefix("task."): v for k, v in entry.items() if k.startswith("task.")},
        settings={k: v for k, v in entry.items() if k in SETTINGS},
        frames=_frames(number, entry["until"]) if "until" in entry else None,
        returns=_bounds(number, "until_return", entry),
        metrics=_bounds(number, "until_metric", entry),
        metrics_below=_bounds(number, "until_metric_below", entry),
    )


def _frames(number: int, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise UserError(f"curriculum: until={value!r} of stage {number} is no number of frames")
    return int(value)


def _bounds(number: int, key: str, entry: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers under a key, by name; a return alone is that of the only team."""
    if key not in entry:
        return {}
    value = entry[key]
    single = key == "until_return" and not isinstance(value, Mapping)
    bounds: Any = {"": value} if single else value
    example = "-20 or {TEAM: -20}" if key == "until_return" else "{METRIC: 0.9}"
    if not isinstance(bounds, Mapping) or not bounds or not all(map(_is_number, bounds.values())):
        raise UserError(
            f"curriculum: {key}={value!r} of stage {number} is no bound; expected {example}"
        )
    return {str(name): float(bound) for name, bound in bounds.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
