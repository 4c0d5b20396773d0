"""Export of trained policies to files that other programs read, with a card and a check."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

import marl
from marl.deployment.actor import GroupActor
from marl.deployment.policy import LoadedPolicy, load_policy
from marl.errors import UserError
from marl.training import loading, run_directory, stored_groups
from marl.training.agent_order import OrderedTask, arrange
from marl.types import EntityGraph
from marl.utils.capabilities import stacked_observations
from marl.utils.jsonl import read_json, read_jsonl

#: Observations that an exported file is checked on, and the largest difference allowed.
CHECKED, TOLERANCE = 100, 1e-5
BATCH = 4  # environments of the example that is traced


@dataclass(frozen=True)
class Exported:
    """One exported file."""

    path: Path
    #: Largest difference of its outputs from the policy's; None of weights, which are equal.
    difference: float | None


def export(
    run: str | Path,
    format: str = "torch",
    out: str | Path | None = None,
    checkpoint: str = "best",
    team: str | None = None,
) -> list[Exported]:
    """Writes the decentralized actor of each group that learned, and ``card.json`` beside them.

    Args:
        run: the run directory, one of its checkpoint files, or a name of the zoo.
        format: ``torch`` (a ``torch.export`` program, ``.pt2``), ``onnx`` or ``safetensors`` (the
            weights alone).
        out: the folder; None for ``export/`` in the run directory, and for ``./export`` of a
            policy of the zoo.
        checkpoint: as of ``marl.load_policy``.
        team: the team; None for all teams.

    Raises:
        UserError: the run does not exist, nothing in it can be exported, a package is missing, or
            the exported actor computes something else than the policy.
    """
    if format not in WRITERS:
        raise UserError(f"unknown format {format!r}; choose from {', '.join(WRITERS)}")
    policy = load_policy(run, checkpoint, team=team)
    directory = loading.directory_of(Path(run))
    actors = _actors(policy, directory)
    if not actors:
        raise UserError(f"{str(run)!r} holds no policy with weights; there is nothing to export")
    place = Path() if loading.policies_of(Path(run)) else directory
    folder = Path(out) if out else place / "export"
    folder.mkdir(parents=True, exist_ok=True)
    exported = [WRITERS[format](actor, folder) for actor in actors]
    card = _card(directory, checkpoint, format, actors, exported)
    card |= {"frames": policy.frames, "evaluation": _evaluation(directory, policy.frames)}
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    return exported


def _actors(policy: LoadedPolicy, directory: Path) -> list[GroupActor]:
    graph = _graph(directory) if policy.reads_graph else None
    return [
        GroupActor(team.policy, name, graph).eval()
        for team in policy.teams.values()
        if isinstance(team.policy, nn.Module)
        for name in team.policy.groups
    ]


def _graph(directory: Path) -> EntityGraph | None:
    """Returns the graph that a run's environment begins with, which tells its entities."""
    config = run_directory.read_config(directory)
    order = partial(arrange, saved=config.get("agents"))
    env = OrderedTask(config["task"], order)(1, torch.device("cpu"))
    try:
        return env.reset(0).graph
    finally:
        env.close()


# ---------------------------------------------------------------------------------------- formats


def _file(actor: GroupActor, folder: Path, ending: str) -> Path:
    """Returns the path of an actor's file, whatever signs its group's name holds."""
    return folder / f"{actor.name.replace('/', '%2F')}.{ending}"


def _torch(actor: GroupActor, folder: Path) -> Exported:
    path = _file(actor, folder, "pt2")
    program = _traced(actor)
    torch.export.save(program, path)
    module = torch.export.load(path).module()
    return _checked(actor, path, lambda inputs: module(**inputs))


def _onnx(actor: GroupActor, folder: Path) -> Exported:
    import onnxruntime  # pyright: ignore[reportMissingImports]

    path = _file(actor, folder, "onnx")
    try:
        with _quiet():
            program = torch.onnx.export(
                _traced(actor), (), dynamo=True, verbose=False, input_names=actor.inputs,
                output_names=actor.outputs, external_data=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"group {actor.name!r} cannot be written as ONNX: {reason}; take --format torch"
        ) from None
    assert program is not None
    _name_batch(program.model.graph)
    program.save(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def play(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        outputs = session.run(None, {name: x.numpy() for name, x in inputs.items()})
        return [torch.from_numpy(output) for output in outputs]

    return _checked(actor, path, play)


def _name_batch(graph: Any) -> None:
    """Calls the first axis of inputs and outputs B, as the documentation does."""
    for value in (*graph.inputs, *graph.outputs):
        value.shape[0] = "B"


def _safetensors(actor: GroupActor, folder: Path) -> Exported:
    from safetensors.torch import load_file, save

    path = _file(actor, folder, "safetensors")
    weights = {name: x.contiguous().clone() for name, x in actor.policy.state_dict().items()}
    path.write_bytes(save(weights, {"format": "pt", "group": actor.name}))  # readable by others
    read = load_file(path)
    assert read.keys() == weights.keys() and all(torch.equal(read[k], weights[k]) for k in read)
    return Exported(path, None)


#: Writer of each format.
WRITERS: dict[str, Callable[[GroupActor, Path], Exported]] = {
    "torch": _torch,
    "onnx": _onnx,
    "safetensors": _safetensors,
}


def _traced(actor: GroupActor) -> torch.export.ExportedProgram:
    """Returns the actor as a program for any number of environments.

    Raises:
        UserError: it has an operation that cannot be traced.
    """
    example = actor.example(BATCH, torch.Generator().manual_seed(0))
    sizes = {name: {0: torch.export.Dim.AUTO} for name in example}
    try:
        with torch.no_grad(), _quiet():
            return torch.export.export(actor, (), example, dynamic_shapes=sizes)
    except Exception as error:  # of many kinds, the user's own network's among them
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"group {actor.name!r} cannot be traced for export: {reason}; take --format safetensors"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporters say of packages that nothing here needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@torch.no_grad()
def _checked(actor: GroupActor, path: Path, play: Callable[[dict[str, Tensor]], Any]) -> Exported:
    """Compares a file's outputs with the policy's on random observations, in batches of 1 and more.

    Raises:
        UserError: they differ.
    """
    random, largest = torch.Generator().manual_seed(1), 0.0
    for size in (1, CHECKED - 1):
        inputs = actor.example(size, random)
        for output, expected in zip(play(inputs), actor(**inputs), strict=True):
            gap = (output.double() - expected.double()).abs().max()
            largest = max(largest, float(gap))
    if not largest <= TOLERANCE:
        path.unlink()
        raise UserError(
            f"the exported actor of group {actor.name!r} differs from the policy by {largest:.2g} "
            f"on {CHECKED} observations; this is a fault of the exporter: take another format"
        )
    return Exported(path, largest)


# ------------------------------------------------------------------------------------------- card


def _card(
    directory: Path,
    checkpoint: str,
    format: str,
    actors: list[GroupActor],
    exported: list[Exported],
) -> dict[str, Any]:
    """Returns what a reader of the files must know, as JSON values."""
    config = run_directory.read_config(directory)
    groups = stored_groups.groups_to_plain({a.name: a.group for a in actors}, None)["groups"]
    return {
        "task": getattr(config["task"], "name", None),
        "stacked_observations": stacked_observations(config["task"]),
        "checkpoint": checkpoint,
        "format": format,
        "versions": {"marl": marl.__version__, "torch": torch.__version__},
        "groups": {
            actor.name: {
                **groups[actor.name],
                "file": file.path.name,
                "inputs": {k: list(x.shape[1:]) for k, x in _shapes(actor).items()},
                "outputs": actor.outputs,
                "actions": _meaning(actor),
                "without_graph_of_the_joint_policy": actor.cut,
                "checked_on": CHECKED if file.difference is not None else 0,
                "largest_difference": file.difference,
            }
            for actor, file in zip(actors, exported, strict=True)
        },
    }


def _shapes(actor: GroupActor) -> dict[str, Tensor]:
    return actor.example(1, torch.Generator().manual_seed(0))


def _meaning(actor: GroupActor) -> str:
    match stored_groups.kind_of(actor.group.action):
        case "discrete":
            return "index of the most probable choice, from 0, [B, N] int64"
        case "multi_discrete":
            return "indices of the most probable choices, from 0, [B, N, K] int64"
        case _:
            return "vector within low and high, in the environment's unit, [B, N, A] float32"


def _evaluation(directory: Path, frames: Mapping[str, int]) -> dict[str, Any] | None:
    """Returns the mean returns of the exported policies: of the absolute metric that measured them,
    or else of the evaluation at their frames; None where there is neither.

    Args:
        directory: of the run or record.
        frames: frames of training of each team's policy.
    """
    kind, absolute = "absolute metric", read_json(directory / "absolute.json") or {}
    best = {team: absolute[team] for team, n in frames.items() if _is_of(absolute.get(team), n)}
    returns = {team: record["returns"][team] for team, record in best.items()}
    if not returns:
        kind, lines = "evaluation", read_jsonl(directory / "evaluations.jsonl")
        at = {line["frames"]: line["returns"] for line in lines}
        returns = {team: at[n][team] for team, n in frames.items() if n in at}
    if not returns:
        return None
    return {"kind": kind, "mean return": {team: fmean(x) for team, x in returns.items()}}


def _is_of(record: Any, frames: int) -> bool:
    return isinstance(record, dict) and record.get("frames") == frames
