"""The API reference has a page for every folder, and its first page every module beside them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
API = ROOT / "docs" / "api"


def test_every_folder_has_a_page() -> None:
    folders = {path.parent.name for path in (ROOT / "marl").glob("*/__init__.py")} - {"configs"}
    pages = {path.stem for path in API.glob("*.rst")}
    assert pages == {*folders, "core"}
    for name in folders:
        assert f".. modules:: marl.{name}\n" in (API / f"{name}.rst").read_text()
    listed = re.search(r"{toctree}.*?```", (API / "index.md").read_text(), re.S)
    assert listed and all(f"\n{page}\n" in listed[0] for page in pages)


def test_the_first_page_has_every_module_beside_the_folders() -> None:
    only = re.search(r":only: (.*)", (API / "core.rst").read_text())
    modules = {path.stem for path in (ROOT / "marl").glob("*.py")} - {"__init__", "__main__"}
    assert only and set(only[1].split()) == modules
