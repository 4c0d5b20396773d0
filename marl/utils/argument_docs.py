"""Options of a function: its arguments, with the text of its docstring's section ``Args:``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from marl.utils.field_docs import Option

SECTION = re.compile(r"^Args:\n(?P<body>(?:[ \t].*\n|\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^    (?P<name>\w+): (?P<text>.*(?:\n {5,}.*)*)", re.MULTILINE)


def argument_options(
    function: Callable[..., Any], prefix: str = "", without: Collection[str] = ()
) -> Iterator[Option]:
    """Yields the arguments that a function or class takes by name, as options.

    Args:
        function: the function or class.
        prefix: of every key, such as ``task.kwargs.``.
        without: arguments to leave out.
    """
    docs = argument_docs(function)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in by_name and name not in without:
            default = None if parameter.default is parameter.empty else parameter.default
            yield Option(prefix + name, _type_of(parameter), default, docs.get(name, ""))


def argument_docs(function: Callable[..., Any]) -> dict[str, str]:
    """Returns the text of each argument in the docstring; for a class, its bases' included."""
    docs: dict[str, str] = {}
    sources = reversed(function.__mro__) if isinstance(function, type) else (function,)
    for source in sources:
        text = inspect.cleandoc(source.__doc__ or "") + "\n"
        for section in SECTION.finditer(text):
            for entry in ENTRY.finditer(section["body"]):
                words = " ".join(entry["text"].split())
                docs[entry["name"]] = words[:1].upper() + words[1:]
    return docs


def _type_of(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return "any" if parameter.default is parameter.empty else type(parameter.default).__name__
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
