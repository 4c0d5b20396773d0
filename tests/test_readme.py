"""The README's links lead somewhere, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S))
    lost = [t for t in targets if not re.match(r"\w+:", t) and not (page.parent / t).exists()]
    assert not lost, f"{page.relative_to(ROOT)} links to {lost}"


def test_its_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    small = "total_frames=80, num_envs=4, steps=10, evaluation_episodes=2, progress=False"
    code = block.replace("total_frames=200_000, num_envs=60", small)
    assert small in code
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(code, scope)
    assert len(scope["returns"]["team"]) == 2


def test_it_is_short() -> None:
    """What is longer stands in docs/; the table of results is not counted."""
    text = re.sub(r"<!-- tables: begin.*?tables: end -->", "", README.read_text(), flags=re.S)
    assert len(text.splitlines()) < 140
