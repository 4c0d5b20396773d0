"""Groups of runs that differ in their seed only, and what must be known of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from marl.comparison.history import History
from marl.comparison.settings import (
    described,
    differences,
    settings_of,
    short_names,
    within_algorithms,
)
from marl.training.run_outcome import FINISHED, PHRASES

# Settings in which runs of one curve may differ: none changes an evaluation.
WITHOUT_EFFECT = ("seed", "absolute_episodes", "evaluation_max_steps")
MAX_LABEL = 60  # letters of a group's name in legends and tables


@dataclass(frozen=True)
class Group:
    """Runs of one task, one algorithm and the same settings, with a seed each."""

    #: Name of the task.
    task: str
    #: Name of the algorithm, and the settings in which groups of the task and algorithm differ.
    label: str
    #: The runs, by seed.
    runs: tuple[History, ...]
    #: Settings in which groups of the task differ, by the command line's keys.
    differing: Mapping[str, str]

    @property
    def frames(self) -> list[int]:
        """Frames of the evaluations that all runs share."""
        return sorted(set.intersection(*(set(run.frames) for run in self.runs)))

    @property
    def teams(self) -> list[str]:
        """Names of the teams."""
        return list(self.runs[0].returns)

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return self.runs[0].run.algorithm


def grouped(histories: Sequence[History]) -> tuple[list[Group], list[str]]:
    """Returns the groups, by task, and remarks on what was left out of them.

    Runs of different versions of learning are never in one group. Of runs with the same seed the
    one with most frames counts, of those the newest.

    Args:
        histories: the runs.
    """
    runs = [history.run for history in histories]
    differing = differences(runs, [settings_of(run) for run in runs])
    differing = [{k: v for k, v in own.items() if k not in WITHOUT_EFFECT} for own in differing]
    groups: dict[tuple[str, ...], list[History]] = {}
    settings: dict[tuple[str, ...], dict[str, str]] = {}
    shown: dict[tuple[str, ...], dict[str, str]] = {}
    within = within_algorithms(runs, differing)
    for history, own, part in zip(histories, differing, within, strict=True):
        flat = (word for pair in sorted(own.items()) for word in pair)
        key = (history.run.task, history.run.algorithm, *flat)
        groups.setdefault(key, []).append(history)
        settings[key], shown[key] = own, part
    remarks: list[str] = []
    names = short_names(key for part in shown.values() for key in part)
    labels = _labels(list(groups), shown, names)
    made = [
        Group(key[0], labels[key], tuple(_one_per_seed(members, remarks)), settings[key])
        for key, members in groups.items()
    ]
    remarks += [
        f"{group.task}, {group.label} is left out: its seeds have no evaluation at the same frame"
        for group in made
        if not group.frames
    ]
    return sorted((g for g in made if g.frames), key=lambda group: group.task), remarks


def _labels(
    keys: Sequence[tuple[str, ...]],
    settings: Mapping[tuple[str, ...], Mapping[str, str]],
    names: Mapping[str, str],
) -> dict[tuple[str, ...], str]:
    """Returns a name for every group, different from those of the task's other groups."""
    labels: dict[tuple[str, ...], str] = {}
    for key in keys:
        text = f"{key[1]} {described(settings[key], names)}".rstrip()
        text = text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "…"
        taken = [label for other, label in labels.items() if other[0] == key[0]]
        label, number = text, 2
        while label in taken:
            label, number = f"{text} ({number})", number + 1
        labels[key] = label
    return labels


def _one_per_seed(members: Sequence[History], remarks: list[str]) -> Iterator[History]:
    """Yields one run for each seed, in their order, and appends a remark on those left out."""
    by_seed: dict[int, list[History]] = {}
    for history in members:
        by_seed.setdefault(history.run.seed, []).append(history)
    for seed, same in sorted(by_seed.items()):
        best = max(same, key=lambda history: (history.frames[-1], history.run.started))
        yield best
        for other in same:
            if other is not best:
                remarks.append(
                    f"{other.run.directory} is left out: it has the settings and seed {seed} of "
                    f"{best.run.directory}"
                )


def sampled_alone(groups: Sequence[Group]) -> Iterator[str]:
    """Yields a sentence on each group whose runs have no evaluations with greedy actions."""
    for group in groups:
        if group.runs[0].run.config["settings"].get("evaluation") == "sampled":
            yield (
                f"{group.task}, {group.label}: these returns are of sampled actions, for the runs "
                "have evaluation=sampled"
            )


def remarks_of(groups: Sequence[Group]) -> Iterator[str]:
    """Yields a sentence on each reason for which a number may not be what it seems to be."""
    if len(versions := {run.run.learning for group in groups for run in group.runs}) > 1:
        yield (
            f"the runs are of several versions of learning ({_listed(versions)}), under which the "
            "same settings lead to other numbers; each has curves of its own"
        )
    yield from _of_settings(groups)
    for group in groups:
        yield from _of_code(group)
        yield from _of_length(group)


def _of_settings(groups: Sequence[Group]) -> Iterator[str]:
    """Yields, for each task, the settings that go with the algorithms and are in no label."""
    for task in dict.fromkeys(group.task for group in groups):
        values: dict[str, dict[str, list[str]]] = {}  # key -> value -> algorithms
        for group in (group for group in groups if group.task == task):
            for key, value in group.differing.items():
                names = values.setdefault(key, {}).setdefault(value, [])
                names += [group.algorithm] * (group.algorithm not in names)
        alone = {
            key: by_value
            for key, by_value in values.items()
            if sum(map(len, by_value.values())) == len({n for x in by_value.values() for n in x})
        }
        if alone and len({n for x in values.values() for y in x.values() for n in y}) > 1:
            words = [
                f"{key} is " + ", ".join(f"{v} ({', '.join(n)})" for v, n in by_value.items())
                for key, by_value in sorted(alone.items())
            ]
            yield f"{task}: algorithms also differ in their settings: {'; '.join(words)}"


def _of_code(group: Group) -> Iterator[str]:
    name = f"{group.task}, {group.label}"
    commits = sorted({run.code[0] for run in group.runs})
    if len(commits) > 1:
        short = [commit[:12] + "+dirty" * commit.endswith("+dirty") for commit in commits]
        yield f"{name}: averages over runs of {len(commits)} commits of the code, {_listed(short)}"
    elif commits[0].endswith("+dirty") and len(group.runs) > 1:
        yield f"{name}: the code had changes that were not committed, and may differ between runs"
    if len(torch := {run.code[1] for run in group.runs}) > 1:
        yield f"{name}: averages over runs of {len(torch)} versions of torch, {_listed(torch)}"


def _of_length(group: Group) -> Iterator[str]:
    last = group.frames[-1] if group.frames else 0
    for history in group.runs:
        run = history.run
        if run.state != FINISHED or run.frames < run.total:
            yield (
                f"{run.directory} {PHRASES[run.state]} at {run.frames:,} of {run.total:,} frames"
                + f" ({run.why})" * bool(run.why)
            )
    if any(history.frames[-1] != last for history in group.runs):
        yield f"{group.task}, {group.label}: its curve ends at frame {last:,}, which all seeds have"


def _listed(values: object) -> str:
    return ", ".join(sorted(map(str, values)))  # type: ignore[call-overload]
