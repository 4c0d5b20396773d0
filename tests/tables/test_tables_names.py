"""Names that others chose show as they are on the page, in Markdown and in pictures, and do
nothing. Markdown is read by a reader of its own (markdown-it)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from marl.benchmark.records import Cell
from marl.cli.main import main
from marl.tables.document import code, escaped, inline
from tests.helpers import toy_records as recorded

NAMES = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)<!--",
    "[x](javascript:alert(1))",
    "![x](x)",
    "a|b",
    "**a** *b* `c` ~~d~~",
    "__a__ _b_ c_d",
    "&lt;b&gt;",
    "\\*a\\*",
    "<br>",
    "\"'><b>",
    "$x^{$ $\\frac$",
    "a\ue03cb",
]
ALLOWED = {"p", "strong", "em", "code", "br"}


class Shown(HTMLParser):
    """The tags of a page, and what is read on it."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(markdown: str) -> Shown:
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return Shown(reader.render(markdown))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_shows_as_it_is(name: str) -> None:
    shown = name if name.isprintable() else "a b"
    for page in (Shown(inline(escaped(name))), rendered(f"## {escaped(name)}")):
        assert page.text.strip() == shown
        assert [tag for tag, _ in page.tags] in ([], ["h2"])
    cells = rendered(f"| {escaped(name)} | x |\n| --- | --- |\n| {escaped(name)} | y |")
    assert cells.text.replace("\n", "") == f"{shown}x{shown}y"


def test_markup_of_ours_still_counts() -> None:
    assert inline("**a\\*b**<br>`c` d") == "<strong>a&#42;b</strong><br><code>c</code> d"
    assert escaped("simple_spread: 3 - 4, seed_0") == "simple_spread: 3 - 4, seed_0"
    for text in ("a`b\n\nc", "<b>"):
        assert {tag for tag, _ in rendered(code(text)).tags} == {"p", "code"}


def hostile(results: Path) -> Iterator[Cell]:
    """A suite whose names, options and metrics all try something."""
    name = "<img src=x onerror=alert(1)>$"
    suite = results / "javascript:alert(1)#<b>"
    for algorithm in ("**_mappo_**|", "$\\bad$ <script>alert(2)<!--", "_hidden"):
        for seed in range(2):
            cell = Cell(name, algorithm, seed)
            recorded.record(suite, cell, {"<b>team</b>|": 5.0 + seed, "_$": 4.0}, [f"{name}|"])
            yield cell
            change(suite / cell.folder)


def change(record: Path) -> None:
    config = json.loads((record / "config.json").read_text())
    config["task"].update(name="a`<script>alert(3)</script>\n\n<b>", kwargs={"<i>": "</code><i>"})
    (record / "config.json").write_text(json.dumps(config))
    provenance = json.loads((record / "provenance.json").read_text())
    provenance |= {"processor": "<b>cpu</b>", "gpu": "[g](javascript:g)", "cores": "<b>"}
    (record / "provenance.json").write_text(json.dumps(provenance))
    (record / "video.gif").write_bytes(b"film")
    recorded.resumed(record)


def test_hostile_names_do_nothing(tmp_path: Path) -> None:
    results = tmp_path / "results"
    marks = "<!-- tables: begin -->\n<!-- tables: end -->\n"
    (tmp_path / "README.md").write_text(marks)
    cells = list(hostile(results))
    suite = next(results.glob("java*"))
    bad = suite / cells[0].folder.parent / "seed_7"
    bad.mkdir()
    (bad / "SHA256SUMS").write_text("0  <script>\n")
    for words in (["tables"], ["tables", "--check"]):
        with pytest.raises(SystemExit) as end:
            main([*words, "--results", str(results)])
        assert end.value.code == 0
    page = Shown((results / "index.html").read_text())
    for tag, attributes in page.tags:
        assert tag not in ("script", "b", "i"), attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src"):
            assert ":" not in (attributes.get(name) or ""), attributes
    assert suite.name in page.text and cells[0].task in page.text
    assert "**_mappo_**|" in page.text
    for file in (suite / "tables.md", tmp_path / "README.md"):
        for tag, attributes in rendered(file.read_text().replace(marks, "")).tags:
            assert tag not in ("script", "b", "i", "img") or "onerror" not in attributes
            assert tag not in ("script", "b", "i"), (file, attributes)
            assert not (attributes.get("href") or "").startswith("javascript")
    assert sorted(path.name for path in suite.glob("*.png"))
