"""The document of a suite: its blocks in order, for ``tables.md`` and for the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from marl.benchmark.records import Cell
from marl.tables import known
from marl.tables.document import Block, Heading, Items, Picture, Table, Text, code, escaped
from marl.tables.record import BUDGET, RETURN, Run
from marl.tables.scores import Summary
from marl.tables.selection import Selection
from marl.tables.text import duration, interval, listed, number, seed_count

HOW = (
    "A value with brackets is the interquartile mean over seeds (the mean, of fewer than four) and "
    "its 95% stratified bootstrap interval. *Final* is the last policy, in the last evaluation; "
    "*absolute* is the best checkpoint, evaluated again on episodes of its own; *sampled* is the "
    "same with sampled actions instead of greedy ones. Bold are the best absolute metric and those "
    "whose interval reaches it. Fewer than five seeds are marked as preliminary."
)
OVER_ALL = (
    "Normalised scores of returns: 0 is random play (the mean over the task's records), 1 the best "
    "single run's absolute metric on that task in this suite. Runs of all tasks together; seeds "
    "are the fewest of a task."
)
TEAMS = (
    "Each team stands for itself: its opponents are those it learned with, and returns of "
    "different teams are never averaged together."
)
KINDS = ("final, mean", "final", "absolute", "sampled", "a run")
PICTURES = {
    "scores.png": "Normalised scores over all tasks, with 95% intervals",
    "profiles.png": "Performance profiles: the share of runs whose normalised absolute metric is "
    "above τ (between random play at 0 and the best run at 1), with 95% intervals",
    "improvement.png": "Probability of improvement: that a run of the row's algorithm has a higher "
    "absolute metric than one of the column's on the same task, with 95% intervals; ties "
    "count half, tasks equally",
    "curves.png": "Sample efficiency: interquartile mean return over seeds, with 95% intervals",
}


Make = Callable[[Sequence[Summary], bool], Iterable[Block]]


def sections(
    selection: Selection,
    rows: Sequence[Summary],
    pictures: Iterable[str],
    notes: Iterable[str] = (),
) -> list[Block]:
    """Returns all blocks of a suite.

    Args:
        selection: its runs.
        rows: of every task, and of all tasks together.
        pictures: names of the plots that exist.
        notes: sentences on what is not comparable.
    """
    plots = set(pictures)
    teams, several = sorted({row.team for row in rows}), len(selection.versions) > 1
    blocks: list[Block] = [Heading(escaped(selection.name), 1), *_opening(selection)]
    blocks += [Text(HOW)] + ([Text(TEAMS)] if len(teams) > 1 else [])
    together = [row for row in rows if row.task == "all"]
    if len(selection.tasks) > 1 and together:
        blocks += [
            Heading("All tasks"),
            Text(OVER_ALL),
            *_by_team(together, teams, _together, several),
        ]
    for name in ("scores.png", "profiles.png", "improvement.png"):
        blocks += _picture(name, plots)
    for task in selection.tasks:
        selected = [row for row in rows if row.task == task]
        runs = [run for run in selection.runs if run.cell.task == task]
        blocks += [
            Heading(escaped(task)),
            Text(_budget(runs)),
            *_by_team(selected, teams, partial(_task, selection), several),
        ]
    if "curves.png" in plots:
        blocks += [Heading("Sample efficiency"), *_picture("curves.png", plots)]
    return [*blocks, *_remarks(selection, list(notes))]


def _opening(selection: Selection) -> Iterator[Block]:
    if selection.about:
        yield Text(selection.about)
    tasks, algorithms = len(selection.tasks), len(selection.algorithms)
    count = f"{_count(len(selection.runs), 'run')}: {_count(tasks, 'task')}, "
    count += f"{_count(algorithms, 'algorithm')}."
    if absent := [_count(len(p), w) for p, w in _incomplete(selection) if p]:
        count += f" {listed(absent)}: see the end."
    parts = [count, learned(selection), _machines(selection.runs)]
    yield Text(" ".join(filter(None, parts)))


def _incomplete(selection: Selection) -> list[tuple[Sequence[object], str]]:
    return [
        (selection.left_out, "record left out"),
        (selection.older, "record of an older version of learning left out"),
        (selection.missing, "run missing"),
    ]


def learned(selection: Selection) -> str:
    """Returns a sentence on the numbers' versions of learning; empty without runs."""
    count = Counter(run.learning for run in selection.runs)
    if len(count) < 2:
        return "".join(f"Learning version {version}." for version in count)
    each = listed([f"{v} ({_count(count[v], 'run')})" for v in selection.versions])
    return (
        f"Learning versions {each}: every number is of one, named beside it, and is not to be "
        "compared with those of others; bold is the best of each version."
    )


def _count(number: int, word: str) -> str:
    noun, _, rest = word.partition(" ")
    return f"{number} {noun}{'' if number == 1 else 's'}{' ' if rest else ''}{rest}"


def _machines(runs: Iterable[Run]) -> str:
    """Returns a sentence on the machines that the runs were timed on."""
    counts = Counter(_machine(run.provenance) for run in runs)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    names = "; ".join(f"{escaped(name)} ({_count(count, 'run')})" for name, count in ordered)
    return f"Clocks: {names}." if names else ""


def _machine(provenance: Mapping[str, Any]) -> str:
    threads = _count(provenance.get("threads") or 1, "thread")
    cores = _count(provenance.get("cores") or 1, "core")
    parts = [provenance.get("gpu"), provenance.get("processor"), f"{threads} of {cores}"]
    return ", ".join(str(part) for part in parts if part)


def _budget(runs: Sequence[Run]) -> str:
    values = dict(zip(BUDGET, runs[0].budget, strict=True))
    task = " ".join([runs[0].task, *_options(runs)])
    return (
        f"{code(task)}: {values['total_frames']:,} frames, evaluated every "
        f"{values['evaluation_interval']:,} on {values['evaluation_episodes']} episodes; absolute "
        f"metric of {values['absolute_episodes']} episodes."
    )


def _options(runs: Sequence[Run]) -> list[str]:
    """Returns the options of a task that all its runs share, beside its name."""
    options = []
    for run in runs:
        task = run.config["task"]
        steps = task.get("max_steps")
        values = {**task.get("kwargs", {}), **({} if steps is None else {"max_steps": steps})}
        options.append([f"{k}={json.dumps(v)}".replace('"', "") for k, v in sorted(values.items())])
    return [option for option in options[0] if all(option in others for others in options)]


# ------------------------------------------------------------------------------------- tables


def _by_team(
    rows: Sequence[Summary], teams: Sequence[str], make: Make, several: bool
) -> Iterator[Block]:
    """Yields a table of each team, with a column for the version of learning where a suite has
    ``several``."""
    for team in teams:
        selected = [row for row in rows if row.team == team]
        if selected and len(teams) > 1:
            yield Heading(f"Team {escaped(team)}", 3)
        if selected:
            yield from make(selected, several)


def _together(rows: Sequence[Summary], several: bool) -> Iterator[Block]:
    all_tasks = max(row.tasks for row in rows)
    table = [
        [
            escaped(row.algorithm), *[str(row.learning)] * several,
            f"{row.tasks}{' †' if row.tasks < all_tasks else ''}", str(row.runs),
            seed_count(row.seeds), number(row.final_mean), interval(row.final, row.runs),
            interval(row.absolute, row.runs), interval(row.sampled, row.runs),
            duration(row.wall_clock),
        ]
        for row in rows
    ]  # fmt: skip
    versions = ["learning"] * several
    yield Table(["algorithm", *versions, "tasks", "runs", "seeds", *KINDS], table)
    if any(row.tasks < all_tasks for row in rows):
        yield Text("† over fewer tasks than the others: not to be compared with them.")


def _task(selection: Selection, rows: Sequence[Summary], several: bool) -> Iterator[Block]:
    returns = [row for row in rows if row.metric == RETURN]
    task, team = returns[0].task, returns[0].team
    counts = [known.reached(selection, task, team, row.algorithm) for row in returns]
    counted = any(counts)
    table = [
        [
            escaped(row.algorithm), *[str(row.learning)] * several, seed_count(row.seeds),
            number(row.final_mean), interval(row.final, row.seeds), bold(row, returns),
            interval(row.sampled, row.seeds), *[count] * counted, duration(row.wall_clock),
            number(row.frames_per_second),
        ]
        for row, count in zip(returns, counts, strict=True)
    ]  # fmt: skip
    newest = [str(max(row.learning for row in rows))] * several  # that random play is of
    for name, level in known.levels(selection, task, team, returns[0].random):
        version = newest if name == "random play" else [""] * several
        table.append([f"*{name}*", *version, "", level, "", "", "", *[""] * counted, "", ""])
    kinds = [*KINDS[:-1], *["optimum reached"] * counted, KINDS[-1]]
    yield Table(["return", *["learning"] * several, "seeds", *kinds, "frames/s"], table)
    if words := known.source(selection, task):
        yield Text(escaped(words))
    yield from _metrics(rows, {row.algorithm: row.seeds for row in returns}, several)


def bold(row: Summary, others: Iterable[Summary]) -> str:
    """Returns the absolute metric, bold where its interval reaches the best algorithm's.

    Args:
        row: the algorithm's.
        others: of all algorithms on the task; those of its version of learning count.
    """
    text = interval(row.absolute, row.seeds)
    best = max(other.absolute.value for other in others if other.learning == row.learning)
    return f"**{text}**" if row.absolute.high >= best else text


def _metrics(rows: Sequence[Summary], seeds: dict[str, int], several: bool) -> Iterator[Block]:
    """Yields the table of all other metrics: a row for each algorithm, a column for each metric."""
    names = list(dict.fromkeys(row.metric for row in rows if row.metric != RETURN))
    if not names:
        return
    cells = {(row.algorithm, row.metric): _metric(row, seeds) for row in rows}
    versions = {row.algorithm: str(row.learning) for row in rows}
    table = [
        [escaped(a), *[versions[a]] * several, *(cells.get((a, name), "") for name in names)]
        for a in seeds
    ]
    levels = {row.metric: number(row.random) for row in rows}
    newest = [max(versions.values(), key=int)] * several
    table.append(["*random play*", *newest, *(levels[name] for name in names)])
    columns = [
        f"absolute{'; final, mean' if cells else ''}",
        *["learning"] * several,
        *map(escaped, names),
    ]
    yield Table(columns, table)


def _metric(row: Summary, seeds: dict[str, int]) -> str:
    """Returns ``absolute [low, high]; final``, with the number of seeds where it is smaller than
    the return's."""
    parts = [interval(row.absolute, row.seeds), number(row.final_mean)]
    fewer = f" ({_count(row.seeds, 'seed')})" if row.seeds < seeds[row.algorithm] else ""
    return "; ".join(filter(None, parts)) + fewer


def _picture(name: str, plots: set[str]) -> list[Block]:
    return [Picture(name, PICTURES[name])] if name in plots else []


# ------------------------------------------------------------------------------------- remarks


def _remarks(selection: Selection, notes: Sequence[str]) -> Iterator[Block]:
    left_out = [escaped(f"{cell}: {reason}") for cell, reason in selection.left_out]
    if absent := [*left_out, *_older(selection), *missing(selection.missing)]:
        yield Heading("Left out")
        yield Items(absent)
    texts = [*(escaped(f"{cell}: {note}") for cell, note in selection.notes), *notes]
    texts += [escaped(selection.fault)] if selection.fault else []
    if texts:
        yield Heading("Notes")
        yield Items(texts)


def missing(cells: Iterable[Cell]) -> list[str]:
    """Returns lines such as ``missing: spread mappo, seeds 3, 4``."""
    return [f"missing: {places}" for places in _by_seeds(cells)]


def _older(selection: Selection) -> Iterator[str]:
    """Yields lines such as ``spread mappo, seeds 3, 4: learning version 1, beside version 2``."""
    reasons: dict[str, list[Cell]] = {}
    for cell, reason in selection.older:
        reasons.setdefault(reason, []).append(cell)
    for reason, cells in reasons.items():
        yield from (f"{places}: {reason}" for places in _by_seeds(cells))


def _by_seeds(cells: Iterable[Cell]) -> list[str]:
    """Returns lines such as ``spread mappo, seeds 3, 4``."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for cell in cells:
        seeds.setdefault((cell.task, cell.algorithm), []).append(cell.seed)
    return [
        f"{escaped(f'{task} {algorithm}')}, seed{'s' * (len(of) > 1)} {', '.join(map(str, of))}"
        for (task, algorithm), of in seeds.items()
    ]
