"""Scenarios: VMAS's own by name, and a user's as classes or objects. Imports no VMAS by itself."""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from marl.errors import UserError
from marl.utils.field_docs import Option
from marl.utils.user_files import path_of

#: A name of VMAS's, or a subclass or an instance of its ``BaseScenario``.
Scenario: TypeAlias = Any
BASE = ("vmas.simulator.scenario", "BaseScenario")


def is_scenario(value: object) -> bool:
    """Returns whether ``value`` is a subclass or an instance of VMAS's ``BaseScenario``."""
    kind = value if isinstance(value, type) else type(value)
    return any((base.__module__, base.__name__) == BASE for base in kind.__mro__)


def import_path_of(task: str) -> str:
    """Returns the import path in ``vmas/<import path>``, and any other task as it is: also the file
    of a folder that is called ``vmas``."""
    prefix, _, path = task.partition("/")
    if prefix != "vmas" or ":" not in path or Path(task.rpartition(":")[0]).exists():
        return task
    return path


def name_of(scenario: Scenario) -> str:
    """Returns the name of a scenario in errors, such as ``vmas/balance`` or ``module:Class``."""
    if isinstance(scenario, str):
        return f"vmas/{scenario}"
    return path_of(scenario if isinstance(scenario, type) else type(scenario))


def ends_by_time(scenario: Any) -> bool:
    """Returns whether a scenario leaves ``done`` as VMAS has it, which never ends an episode."""
    kinds = (kind for kind in type(scenario).__mro__ if "done" in vars(kind))
    kind = next(kinds, type(scenario))
    return "done" not in vars(scenario) and (kind.__module__, kind.__name__) == BASE


def new(scenario: Scenario) -> Any:
    """Returns a scenario for one environment; of an object a copy, for it is bound to one world.

    Raises:
        UserError: the class takes arguments or lacks methods, or the object cannot be copied.
    """
    if isinstance(scenario, str):
        return _module(scenario).Scenario()
    is_class = isinstance(scenario, type)
    try:
        return scenario() if is_class else copy.deepcopy(scenario)
    except TypeError as error:
        what = "made without arguments" if is_class else "copied"
        raise UserError(f"the scenario {name_of(scenario)} cannot be {what}: {error}") from error


def options(scenario: Scenario) -> Iterator[Option]:
    """Yields the arguments of a scenario: those of its ``make_world``, and what its source takes
    out of the rest by name, ``kwargs.pop("n_agents", 4)``."""
    if isinstance(scenario, str):
        yield from _taken(ast.parse(Path(_module(scenario).__file__).read_text()), "kwargs")
        return
    names: set[str] = set()
    for kind in _classes(scenario):
        for option in (*_named(kind), *_taken(_tree(kind), _rest(kind))):
            if option.key not in names:
                names.add(option.key)
                yield option


def reads_others(scenario: Scenario) -> bool:
    """Returns whether a scenario may read arguments that ``options`` does not list, as one does
    that hands all of them on to something else, or whose source is not there."""
    return not isinstance(scenario, str) and any(
        _hands_on(_tree(kind), _rest(kind)) for kind in _classes(scenario) if _rest(kind)
    )


def _module(name: str) -> Any:
    # the package; `vmas.scenarios` is a list
    return importlib.import_module("vmas.scenarios").load(f"{name}.py")


def _classes(scenario: Scenario) -> list[type]:
    """Returns the class of a scenario and its bases, without VMAS's ``BaseScenario`` and on."""
    kind = scenario if isinstance(scenario, type) else type(scenario)
    kinds = (base for base in kind.__mro__ if is_scenario(base))
    return [base for base in kinds if (base.__module__, base.__name__) != BASE]


def _tree(kind: type) -> ast.Module:
    """Returns the syntax tree of a class's functions; an empty one where their source is not
    there."""
    functions = [value for value in vars(kind).values() if inspect.isfunction(value)]
    try:
        sources = [textwrap.dedent(inspect.getsource(function)) for function in functions]
        return ast.parse("\n".join(sources))
    except (OSError, SyntaxError):  # made in a session
        return ast.Module([], [])


def _parameters(kind: type) -> list[inspect.Parameter]:
    make_world = vars(kind).get("make_world")
    return list(inspect.signature(make_world).parameters.values()) if make_world else []


def _rest(kind: type) -> str:
    """Returns the name of ``make_world``'s argument for all others; empty if it has none."""
    rest = (p.name for p in _parameters(kind) if p.kind is p.VAR_KEYWORD)
    return next(rest, "")


def _named(kind: type) -> Iterator[Option]:
    """Yields the arguments of ``make_world`` after the number of copies and the device."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for parameter in _parameters(kind)[3:]:
        if parameter.kind in by_name:
            default = None if parameter.default is parameter.empty else parameter.default
            yield Option(parameter.name, type(default).__name__, default, "")


def _taken(tree: ast.AST, rest: str) -> Iterator[Option]:
    """Yields what a source takes out of the mapping ``rest`` by name."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="pop" | "get"),
                args=[ast.Constant(str(key)), *others],
            ) if name == rest:
                default = ast.unparse(others[0]) if others else "None"
                with contextlib.suppress(ValueError):
                    default = ast.literal_eval(default)
                yield Option(key, type(default).__name__, default, "")
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(str(key))) if (
                name == rest
            ):
                yield Option(key, "any", None, "")


def _hands_on(tree: ast.Module, rest: str) -> bool:
    """Returns whether a source uses the mapping ``rest`` for more than its keys by name."""
    by_name: set[int] = set()  # the uses that are clear
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name() as use, attr="pop" | "get"),
                args=[ast.Constant(), *_],
            ):
                by_name.add(id(use))
            case ast.Subscript(value=ast.Name() as use, slice=ast.Constant()):
                by_name.add(id(use))
            case ast.Compare(left=ast.Constant(), comparators=[ast.Name() as use]):
                by_name.add(id(use))
            case ast.Call(func=ast.Attribute(attr="make_world"), keywords=words):
                by_name |= {id(word.value) for word in words if word.arg is None}
            case ast.Call(func=ast.Attribute(attr="check_kwargs_consumed"), args=[use]):
                by_name.add(id(use))
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == rest]
    return not tree.body or any(id(use) not in by_name for use in uses)
