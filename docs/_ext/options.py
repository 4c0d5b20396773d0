"""The directive ``options``: a table of a configuration's fields, from the code that declares them.

```{options} marl.algorithms.mappo:IPPOConfig
:prefix: algorithm.
:base: marl.algorithms.mappo:MAPPOConfig
```

With ``base`` it lists only the options whose default is another one there, or that are not there.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from marl.utils.field_docs import Option, options


class Options(SphinxDirective):
    """Every option of a dataclass: its key, default, type and documentation."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "prefix": directives.unchanged,
        "arguments": directives.unchanged,
        "base": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        given = [word for word in self.options.get("arguments", "").split(",") if word]
        prefix = self.options.get("prefix", "")
        rows = options(_imported(self.arguments[0])(*given), prefix)
        if base := self.options.get("base"):
            others = {option.key: option.value for option in options(_imported(base)(), prefix)}
            rows = (row for row in rows if others.get(row.key, row) != row.value)
        items = [self._item(option) for option in rows]
        return [nodes.definition_list("", *items)]

    def _item(self, option: Option) -> nodes.definition_list_item:
        term = nodes.term("", "", *self._term(option))
        text, _ = self.parse_inline(option.doc)
        definition = nodes.definition("", nodes.paragraph("", "", *text))
        return nodes.definition_list_item("", term, definition)

    def _term(self, option: Option) -> Iterator[nodes.Node]:
        yield nodes.literal("", f"{option.key}={_plain(option.value)}")
        yield nodes.Text("  ")
        yield nodes.emphasis("", option.type)


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _plain(value: Any) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("options", Options)
    return {"parallel_read_safe": True}
