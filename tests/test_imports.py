"""Who may import whom, read off the syntax trees; and what must not be loaded too early."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("marl", "envs", "algorithms", "configs", "tests")


def modules(*packages: str) -> Iterator[tuple[str, Path]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imported(path: Path) -> set[str]:
    """All of our modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what is imported"
            found |= {node.module or "", *(f"{node.module}.{a.name}" for a in node.names)}
    return {name for name in found if name.split(".")[0] in OURS}


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def offences(packages: tuple[str, ...], forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{name} imports {module}"
        for name, path in modules(*packages)
        if not within(name, "marl.cli", "marl.__main__")
        for module in sorted(imported(path))
        if within(module, *forbidden)
    ]


def test_types_stand_on_nothing_of_ours() -> None:
    assert {m.split(".")[1] for m in imported(ROOT / "marl/types.py")} <= {"errors"}


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("marl", ("envs", "algorithms", "configs", "tests", "marl.cli")),
        ("envs", ("algorithms", "configs", "tests", "marl.cli")),
        ("algorithms", ("envs", "configs", "tests", "marl.cli")),
        ("configs", OURS),
    ],
)
def test_imports_point_one_way(package: str, forbidden: tuple[str, ...]) -> None:
    assert offences((package,), forbidden) == []


def test_the_walk_sees_imports(tmp_path: Path) -> None:
    """The tests above would pass if nothing were found at all."""
    assert within("marl.cli.compose", "marl.cli") and not within("marl.client", "marl.cli")
    assert "envs" in imported(ROOT / "marl/cli/compose.py")
    nested = tmp_path / "nested.py"
    nested.write_text("def f():\n    from marl import cli\n    import envs.vmas.env\n")
    assert imported(nested) == {"marl", "marl.cli", "envs.vmas.env"}


HELP = """
import sys
from marl import cli
try:
    cli.main(["train", "--help"])
except SystemExit as end:
    assert end.code == 0
"""


TABLES = """
import pathlib, sys, tempfile
from marl import cli
from tests import recorded
with tempfile.TemporaryDirectory() as folder:
    results = pathlib.Path(folder) / "results"
    cells = recorded.grid("walk", "mappo ippo", 2)
    recorded.suite(results / "toy", cells, lambda cell, team: 5.0 + cell.seed)
    try:
        cli.main(["tables", "--results", str(results)])
    except SystemExit as end:
        assert not end.code, end.code
    assert (results / "toy" / "curves.png").exists()
"""


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (TABLES, ("torch", "hydra", "scipy", "vmas", "wandb", "envs", "marl.cli.commands")),
        (HELP, ("torch", "hydra", "omegaconf", "vmas", "wandb", "numpy", "pettingzoo")),
        ("import sys, marl.cli.sweep", ("torch", "hydra", "omegaconf", "vmas", "wandb")),
        ("import sys, marl.cli.benchmark", ("torch", "hydra", "omegaconf", "vmas", "wandb")),
        ("import sys, marl.report", ("torch", "hydra", "vmas", "wandb", "matplotlib")),
    ],
)
def test_light_modules_load_nothing_heavy(code: str, heavy: tuple[str, ...]) -> None:
    tail = f"\nprint([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
