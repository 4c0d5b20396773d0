"""Export of a suite in the format of marl-eval (https://github.com/instadeepai/marl-eval)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from marl.tables.document import escaped
from marl.tables.record import RETURN, Episodes, Run, Series, newest, slug
from marl.tables.selection import Selection
from marl.tables.text import listed


def marl_eval(selection: Selection) -> tuple[str, list[str]]:
    """Returns the JSON of a suite and sentences on what it leaves out.

    The format is environment -> task -> algorithm -> run -> ``step_k``. It requires the same
    algorithms on all tasks, and the same seeds, number of steps and metrics in all runs: what some
    runs lack is left out, and so is an older version of learning. Each team of a suite with several
    is an environment.
    """
    teams, environments, notes = selection.teams(), {}, []
    _note(notes, "learning version", [str(version) for version in selection.versions[:-1]])
    for team in teams:
        name = selection.name.lower() + (f"_{slug(team)}" if len(teams) > 1 else "")
        runs = [run for run in newest(selection.runs) if team in run.teams]
        if complete := _complete(runs, notes):
            environments[name] = _environment(complete, team)
    return "".join(_text(environments)) + "\n", list(dict.fromkeys(notes))


def _text(tree: Any) -> Iterator[str]:
    """Yields the JSON of mappings whose leaves are JSON already, a line for every run."""
    if isinstance(tree, str):
        yield tree
        return
    yield "{"
    for number, (key, value) in enumerate(tree.items()):
        line = "\n" if key.startswith("seed_") else ""
        yield ("," if number else "") + line + json.dumps(key) + ":"
        yield from _text(value)
    yield "}"


def _complete(runs: Sequence[Run], notes: list[str]) -> list[Run]:
    """Returns the runs of algorithms that have all tasks, and of seeds that all of these have."""
    tasks = {run.cell.task for run in runs}
    cells = {(run.cell.task, run.cell.algorithm, run.cell.seed) for run in runs}
    algorithms = dict.fromkeys(run.cell.algorithm for run in runs)
    complete = [a for a in algorithms if {t for t, b, _ in cells if b == a} == tasks]
    pairs = [{s for t, b, s in cells if (t, b) == (task, a)} for a in complete for task in tasks]
    seeds = set.intersection(*pairs) if pairs else set()
    _note(notes, "algorithms that lack a task", [a for a in algorithms if a not in complete])
    incomplete = {s for _, a, s in cells if a in complete} - seeds
    _note(notes, "seeds that some algorithm lacks", [str(seed) for seed in sorted(incomplete)])
    return [run for run in runs if run.cell.algorithm in complete and run.cell.seed in seeds]


def _note(notes: list[str], what: str, names: Sequence[str]) -> None:
    if names:
        notes.append(f"`marl_eval.json` leaves out {what}: {escaped(listed(names))}")


def _environment(runs: Sequence[Run], team: str) -> dict[str, Any]:
    steps = min(len(run.frames) for run in runs)
    shared = set.intersection(*(_evaluated(run.teams[team]) for run in runs))
    tasks: dict[str, Any] = {}
    for run in runs:
        algorithms = tasks.setdefault(run.cell.task, {})
        algorithms.setdefault(run.cell.algorithm, {})[f"seed_{run.cell.seed}"] = _run(
            run, {name: run.teams[team][name] for name in sorted(shared)}, steps
        )
    return tasks


def _evaluated(metrics: Mapping[str, Series]) -> set[str]:
    return {name for name, series in metrics.items() if series.evaluations is not None}


def _run(run: Run, metrics: Mapping[str, Series], count: int) -> dict[str, Any]:
    """Returns ``count`` evaluations of a run, evenly spaced, the last one being the final policy's.

    Records hold no time of each evaluation: its share of the run's wall-clock time stands for it.
    """
    seconds = float(run.clock["wall_clock"])
    chosen = [round(i * (len(run.frames) - 1) / max(1, count - 1)) for i in range(count)]
    steps = {
        f"step_{k}": {
            "step_count": str(run.frames[i]),
            "elapsed_time": _short(seconds * run.frames[i] / run.frames[-1]),
            **{_name(name): _list(_part(series, i)) for name, series in metrics.items()},
        }
        for k, i in enumerate(chosen)
    }
    best = {_name(name): _list(series.absolute) for name, series in metrics.items()}
    return {**steps, "absolute_metrics": {**best, "elapsed_time": f"[{_short(seconds)}]"}}


def _part(series: Series, index: int) -> Episodes:
    assert series.evaluations is not None
    return series.evaluations[index]


def _name(metric: str) -> str:
    return metric if metric == RETURN else slug(metric)


def _list(values: Episodes) -> str:
    """Returns a JSON list, of six significant digits each."""
    return f"[{','.join(['%.6g'] * len(values))}]" % tuple((values + 0.0).tolist())  # no -0


def _short(value: float) -> str:
    return f"{value + 0.0:.6g}"
