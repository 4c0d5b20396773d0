"""Who may import whom, read off the syntax trees; and what must not be loaded too early."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("marl", "envs", "algorithms", "configs", "tests")
OUTSIDE = ("envs", "algorithms", "configs")  # beside marl/, imported as marl.envs and so on

# The floors of marl/, from the ground: a room imports from floors below its own only.
FLOORS = (
    ("errors",),
    ("tensors",),
    ("spaces",),
    ("types",),
    ("utils",),
    ("env", "networks"),
    ("policies",),
    ("critics",),
    ("learning",),
    ("algorithm",),
    ("training",),
    ("experiment", "launch", "benchmark", "deployment"),
    ("stacked_run",),
    ("tables",),
    ("comparison",),
    ("cli", "templates"),  # what `marl new` copies is a user's code
)
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


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
        if not within(name, "marl.cli", "marl.__main__") and name != "marl"  # its lazy exports
        for module in sorted(imported(path))
        if within(module, *forbidden)
    ]


def test_types_stand_on_nothing_of_ours() -> None:
    below = {"errors", "tensors", "spaces"}
    for name in (*below, "types"):
        assert {m.split(".")[1] for m in imported(ROOT / f"marl/{name}.py")} <= below


ABOVE = ("marl.training", "marl.experiment", "marl.launch", "marl.benchmark", "marl.tables")


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("marl", ("marl.envs", "marl.algorithms", "marl.configs", "tests", "marl.cli")),
        ("envs", ("marl.algorithms", "marl.configs", "tests", "marl.cli", *ABOVE)),
        ("algorithms", ("marl.envs", "marl.configs", "tests", "marl.cli", *ABOVE)),
        ("configs", OURS),
    ],
)
def test_imports_point_one_way(package: str, forbidden: tuple[str, ...]) -> None:
    assert offences((package,), forbidden) == []


def test_every_package_is_imported_by_its_one_name() -> None:
    """``envs`` beside ``marl.envs`` would be a second copy of the same code."""
    assert offences(("marl", "envs", "algorithms", "configs", "tests"), OUTSIDE) == []


# ------------------------------------------------------------------------------ the floors of marl/


@dataclass(frozen=True)
class House:
    """The rooms of ``marl/`` (its files and packages), and the arrows between them: imports."""

    rooms: frozenset[str]
    arrows: frozenset[tuple[str, str]]

    def below(self, room: str) -> set[str]:
        """All rooms that one can come to from ``room``."""
        found: set[str] = set()
        ahead = [room]
        while ahead:
            here = ahead.pop()
            new = {end for start, end in self.arrows if start == here} - found
            found |= new
            ahead += new
        return found

    def circles(self) -> set[frozenset[str]]:
        below = {room: self.below(room) for room in self.rooms}
        return {
            frozenset(other for other in below[room] if room in below[other])
            for room in self.rooms
            if room in below[room]
        }

    def floors(self) -> int:
        """The longest way down, counted in rooms, in a house without circles."""
        height: dict[str, int] = {}

        def climb(room: str) -> int:
            if room not in height:
                ends = (end for start, end in self.arrows if start == room)
                height[room] = 1 + max(map(climb, ends), default=0)
            return height[room]

        return max(map(climb, self.rooms))


def house(root: Path = ROOT) -> House:
    paths = [path for path in (root / "marl").rglob("*.py") if path.parent.is_relative_to(root)]
    inside = {path: path.relative_to(root / "marl").with_suffix("").parts[0] for path in paths}
    own = {path: room for path, room in inside.items() if room not in ("__init__", "__main__")}
    rooms = {room for room in own.values() if room not in OUTSIDE}
    arrows = {
        (room, part)
        for path, room in own.items()
        if room in rooms
        for name in imported(path)
        for part in name.split(".")[1:2]
        if part in rooms and part != room
    }
    return House(frozenset(rooms), frozenset(arrows))


def test_every_room_stands_on_a_floor() -> None:
    assert house().rooms == set(HEIGHT)


def test_no_arrow_points_up_or_aside() -> None:
    wrong = [(start, end) for start, end in house().arrows if HEIGHT[start] <= HEIGHT[end]]
    assert sorted(wrong) == []


def test_the_house_without_circles() -> None:
    assert house().circles() == set()
    assert house().floors() <= len(FLOORS)


def test_the_house_sees_circles(tmp_path: Path) -> None:
    (tmp_path / "marl/b").mkdir(parents=True)
    (tmp_path / "marl/a.py").write_text("from marl.b import c\n")
    (tmp_path / "marl/b/c.py").write_text("def f():\n    import marl.a\n")
    (tmp_path / "marl/d.py").write_text("import marl.a\n")
    found = house(tmp_path)
    assert found.rooms == {"a", "b", "d"} and ("d", "a") in found.arrows
    assert found.circles() == {frozenset("ab")}


def test_packages_hold_no_code_of_their_own() -> None:
    """``__init__`` files are empty, but for marl's exports and for names that moved, which stay for
    one release."""
    for name, path in modules("marl", "envs", "algorithms"):
        if path.name == "__init__.py" and name != "marl":
            body = ast.parse(path.read_text()).body
            rest = [node for node in body if not isinstance(node, ast.Expr)]
            assert not rest or "old_names" in path.read_text(), name


def test_the_walk_sees_imports(tmp_path: Path) -> None:
    """The tests above would pass if nothing were found at all."""
    assert within("marl.cli.compose", "marl.cli") and not within("marl.client", "marl.cli")
    assert "marl.envs" in {name[:9] for name in imported(ROOT / "marl/cli/compose.py")}
    nested = tmp_path / "nested.py"
    nested.write_text("def f():\n    from marl import cli\n    import envs.vmas.env\n")
    assert imported(nested) == {"marl", "marl.cli", "envs.vmas.env"}


HELP = """
import sys
from marl.cli.main import main
try:
    main(["train", "--help"])
except SystemExit as end:
    assert end.code == 0
"""


TABLES = """
import pathlib, sys, tempfile
from marl.cli.main import main
from tests.helpers import toy_records
with tempfile.TemporaryDirectory() as folder:
    results = pathlib.Path(folder) / "results"
    cells = toy_records.grid("walk", "mappo ippo", 2)
    toy_records.suite(results / "toy", cells, lambda cell, team: 5.0 + cell.seed)
    try:
        main(["tables", "--results", str(results)])
    except SystemExit as end:
        assert not end.code, end.code
    assert (results / "toy" / "curves.png").exists()
"""
LAUNCH = "import sys, marl.launch." + ", marl.launch.".join(
    path.stem for path in sorted((ROOT / "marl/launch").glob("[a-z]*.py"))
)

FIRST_ITERATION = """
import sys, tempfile
from marl.cli import compose
words = "task=vmas/simple algorithm=mappo num_envs=2 steps=2 model.hidden=[8] progress=false"
with tempfile.TemporaryDirectory() as folder:
    config = compose.composed([*words.split(), f"directory={folder}/run"])
    run = compose.build(config)
    rollout, _ = run.collector.collect()
    run.teams["team"].update(rollout)
"""
LATER = (
    "torch._dynamo", "sympy", "pandas", "scipy", "matplotlib", "wandb", "torch_geometric",
    "tensorboard", "imageio", "pyglet", "pettingzoo", "gymnasium", "mpe2",
)  # fmt: skip


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (FIRST_ITERATION, LATER),
        (TABLES, ("torch", "hydra", "scipy", "vmas", "wandb", "marl.envs", "marl.cli.commands")),
        (HELP, ("torch", "hydra", "omegaconf", "vmas", "wandb", "numpy", "pettingzoo")),
        ("import sys, marl", ("torch", "hydra", "numpy", "marl.types")),
        (LAUNCH, ("torch", "hydra", "omegaconf", "vmas", "wandb")),
        ("import sys, marl.cli.sweep", ("torch", "hydra", "omegaconf", "vmas", "wandb")),
        ("import sys, marl.cli.benchmark", ("torch", "hydra", "omegaconf", "vmas", "wandb")),
        (
            "import sys, marl.cli.listing, marl.cli.runs, marl.cli.compare, marl.cli.record",
            ("torch", "hydra", "vmas", "wandb", "matplotlib", "marl.envs", "marl.cli.compose"),
        ),
        ("import sys, marl.training.report", ("torch", "hydra", "vmas", "wandb", "matplotlib")),
    ],
)
def test_light_modules_load_nothing_heavy(code: str, heavy: tuple[str, ...]) -> None:
    tail = f"\nprint([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
