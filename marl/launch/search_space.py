"""One parameter of a sweep: a value, values, or a distribution, with the words of W&B's files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from marl.errors import UserError, unknown

Given = Mapping[str, Any]  # what the file says of a parameter


def _whole(given: Given, source: Random) -> int:
    return source.randint(given["min"], given["max"])


def _uniform(given: Given, source: Random) -> float:
    return source.uniform(given["min"], given["max"])


def _log_uniform(given: Given, source: Random) -> float:
    return math.exp(source.uniform(math.log(given["min"]), math.log(given["max"])))


def _normal(given: Given, source: Random) -> float:
    return source.normalvariate(given.get("mu", 0.0), given.get("sigma", 1.0))


@dataclass(frozen=True)
class Distribution:
    """What must be told of it, what may be, and how it is drawn."""

    needs: tuple[str, ...]
    draw: Callable[[Given, Random], Any]
    allows: tuple[str, ...] = ()


RANGE, BELL = ("min", "max"), ("mu", "sigma")
DISTRIBUTIONS = {
    "constant": Distribution(("value",), lambda given, _: given["value"]),
    "categorical": Distribution(("values",), lambda given, source: source.choice(given["values"])),
    "categorical_w_probabilities": Distribution(
        ("values", "probabilities"),
        lambda given, source: source.choices(given["values"], given["probabilities"])[0],
    ),
    "int_uniform": Distribution(RANGE, _whole),
    "uniform": Distribution(RANGE, _uniform),
    "q_uniform": Distribution(RANGE, _uniform, ("q",)),
    "log_uniform_values": Distribution(RANGE, _log_uniform),
    "q_log_uniform_values": Distribution(RANGE, _log_uniform, ("q",)),
    "normal": Distribution((), _normal, BELL),
    "log_normal": Distribution((), lambda given, source: math.exp(_normal(given, source)), BELL),
}


@dataclass(frozen=True)
class Parameter:
    """A setting of a run, and what it may be.

    Raises:
        UserError: an unknown distribution, or numbers that make none.
    """

    name: str
    distribution: str
    given: Given

    def __post_init__(self) -> None:
        self._check_keys()
        for key in ("min", "max", "q", "mu", "sigma"):
            if key in self.given:
                self._check_number(key, self.given[key])
        if "min" in self.given:
            self._check_range(self.given["min"], self.given["max"])
        self._check_values()

    @property
    def varies(self) -> bool:
        return self.distribution != "constant"

    def all(self) -> list[Any]:
        """Every value, for a grid.

        Raises:
            UserError: there is no end of them.
        """
        match self.distribution:
            case "constant":
                return [self.given["value"]]
            case "categorical":
                return list(self.given["values"])
            case "int_uniform":
                return list(range(self.given["min"], self.given["max"] + 1))
        raise UserError(
            f"parameter {self.name!r} is {self.distribution}, which a grid cannot go through; "
            "list its values, or set method: random"
        )

    def draw(self, source: Random) -> Any:
        """One value; numbers to six digits, which a person can copy."""
        value = DISTRIBUTIONS[self.distribution].draw(self.given, source)
        if not self.varies or "values" in self.given or isinstance(value, int):
            return value
        if not self.distribution.startswith("q_"):
            return float(f"{value:.6g}")
        q = self.given.get("q", 1)
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
        for key in self.given:
            if key not in kind.needs + kind.allows:
                raise unknown("key", key, kind.needs + kind.allows + ("distribution",), where=where)
        if missing := [key for key in kind.needs if key not in self.given]:
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
        if "log" in self.distribution and low <= 0:
            raise UserError(f"parameter {self.name!r} has min {low}; a logarithm needs it above 0")

    def _check_values(self) -> None:
        values = self.given.get("values", [self.given.get("value", 0)])
        if not isinstance(values, list) or not values:
            raise UserError(f"values of parameter {self.name!r} are {values!r}; expected a list")
        for value in values:
            self._check_word(value)
        weights = self.given.get("probabilities", [1] * len(values))
        numbers = isinstance(weights, list) and all(isinstance(w, int | float) for w in weights)
        if not numbers or len(weights) != len(values) or min(weights) < 0 or sum(weights) <= 0:
            raise UserError(
                f"probabilities of parameter {self.name!r} are {weights!r}; expected a number for "
                f"each of its {len(values)} values"
            )

    def _check_word(self, value: Any) -> None:
        """W&B writes values into the command as Python prints them, which not all survive."""
        inner = value if isinstance(value, list) else [value]
        if any(item is None for item in inner):
            raise UserError(f"parameter {self.name!r} has an empty value; write null as 'null'")
        if any(isinstance(item, dict) for item in inner):
            raise UserError(
                f"parameter {self.name!r} has the value {value!r}; write a parameter for each of "
                f"its keys, {self.name}.KEY"
            )


def _as_yaml(text: str) -> str:
    """``1e-3`` is a number to everyone but YAML."""
    try:
        number = float(text)
    except ValueError:
        return ""
    return f"; YAML takes 1e-3 for text, so write {number:.10f}".rstrip("0")


def parameter(name: str, given: Any) -> Parameter:
    """A parameter as a file has it, its distribution found where it is not named.

    Raises:
        UserError: it makes no sense.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
        raise UserError(f"{name!r} is no name for a parameter; expected a setting of marl train")
    if not isinstance(given, dict) or not given:
        raise UserError(
            f"parameter {name!r} is {given!r}; expected value, values, or min and max under it"
        )
    if "parameters" in given:
        raise UserError(f"parameter {name!r} is nested; write {name}.KEY for each one inside")
    rest = {key: value for key, value in given.items() if key != "distribution"}
    return Parameter(name, str(given.get("distribution", _implied(rest))), rest)


def _implied(given: Given) -> str:
    if "values" in given:
        return "categorical_w_probabilities" if "probabilities" in given else "categorical"
    if "min" in given or "max" in given:
        whole = all(isinstance(given.get(key, 0), int) for key in RANGE)
        return "int_uniform" if whole else "uniform"
    return "constant"
