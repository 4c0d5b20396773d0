"""The flag ``marl train --explain``: prints each option with its value, type and documentation."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from marl.cli.compose import RunConfig, composed
from marl.envs.task import Task
from marl.errors import UserError, unknown
from marl.training.teams import Team
from marl.utils.field_docs import Option, options

SECTIONS = ("run", "task", "algorithm", "model", "critic_model", "teams")
FLAG = "--explain"


def explain(words: Sequence[str]) -> int:
    """Prints the options of a run that the settings among ``words`` describe.

    Args:
        words: settings, and ``--explain`` with a section or the beginning of a key, or with nothing
            for all sections.

    Raises:
        UserError: the section or key does not exist, or a setting is wrong.
    """
    section, settings = _split(words)
    run = composed(settings)
    matches = [option for option in run_options(run) if _matches(option, section)]
    if not matches:
        raise unknown("section or option", section, [*SECTIONS, *(o.key for o in run_options(run))])
    width = min(shutil.get_terminal_size().columns, 100)
    for option in matches:
        print("\n".join(described(option, width)))
    return 0


def run_options(run: RunConfig) -> Iterator[Option]:
    """Yields every option of a run: its own, its task's, algorithm's, networks' and teams'."""
    yield from options(run.settings())
    yield from (o for o in options(run) if o.key in ("directory", "stacked_seeds"))
    task, critic = run.task or Task(name=""), run.critic_model or run.model
    sections = {
        "task": task,
        "algorithm": run.algorithm,
        "model": run.model,
        "critic_model": critic,
    }
    for section, config in sections.items():
        if dataclasses.is_dataclass(config):
            yield from options(config, f"{section}.")
        if isinstance(config, Task) and config.name:
            yield from (
                dataclasses.replace(option, key=f"task.kwargs.{option.key}")
                for option in config.own_options()
            )
    for name, team in (run.teams or {"NAME": Team()}).items():
        yield from options(team, f"teams.{name}.")


def described(option: Option, width: int) -> Iterator[str]:
    """Yields the lines that describe one option.

    Args:
        option: the option.
        width: of a line, in characters.
    """
    yield f"{option.key}={_plain(option.value)}   ({option.type})"
    text = option.doc.replace("``", "")
    yield from textwrap.wrap(text, width, initial_indent=" " * 4, subsequent_indent=" " * 4)


def _plain(value: Any) -> str:
    """Returns a value as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _split(words: Sequence[str]) -> tuple[str, list[str]]:
    place = list(words).index(FLAG)
    after = words[place + 1 : place + 2]
    section = after[0] if after and "=" not in after[0] else ""
    settings = [w for i, w in enumerate(words) if i != place and not (section and i == place + 1)]
    if flags := [word for word in settings if word.startswith("-")]:
        raise UserError(f"{FLAG} takes settings only; leave out {flags[0]}")
    return section, settings


def _matches(option: Option, section: str) -> bool:
    if section == "run":
        return option.key.split(".")[0] not in SECTIONS
    return not section or option.key == section or option.key.startswith(f"{section}.")
