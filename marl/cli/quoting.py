"""Quotes around paths on the command line, which Hydra's grammar would misread. Loads no torch."""

from __future__ import annotations

import re

from marl.errors import UserError

#: Settings whose value is a path, or for ``selfplay.runs`` a list of paths.
PATH_KEYS = re.compile(
    r"directory|selfplay\.runs|start_from\.run"
    r"|algorithm\.checkpoint|teams\.\w+\.(frozen|algorithm\.checkpoint)"
)
PLAIN = re.compile(r"[A-Za-z_./][\w./+@%-]*", re.ASCII)  # what Hydra reads as text, unquoted
WORDS = ("true", "false", "null", "inf", "nan")  # which Hydra reads as values of other types
# One item of a list and what follows it: in quotes, or up to the next comma.
ITEM = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,]*?)\s*(,|$)""")


def quote_paths(key: str, value: str, multirun: bool = False) -> str:
    """Returns the value of a path setting so that Hydra reads every character of it as text.

    Args:
        key: the setting, one that matches ``PATH_KEYS``.
        value: what the user typed. Paths that the user has quoted stay as they are.
        multirun: whether commas separate the values of several runs.

    Raises:
        UserError: one path where a list of them is expected.
    """
    if key == "selfplay.runs":
        lists = re.split(r"(?<=\]),(?=\[)", value) if multirun else [value]
        return ",".join(map(_quote_list, lists))
    return ",".join(map(quoted, split_items(value))) if multirun else quoted(value)


def _quote_list(value: str) -> str:
    if not (value.startswith("[") and value.endswith("]")):
        raise UserError(f"selfplay.runs={value} is not a list; write selfplay.runs=[{value}]")
    return f"[{','.join(map(quoted, split_items(value[1:-1])))}]"


def quoted(text: str) -> str:
    """Returns ``text`` in single quotes where Hydra would read it as anything but this text."""
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if not text or is_quoted or (PLAIN.fullmatch(text) and text.lower() not in WORDS):
        return text
    # A backslash counts as one but before a quote, where it escapes.
    escaped = re.sub(r"(\\*)(?='|$)", lambda match: 2 * match[1], text).replace("'", r"\'")
    return f"'{escaped}'"


def split_items(text: str) -> list[str]:
    """Returns the items of a comma-separated list; commas within quotes separate nothing."""
    items, start = [], 0
    while True:
        match = ITEM.match(text, start)
        assert match is not None  # the last alternative matches up to the next comma
        items.append(match[1])
        if not match[2]:
            return items
        start = match.end()
