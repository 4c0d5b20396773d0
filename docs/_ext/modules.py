"""The directive ``modules``: the reference of all modules in a folder, a section for each.

.. modules:: marl.networks

``:only:`` names those of a package that is a page of its own by parts, such as ``types env``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective


class Modules(SphinxDirective):
    """Documents every module in a package, those of its packages too."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"only": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        package = self.arguments[0]
        words = self.options.get("only", "").split()
        names = [f"{package}.{word}" for word in words] or list(modules(package))
        text = "\n".join(f"{name}\n{'-' * len(name)}\n\n.. automodule:: {name}\n" for name in names)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def modules(package: str) -> Iterator[str]:
    """Yields the modules in a package by name, in order."""
    paths = importlib.import_module(package).__path__
    for module in sorted(pkgutil.walk_packages(paths, f"{package}."), key=lambda each: each.name):
        if not module.ispkg:
            yield module.name


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True}
