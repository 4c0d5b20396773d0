"""The page ``results/index.html`` with all suites, which needs no server."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from marl.tables import document
from marl.tables.document import Block, address
from marl.tables.selection import Selection

STYLE = """\
:root { --ink: #1c2330; --paper: #fbfbf9; --card: #fff; --line: #dfe2e6; --soft: #5d6673;
  --accent: #0b63a5; color-scheme: light; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ec; --paper: #14171c; --card: #1c2027;
  --line: #333a44; --soft: #9aa4b1; --accent: #6db3ee; color-scheme: dark; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 5rem; max-width: 96rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { min-width: 0; }
h1 { margin: 3.5rem 0 .5rem; padding-top: 1.5rem; border-top: 3px solid var(--accent); }
header h1 { margin: 0; padding: 0; border: 0; }
h2 { margin: 2.2rem 0 .6rem; } h3 { margin: 1.4rem 0 .4rem; color: var(--soft); }
p { max-width: 48rem; } a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; }
@media (min-width: 70rem) {
  .beside { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: 2.5rem; }
  nav { position: sticky; top: 1.5rem; flex-direction: column; flex-wrap: nowrap;
    align-self: start; max-height: calc(100vh - 3rem); overflow-y: auto; margin-top: 3.5rem; }
}
nav a { padding: .2rem .8rem; border: 1px solid var(--line); border-radius: 1rem;
  background: var(--card); text-decoration: none; }
.table { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; background: var(--card); font-size: .92rem; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  white-space: nowrap; }
thead th { border-bottom: 2px solid var(--line); color: var(--soft); font-weight: 600; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr));
  gap: 1rem; margin: 1rem 0; align-items: start; }
.plots img { background: #fff; padding: .5rem; }
.videos { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .88rem; }
video, figure img { width: 100%; border-radius: 8px; border: 1px solid var(--line); }
code { font-size: .92em; }
"""
SOURCES = ("tables.md", "final.csv", "summary.csv", "curves.csv", "profiles.csv", "improvement.csv")
SOURCES += ("marl_eval.json",)


def page(suites: Mapping[str, tuple[Selection, Sequence[Block]]]) -> str:
    """Returns the HTML page of all suites (name -> its runs and blocks)."""
    links = "".join(
        f'<a href="#{html.escape(address(name))}">{html.escape(name)}</a>' for name in suites
    )
    body = "\n".join(_suite(*suite) for suite in suites.values())
    about = (
        "Every number here comes from the raw records beside this page, by "
        "<code>marl tables</code>."
    )
    return frame("Benchmark results", about, links, body)


def frame(title: str, about: str, links: str, body: str) -> str:
    """Returns a whole HTML page.

    Args:
        title: of the page, as HTML.
        about: the paragraph below it, as HTML.
        links: to the sections, as HTML.
        body: the sections, as HTML.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{about}</p>
</header>
<div class="beside">
<nav>{links}</nav>
<main>
{body}
</main>
</div>
</body>
</html>
"""


def _suite(selection: Selection, blocks: Sequence[Block]) -> str:
    folder = f"{selection.name}/"
    start = html.escape(address(folder))
    files = ", ".join(f'<a href="{start}{name}">{name}</a>' for name in SOURCES)
    parts = [f'<section id="{html.escape(selection.name)}">', document.page(blocks, folder)]
    return "\n".join([*parts, _videos(selection), f"<p>As files: {files}.</p>", "</section>"])


def _videos(selection: Selection) -> str:
    figures = [
        _video(f"{selection.name}/{run.cell.folder.as_posix()}/{path.name}", str(run.cell))
        for run in selection.runs
        for path in run.videos
    ]
    if not figures:
        return ""
    return "<h2>Videos</h2>\n" + "\n".join(['<div class="videos">', *figures, "</div>"])


def _video(path: str, about: str) -> str:
    source, caption = html.escape(address(path)), html.escape(about)
    if path.endswith(".gif"):
        shown = f'<img src="{source}" alt="{caption}" loading="lazy">'
    else:
        shown = f'<video src="{source}" controls loop muted preload="metadata"></video>'
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"
