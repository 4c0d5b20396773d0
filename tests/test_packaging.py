"""Every documented way to run, beside a user's own packages of the names ``envs``, ``algorithms``
and ``configs``."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN = [
    "train", "task=my_tasks:duel", "algorithm=ippo", "total_frames=80", "num_envs=4", "steps=10",
    "evaluation_episodes=2", "video=false", "progress=false", "model.hidden=[8]", "directory=run",
]  # fmt: skip
TASK = """
from pettingzoo.classic import rps_v2
from envs import mine
def duel(): return rps_v2.parallel_env(max_cycles=mine)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with packages that are called as our folders are."""
    for name in ("envs", "algorithms", "configs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("mine = 5\n")
    (tmp_path / "my_tasks.py").write_text(TASK)
    return tmp_path


def ran(folder: Path, *words: str, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


WAYS = {
    "python -m": ["-m", "marl"],
    "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", "marl"],
    "the command": ["-c", "from marl.cli.main import main; main()"],
}


TELLS = """
import runpy, marl.envs
print(marl.envs.__file__, flush=True)
runpy.run_module("marl", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.slow] * (way != "the command")) for way in WAYS]
)
def test_a_checkout_beside_packages_of_the_same_names(folder: Path, way: str) -> None:
    ran(folder, *WAYS[way], *RUN, path=ROOT)
    assert (folder / "run/evaluations.jsonl").exists()


def test_a_checkout_without_symbolic_links(folder: Path, tmp_path_factory) -> None:
    """As git makes it on Windows: a link is a file that holds its target."""
    copy = tmp_path_factory.mktemp("checkout")
    names = ["marl", "envs", "algorithms", "configs"]
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in names), str(copy)], check=True)
    for name in names[1:]:
        (copy / "marl" / name).unlink()
        (copy / "marl" / name).write_text(f"../{name}")
    said = ran(folder, "-c", TELLS, *RUN, path=copy)
    assert said.startswith(str(copy)), said
    assert (folder / "run/evaluations.jsonl").exists()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = "import setuptools.build_meta as b; b.build_wheel(__import__('sys').argv[1])"
    copy = folder / "source"
    names = ["marl", "envs", "algorithms", "configs", "pyproject.toml", "README.md"]
    copy.mkdir()
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in names), str(copy)], check=True)
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=copy, check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_a_wheel_gives_one_name_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"marl"}
    for part in ("envs/vmas/env.py", "algorithms/mappo.py", "configs/experiment/default.yaml"):
        assert f"marl/{part}" in names


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_wheel_runs_beside_packages_of_the_same_names(
    wheel: Path, folder: Path, tmp_path_factory, way: str
) -> None:
    installed = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(installed)
    ran(folder, *WAYS[way], *RUN, path=installed)
    where = ran(folder, "-c", "import marl.envs; print(marl.envs.__file__)", path=installed)
    assert where.startswith(str(installed)), where


def test_pyright_checks_what_the_links_lead_to() -> None:
    """It follows no link by itself, and would find nothing wrong there."""
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]["include"]
    links = [path for path in (ROOT / "marl").iterdir() if path.is_symlink()]
    assert {f"marl/{path.name}" for path in links if path.name != "configs"} <= set(included)
