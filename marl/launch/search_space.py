"""One parameter of a sweep: a value, values, or a distribution, in the format of W&B's files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from marl.errors import UserError, unknown

Spec = Mapping[str, Any]  # keys and values of a parameter in the file


def _whole(spec: Spec, source: Random) -> int:
    return source.randint(spec["min"], spec["max"])


def _uniform(spec: Spec, source: Random) -> float:
    return source.uniform(spec["min"], spec["max"])


def _log_uniform(spec: Spec, source: Random) -> float:
    return math.exp(source.uniform(math.log(spec["min"]), math.log(spec["max"])))


def _exponent(spec: Spec, source: Random) -> float:
    """Samples e to a power between ``min`` and ``max``."""
    return math.exp(source.uniform(spec["min"], spec["max"]))


def _inverse_log_uniform(spec: Spec, source: Random) -> float:
    """Samples x between ``min`` and ``max`` whose 1 / x is log-uniform, as W&B defines it."""
    return 1 / _log_uniform({"min": 1 / spec["max"], "max": 1 / spec["min"]}, source)


def _normal(spec: Spec, source: Random) -> float:
    return source.normalvariate(spec.get("mu", 0.0), spec.get("sigma", 1.0))


@dataclass(frozen=True)
class Distribution:
    """A kind of distribution.

    Attributes:
        required: keys that a parameter must have.
        sample: returns one value of a parameter.
        optional: keys that a parameter may have.
    """

    required: tuple[str, ...]
    sample: Callable[[Spec, Random], Any]
    optional: tuple[str, ...] = ()


RANGE, BELL = ("min", "max"), ("mu", "sigma")
DISTRIBUTIONS = {
    "constant": Distribution(("value",), lambda spec, _: spec["value"]),
    "categorical": Distribution(("values",), lambda spec, source: source.choice(spec["values"])),
    "categorical_w_probabilities": Distribution(
        ("values", "probabilities"),
        lambda spec, source: source.choices(spec["values"], spec["probabilities"])[0],
    ),
    "int_uniform": Distribution(RANGE, _whole),
    "uniform": Distribution(RANGE, _uniform),
    "q_uniform": Distribution(RANGE, _uniform, ("q",)),
    "log_uniform_values": Distribution(RANGE, _log_uniform),
    "q_log_uniform_values": Distribution(RANGE, _log_uniform, ("q",)),
    "log_uniform": Distribution(RANGE, _exponent),
    "q_log_uniform": Distribution(RANGE, _exponent, ("q",)),
    "inv_log_uniform_values": Distribution(RANGE, _inverse_log_uniform),
    "normal": Distribution((), _normal, BELL),
    "q_normal": Distribution((), _normal, (*BELL, "q")),
    "log_normal": Distribution((), lambda spec, source: math.exp(_normal(spec, source)), BELL),
    "q_log_normal": Distribution(
        (), lambda spec, source: math.exp(_normal(spec, source)), (*BELL, "q")
    ),
}


@dataclass(frozen=True)
class Parameter:
    """A setting of a run and the values that it may have.

    Attributes:
        name: of the setting.
        distribution: its kind, one of ``DISTRIBUTIONS``.
        spec: its keys and values in the file, without ``distribution``.

    Raises:
        UserError: an unknown distribution, or numbers that define none.
    """

    name: str
    distribution: str
    spec: Spec

    def __post_init__(self) -> None:
        self._check_keys()
        for key in ("min", "max", "q", "mu", "sigma"):
            if key in self.spec:
                self._check_number(key, self.spec[key])
        if "min" in self.spec:
            self._check_range(self.spec["min"], self.spec["max"])
        self._check_values()

    @property
    def varies(self) -> bool:
        """Whether it has more than one value."""
        return self.distribution != "constant"

    def all(self) -> list[Any]:
        """Returns every value, for a grid.

        Raises:
            UserError: the distribution has no finite list of values.
        """
        match self.distribution:
            case "constant":
                return [self.spec["value"]]
            case "categorical":
                return list(self.spec["values"])
            case "int_uniform":
                return list(range(self.spec["min"], self.spec["max"] + 1))
        raise UserError(
            f"parameter {self.name!r} is {self.distribution}, which has no finite list "
            "of values for a grid; list its values, or set method: random"
        )

    def sample(self, source: Random) -> Any:
        """Returns one random value; numbers have six digits, which a person can copy."""
        value = DISTRIBUTIONS[self.distribution].sample(self.spec, source)
        if not self.varies or "values" in self.spec or isinstance(value, int):
            return value
        if not self.distribution.startswith("q_"):
            return float(f"{value:.6g}")
        q = self.spec.get("q", 1)
        steps = round(value / q)
        return steps * q if isinstance(q, int) else float(f"{steps * q:.6g}")

    # ------------------------------------------------------------------------------------- mistakes

    def _check_keys(self) -> None:
        where = f" of parameter {self.name!r}"
        if self.distribution not in DISTRIBUTIONS:
            raise UserError(
                f"unknown distribution {self.distribution!r}{where}; choose from "
                + ", ".join(DISTRIBUTIONS)
            )
        kind = DISTRIBUTIONS[self.distribution]
        known = kind.required + kind.optional
        for key in self.spec:
            if key not in known:
                raise unknown("key", key, (*known, "distribution"), where=where)
        if missing := [key for key in kind.required if key not in self.spec]:
            raise UserError(
                f"parameter {self.name!r} is {self.distribution} and needs {' and '.join(missing)}"
            )

    def _check_number(self, key: str, value: Any) -> None:
        what = f"{key} of parameter {self.name!r}"
        if isinstance(value, str):
            raise UserError(f"{what} is the text {value!r}, not a number{_as_yaml(value)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{what} is {value!r}, not a number")
        if self.distribution == "int_uniform" and not isinstance(value, int):
            raise UserError(f"{what} is {value}, not a whole number")
        if (key == "q" and value <= 0) or (key == "sigma" and value < 0):
            raise UserError(f"{what} is {value}; it must be above 0")

    def _check_range(self, low: float, high: float) -> None:
        if low >= high:
            raise UserError(f"parameter {self.name!r} has min {low} not below max {high}")
        if self.distribution.endswith("log_uniform_values") and low <= 0:
            raise UserError(
                f"parameter {self.name!r} has min {low}; its logarithm needs a min above 0"
            )

    def _check_values(self) -> None:
        values = self.spec.get("values", [self.spec.get("value", 0)])
        if not isinstance(values, list) or not values:
            raise UserError(f"values of parameter {self.name!r} are {values!r}; expected a list")
        for value in values:
            self._check_word(value)
        weights = self.spec.get("probabilities", [1] * len(values))
        numbers = isinstance(weights, list) and all(isinstance(w, int | float) for w in weights)
        if not numbers or len(weights) != len(values) or min(weights) < 0 or sum(weights) <= 0:
            raise UserError(
                f"probabilities of parameter {self.name!r} are {weights!r}; expected a number for "
                f"each of its {len(values)} values"
            )

    def _check_word(self, value: Any) -> None:
        """Checks that a value survives on the command line, where W&B puts it as Python prints
        it."""
        inner = value if isinstance(value, list) else [value]
        if any(item is None for item in inner):
            raise UserError(f"parameter {self.name!r} has an empty value; write null as 'null'")
        if any(isinstance(item, dict) for item in inner):
            raise UserError(
                f"parameter {self.name!r} has the value {value!r}; write a parameter for each of "
                f"its keys, {self.name}.KEY"
            )


def _as_yaml(text: str) -> str:
    """Returns how a number such as ``1e-3``, a text to YAML, is written; empty for other texts."""
    try:
        number = float(text)
    except ValueError:
        return ""
    return f"; YAML reads 1e-3 as text, so write {number:.10f}".rstrip("0")


def parameter(name: str, spec: Any) -> Parameter:
    """Returns a parameter of a file; a distribution that is not named follows from its keys.

    Args:
        name: of the setting.
        spec: its keys and values in the file.

    Raises:
        UserError: they define no parameter.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
        raise UserError(f"{name!r} is not a parameter; expected a setting of marl train")
    if not isinstance(spec, dict) or not spec:
        raise UserError(
            f"parameter {name!r} is {spec!r}; expected value, values, or min and max under it"
        )
    if "parameters" in spec:
        raise UserError(f"parameter {name!r} is nested; write {name}.KEY for each one inside")
    rest = {key: value for key, value in spec.items() if key != "distribution"}
    return Parameter(name, str(spec.get("distribution", _implied(rest))), rest)


def _implied(spec: Spec) -> str:
    """Returns the distribution that a parameter's keys imply."""
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if "min" in spec or "max" in spec:
        integers = all(isinstance(spec.get(key, 0), int) for key in RANGE)
        return "int_uniform" if integers else "uniform"
    return "constant"
