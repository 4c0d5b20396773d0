"""Beginning of a run with the weights of an earlier one (``Settings.start_from``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Algorithm
from marl.errors import UserError
from marl.networks.by_group import module_key
from marl.training import fitting, loading, run_directory, start_settings, zoo
from marl.training.checkpoint_formats import State
from marl.training.fitting import Difference, Fit
from marl.training.start_from import StartFrom
from marl.training.start_table import Start, shape_text
from marl.training.teams import Team
from marl.utils import versions
from marl.utils.capabilities import learns
from marl.utils.jsonl import read_json
from marl.utils.serialization import TYPE

#: Modules of which each group has one, by its name.
BY_GROUP = ("networks", "encoders", "messages")


@dataclass(frozen=True)
class StoredTeam:
    """A team of the earlier run, as its configuration describes it."""

    #: Names of its groups.
    groups: list[str]
    #: Name of the class of its algorithm's configuration.
    algorithm: str
    #: Its settings, as ``config.json`` has them.
    settings: Mapping[str, Any]


def begin(
    options: StartFrom,
    teams: Mapping[str, Algorithm],
    specs: Mapping[str, Team],
    device: torch.device,
) -> Start:
    """Loads an earlier run's weights into the algorithms of a new run.

    Teams are matched by name, or, where both runs have one that learns here, by being alone. The
    policy is loaded layer by layer; other parts (critics, target networks, value normalisers,
    temperatures) as a whole, where they fit.

    Args:
        options: the earlier run.
        teams: algorithms of the new run, by team; changed in place.
        specs: its teams, by name.
        device: device of the new run.

    Raises:
        UserError: the run or checkpoint does not exist, no team matches, or nothing of a policy
            fits.
    """
    if not options.run:
        return Start()
    path = Path(options.run)
    if not (zoo.is_name(path) or path.exists()):
        raise UserError(
            f"start_from={options.run!r} does not exist; give the path of a run directory or of "
            "one of its checkpoint files"
        )
    stored = _stored_teams(loading.directory_of(path))
    start = Start(str(path))
    saved: dict[str, State] = {}
    for name, source in _matches(teams, stored, path, start).items():
        file, state = loading.named_checkpoint(path, options.checkpoint, source, device)
        groups = stored[source].groups, list(teams[name].policy.groups)
        saved[name] = _renamed(_team_state(state, source, file), *groups)
        start.notes += _notes(name, specs[name], stored[source].algorithm)
        _check_images(teams[name], state, file)
        differing = start_settings.differences(stored[source].settings, specs[name])
        _load_policy(teams[name], saved[name], name, file, differing)
        start.differing[name] = differing
        start.origin[name] = {
            "run": str(loading.directory_of(path)), "team": source, "checkpoint": file.name,
            "frames": state["frames"], "fingerprint": fingerprint(saved[name]["policy"]),
        }  # fmt: skip
    for name, state in saved.items():  # when all policies are loaded, for teams may copy others'
        start.fits[name] = _load(teams[name], state, options.optimizers)
    return start


def check_same(start: Start, directory: Path) -> None:
    """Checks that a run that starts again, for it has no checkpoint, begins with the same weights.

    Args:
        start: what it begins with now.
        directory: directory of the run.

    Raises:
        UserError: the earlier run has other weights than when this run was made.
    """
    recorded = (read_json(directory / "provenance.json") or {}).get("start_from") or {}
    for name, origin in start.origin.items():
        before = recorded.get(name, {}).get("fingerprint", origin["fingerprint"])
        if before != origin["fingerprint"]:
            raise UserError(
                f"{str(directory)!r} has no checkpoint yet, and {start.run!r}, whose weights it "
                "began with, holds others now; train a new run"
            )


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of named tensors: of names, shapes and contents."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        contents = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(contents.numpy().tobytes())
    return digest.hexdigest()


def _stored_teams(directory: Path) -> dict[str, StoredTeam]:
    """Returns the teams of a run; imports no code that the run names."""
    run_directory.check(directory)
    try:
        teams = json.loads((directory / "config.json").read_text())["teams"]
        return {
            name: StoredTeam(list(team["groups"]), team["algorithm"][TYPE].rpartition(":")[2], team)
            for name, team in teams.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{str(directory / 'config.json')!r} is not a run's configuration: {error!r}"
        ) from None


def _matches(
    teams: Mapping[str, Algorithm], stored: Mapping[str, Any], path: Path, start: Start
) -> dict[str, str]:
    """Returns the team of the earlier run for each team that learns and has one."""
    learning = [name for name, team in teams.items() if learns(team)]
    if len(learning) == len(stored) == 1:
        return {learning[0]: next(iter(stored))}
    matches = {name: name for name in learning if name in stored}
    if not matches:
        raise UserError(
            f"start_from={path}: its teams are {', '.join(stored)}, and here "
            f"{', '.join(learning) or 'none'} learn; give a run with a team of the same name"
        )
    start.notes += [
        f"  {name}: the run has no team of this name; it begins anew"
        for name in learning
        if name not in matches
    ]
    return matches


def _team_state(state: State, source: str, file: Path) -> State:
    team = state["teams"].get(source, {})
    if not isinstance(team.get("policy"), Mapping):
        raise UserError(f"start_from: team {source!r} of {str(file)!r} holds no policy to load")
    return team


def _check_images(team: Algorithm, state: State, file: Path) -> None:
    version = versions.learning(state)
    groups = team.policy.groups.values()
    if any(versions.observed_group(group, version) != group for group in groups):
        raise UserError(
            f"start_from: {str(file)!r} learned from images in other units, by an older version of "
            f"learning than {versions.LEARNING}; train it again"
        )


def _renamed(state: State, groups: Sequence[str], here: Sequence[str]) -> State:
    """Returns a team's state in which its only group has the name that it has in the new run."""
    if len(groups) != 1 or len(here) != 1 or groups[0] == here[0]:
        return state
    old, new = module_key(groups[0]), module_key(here[0])

    def rename(name: str) -> str:
        first, _, rest = name.partition(".")
        key, dot, rest = rest.partition(".")
        return f"{first}.{new}{dot}{rest}" if first in BY_GROUP and key == old else name

    return {
        part: {rename(name): value for name, value in content.items()}
        if isinstance(content, Mapping)
        else content
        for part, content in state.items()
    }


def _load_policy(
    team: Algorithm, state: State, name: str, file: Path, differing: Sequence[str]
) -> None:
    """Loads the layers of a policy that fit; raises UserError if none does."""
    policy = team.policy
    assert isinstance(policy, nn.Module), "the policy of a team that learns is a module"
    new = policy.state_dict()
    fit = fitting.fit_layers(new, state["policy"])
    if (worst := fitting.nothing_fits(fit, new)) is not None:
        raise UserError(
            f"start_from: nothing of the policy in {str(file)!r} fits team {name!r}: "
            f"{worst.tensor} is {shape_text(worst.there)} there and {shape_text(worst.here)} "
            f"here; {advice(worst, differing)}"
        )
    policy.load_state_dict(fit.state)


def advice(worst: Difference, differing: Sequence[str] = ()) -> str:
    """Returns what to do where no layer of a policy fits.

    Args:
        worst: a tensor that does not fit.
        differing: the settings that differ, as text.
    """
    if differing:
        return f"{', and '.join(differing)}; make them alike"
    axes = len(worst.there or ()), len(worst.here or ())
    if axes[0] != axes[1] and min(axes) >= 2:  # a vector belongs to another kind of layer
        sharing = "per_agent" if axes[0] > axes[1] else "shared"
        return f"the run's model has sharing={sharing}; set model.sharing={sharing}"
    return (
        "take the run's model (its config.json has it), and a task with observations or actions of "
        "the same size"
    )


def _load(team: Algorithm, saved: State, optimizers: bool) -> dict[str, Fit]:
    """Loads all parts that fit into an algorithm; returns how they fit, by part."""
    state = dict(team.state_dict())
    fits: dict[str, Fit] = {}
    for part, new in state.items():
        if (fit := _fit(part, new, saved, fits, optimizers)) is not None:
            fits[part], state[part] = fit, fit.state
    team.load_state_dict(state)
    return fits


def _fit(
    part: str, new: Any, saved: State, fits: Mapping[str, Fit], optimizers: bool
) -> Fit | None:
    """Returns how one part fits, after those before it; None for a part that is not loaded."""
    if fitting.is_optimizer(new):
        return fitting.fit_optimizer(new, saved.get(part)) if optimizers else None
    if not fitting.has_weights(part, new):
        return None
    original = part.removeprefix("target_")
    if part != original and part not in saved and original in fits:  # of another algorithm
        return fits[original]
    if part in fitting.BY_LAYER:
        return fitting.fit_layers(new, saved[part])
    critic = fits.get("critic")
    if part == "value_norm" and critic and not critic.complete:  # its values are in new units
        return Fit(new, len(fitting.flat(new)), 0, [])
    return fitting.fit_whole(new, saved.get(part))


def _notes(name: str, team: Team, before: str) -> list[str]:
    """Returns what a user should know of one team, whose algorithm was ``before`` in the run."""
    algorithm, notes = type(team.algorithm).__name__, []
    if algorithm != before:
        notes = [f"  {name}: {before} trained it, and {algorithm} trains it here"]
    if warmup := getattr(team.algorithm, "warmup", 0):
        fewer = min(1000, warmup // 10)
        notes += [
            f"  {name}: its first {warmup:,} frames are random actions (algorithm.warmup); fewer, "
            f"such as algorithm.warmup={fewer}, let the loaded policy fill the replay"
        ]
    return notes
