"""A document of a few kinds of blocks, as Markdown and as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from urllib.parse import quote


@dataclass(frozen=True)
class Heading:
    """A heading."""

    text: str
    #: 1 for the highest.
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    #: Markdown with bold, emphasis and code; names from elsewhere are ``escaped``.
    text: str


@dataclass(frozen=True)
class Items:
    """A bulleted list."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    #: Number of columns of text, the first ones; all others hold numbers, which are right-aligned.
    words: int = 1


@dataclass(frozen=True)
class Picture:
    """A picture."""

    #: Path within the suite's folder.
    file: str
    #: Description below it, without a full stop; up to its first colon it is the alternative text.
    about: str


Block = Heading | Text | Items | Table | Picture


def markdown(blocks: Iterable[Block]) -> str:
    """Returns the blocks as Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Items(texts):
            return "\n".join(f"- {text}" for text in texts)
        case Picture(file, about):
            return f"![{about.partition(':')[0]}]({file})\n\n{about}."
        case Table(columns, rows, words):
            rule = ["---" if i < words else "---:" for i in range(len(columns))]
            return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))


def page(blocks: Iterable[Block], folder: str = "") -> str:
    """Returns the blocks as HTML, pictures that follow each other beside each other.

    Args:
        blocks: the document.
        folder: of the pictures, with a trailing slash.
    """
    parts = []
    for pictures, group in groupby(blocks, lambda block: isinstance(block, Picture)):
        texts = [_html(block, folder) for block in group]
        parts += ['<div class="plots">', *texts, "</div>"] if pictures else texts
    return "\n".join(parts)


def _html(block: Block, folder: str) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{inline(text)}</h{level}>"
        case Text(text):
            return f"<p>{inline(text)}</p>"
        case Items(texts):
            return "<ul>" + "".join(f"<li>{inline(text)}</li>" for text in texts) + "</ul>"
        case Picture(file, about):
            source = html.escape(address(f"{folder}{file}"))
            image = f'<img src="{source}" alt="{html.escape(about)}" loading="lazy">'
            caption = f"<figcaption>{inline(about)}.</figcaption>"
            return f'<figure><a href="{source}">{image}</a>{caption}</figure>'
        case Table(columns, rows, words):
            head = _row(columns, words, "th")
            body = "\n".join(_row(row, words, "td") for row in rows)
            inner = f"<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>"
            return f'<div class="table"><table>\n{inner}\n</table></div>'


def _row(cells: Sequence[str], words: int, tag: str) -> str:
    parts = [
        f"<{tag}{'' if i < words else ' class=n'}>{inline(cell)}</{tag}>"
        for i, cell in enumerate(cells)
    ]
    return f"<tr>{''.join(parts)}</tr>"


def inline(text: str) -> str:
    """Returns Markdown text as HTML: escaped, with bold, emphasis, code and line breaks."""
    hidden = re.sub(r"\\([\\`*_<>&|\[\]~])", lambda m: chr(HIDDEN + ord(m[1])), text)
    safe = html.escape(hidden, quote=False).replace("&lt;br&gt;", "<br>")
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    safe = re.sub(r"\*(.+?)\*", r"<em>\1</em>", safe)
    safe = re.sub(r"`(.+?)`", r"<code>\1</code>", safe)
    return re.sub(SHOWN, lambda m: f"&#{ord(m[0]) - HIDDEN};", safe)


# --------------------------------------------------------------------------------- names of others

HIDDEN = 0xE000  # offset of escaped characters while others are replaced; never printable itself
SHOWN = f"[{chr(HIDDEN)}-{chr(HIDDEN + 0x7F)}]"


def escaped(name: str) -> str:
    """Returns a name from elsewhere so that Markdown and HTML show it literally.

    A ``_`` within a word formats nothing and stays.
    """
    text = re.sub(r"[\\`*<>&|\[\]~]", r"\\\g<0>", printable(name))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def code(text: str) -> str:
    """Returns a text as Markdown code, in which nothing is formatted."""
    return f"`{printable(text).replace('`', chr(39))}`"


def address(path: str) -> str:
    """Returns a relative path as a URL."""
    return quote(path)


def printable(text: str) -> str:
    """Returns a text with a space for each unprintable character."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
