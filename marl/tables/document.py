"""A document of a few kinds of blocks, as Markdown and as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    text: str  # **bold** and `code` are meant


@dataclass(frozen=True)
class Items:
    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1  # so many columns from the left hold words; numbers stand to the right


@dataclass(frozen=True)
class Picture:
    file: str  # relative to the suite's folder
    about: str


Block = Heading | Text | Items | Table | Picture


def markdown(blocks: Iterable[Block]) -> str:
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
            return f"![{about.partition(':')[0]}]({file})"
        case Table(columns, rows, words):
            rule = ["---" if i < words else "---:" for i in range(len(columns))]
            return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))


def page(blocks: Iterable[Block], folder: str = "") -> str:
    """The blocks as HTML; their pictures are in ``folder``."""
    return "\n".join(_html(block, folder) for block in blocks)


def _html(block: Block, folder: str) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{inline(text)}</h{level}>"
        case Text(text):
            return f"<p>{inline(text)}</p>"
        case Items(texts):
            return "<ul>" + "".join(f"<li>{inline(text)}</li>" for text in texts) + "</ul>"
        case Picture(file, about):
            address = html.escape(f"{folder}{file}")
            image = f'<img src="{address}" alt="{html.escape(about)}" loading="lazy">'
            return f'<a class="plot" href="{address}">{image}</a>'
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
    """Escaped, with bold, emphasis, code and line breaks."""
    safe = html.escape(text, quote=False).replace("&lt;br&gt;", "<br>")
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    safe = re.sub(r"\*(.+?)\*", r"<em>\1</em>", safe)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", safe)
