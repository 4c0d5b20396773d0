"""A default package may be missing: all else works, and one sentence says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import marl

ROOT = Path(__file__).parents[2]
BLOCKED = """
import sys
missing = sys.argv[1].split(",")
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from marl.cli.main import main
main(sys.argv[2:])
"""
SEVERAL = BLOCKED.replace(
    "main(sys.argv[2:])",
    """
for words in sys.argv[2:]:
    try:
        main(words.split())
    except SystemExit as end:
        print("code", end.code or 0, file=sys.stderr)
""",
)
SHORT = [
    "total_frames=20", "num_envs=2", "steps=10", "evaluation_episodes=1", "evaluation_interval=0",
    "video=false", "model.hidden=[8]", "directory=run",
]  # fmt: skip


def without(
    package: str, folder: Path, *words: str, program: str = BLOCKED
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, package, *words],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "HOME": str(folder)},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("package", "settings"),
    [
        pytest.param("vmas", ["task=vmas/balance"], marks=pytest.mark.slow),
        pytest.param("mpe2", ["task=mpe2/simple_spread_v3"], marks=pytest.mark.slow),
        pytest.param("pettingzoo", ["task=pettingzoo/classic/rps_v2"], marks=pytest.mark.slow),
        pytest.param("wandb", ["task=games/climbing", "wandb=true"], marks=pytest.mark.slow),
    ],
)
def test_what_needs_it_says_so(package: str, settings: list[str], tmp_path: Path) -> None:
    done = without(package, tmp_path, "train", *settings, *SHORT)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"pip install {package}" in line.replace("'", "")


def test_everything_else_works(tmp_path: Path) -> None:
    """One process, as each takes seconds to start."""
    packages = "vmas,mpe2,pettingzoo,wandb,torch_geometric"
    train = " ".join(["train", *SHORT])
    vmas = train.replace("directory=run", "directory=other") + " task=vmas/balance"
    commands = [train + " task=games/climbing", "list tasks", vmas]
    done = without(packages, tmp_path, *commands, program=SEVERAL)
    *others, line, end = done.stderr.splitlines()
    assert [word for word in others if word.startswith("code")] == ["code 0", "code 0"], done.stderr
    assert (tmp_path / "run/metrics.jsonl").exists() and "games/climbing" in done.stdout
    assert "pip install vmas" in line.replace("'", "") and end == "code 2"


@pytest.mark.slow
def test_a_package_of_the_users_own_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_package\n")
    done = without("nothing", tmp_path, "train", "task=mine:task", *SHORT)
    assert done.returncode != 0 and "no_such_package" in done.stderr


def test_the_version_names_what_a_report_needs() -> None:
    done = without("nothing", ROOT, "--version")
    assert done.returncode == 0
    assert (
        done.stdout.startswith(f"marl {marl.__version__} (Python 3.") and "torch 2" in done.stdout
    )
