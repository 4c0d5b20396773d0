"""Settings of an earlier run on which shapes of weights depend, beside those of a new run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from marl.training.teams import Team

#: Settings of algorithms that shape a policy, with what an algorithm without them has.
OF_ALGORITHMS = {"ensemble": 1, "bins": 3}
#: Settings of models that shape nothing.
OF_NO_SHAPE = ("activation",)


def differences(stored: Mapping[str, Any], spec: Team) -> list[str]:
    """Returns the settings that shape weights and differ, such as ``model.gru is 64 in the run and
    0 here``.

    Args:
        stored: the earlier run's team in its ``config.json``.
        spec: the team of the new run.
    """
    return [
        f"{key} is {there} in the run and {here} here"
        for key, there, here in _pairs(stored, spec)
        if there != here
    ]


def _pairs(stored: Mapping[str, Any], spec: Team) -> Iterator[tuple[str, Any, Any]]:
    model, algorithm = stored.get("model"), stored.get("algorithm")
    if isinstance(model, Mapping) and is_dataclass(spec.model):
        for name in (f.name for f in fields(spec.model) if f.name in model):
            if name not in OF_NO_SHAPE:
                yield f"model.{name}", model[name], getattr(spec.model, name)
    for name, usual in OF_ALGORITHMS.items():
        if isinstance(algorithm, Mapping):
            here = getattr(spec.algorithm, name, usual)
            yield f"algorithm.{name}", algorithm.get(name, usual), here
