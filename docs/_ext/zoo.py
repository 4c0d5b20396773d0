"""The directive ``zoo``: films of policies of the zoo, and a table of all of them.

The films lie in ``docs/_static/zoo/``, named SUITE-TASK-ALGORITHM.mp4, as ``marl evaluate
zoo:SUITE/TASK/ALGORITHM --episodes 1 --video FILE`` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).parents[2] / "results"
FILMS = Path(__file__).parents[1] / "_static" / "zoo"
HEADER = ("name", "task", "return", "frames", "size")
FILM = (
    '<figure><video src="_static/zoo/{file}" controls loop muted autoplay playsinline></video>'
    "<figcaption><code>{name}</code></figcaption></figure>"
)


class Zoo(SphinxDirective):
    """The films, and the table, read when the page is built."""

    def run(self) -> list[nodes.Node]:
        films = "\n".join(FILM.format(file=path.name, name=name) for name, path in films_by_name())
        picture = nodes.raw("", f'<div class="films">\n{films}\n</div>', format="html")
        for path in RESULTS.glob("*/*/*/*/policy.safetensors"):
            self.env.note_dependency(str(path))
        return [picture, *self.parse_text_to_nodes(markdown())]


def films_by_name() -> Iterator[tuple[str, Path]]:
    """Yields the names of the policies that a film shows, and the films."""
    for path in sorted(FILMS.glob("*.mp4")):
        yield "zoo:" + path.stem.replace("-", "/<wbr>"), path


def markdown() -> str:
    """Returns the table of all policies in Markdown."""
    lines = [HEADER, ("---", "---", "---:", "---:", "---:"), *rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rows() -> Iterator[tuple[str, ...]]:
    """Yields a row for each team of each policy of the zoo."""
    for path in sorted(RESULTS.glob("*/*/*/*/policy.safetensors")):
        config = json.loads((path.parent / "config.json").read_text())
        absolute = json.loads((path.parent / "absolute.json").read_text())
        name = "/".join(path.parts[-5:-2])
        for team, best in absolute.items():
            yield (
                f"`zoo:{name}`",
                config["task"]["name"],
                f"{fmean(best['returns'][team]):.2f}",
                f"{best['frames']:,}",
                f"{path.stat().st_size / 1000:.0f} kB",
            )


def setup(app: object) -> dict[str, bool]:
    app.add_directive("zoo", Zoo)  # type: ignore[attr-defined]
    return {"parallel_read_safe": True}
