"""Old names: of classes in stored configurations for ever, of imports for one release."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from marl.utils import moved
from marl.utils.serialization import from_plain

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("old", [*moved.MODULES, *sorted(moved.SAME_MODULES)])
def test_every_module_is_where_the_table_says(old: str) -> None:
    importlib.import_module(moved.MODULES.get(old, f"marl.{old}"))


@pytest.mark.parametrize("old", moved.SYMBOLS)
def test_every_name_is_where_the_table_says(old: str) -> None:
    module, _, name = moved.SYMBOLS[old].partition(":")
    assert hasattr(importlib.import_module(module), name)
    assert moved.current(moved.SYMBOLS[old]) == moved.SYMBOLS[old]  # nothing moves twice


def test_classes_of_older_configurations_are_found() -> None:
    """All paths that the records of the first release name."""
    for path in (
        "envs:Task", "marl.settings:Settings", "marl.selfplay:SelfPlayConfig", "marl.teams:Team",
        "marl.networks:Perceptron", "marl.graph_networks:InforMARL", "marl.dags:Joint",
        "algorithms.mappo:MAPPOConfig", "algorithms.scripted:RandomConfig",
        "algorithms.maddpg:HADDPGConfig",
    ):  # fmt: skip
        given = {"_type_": path}
        if path == "algorithms.scripted:FrozenConfig":
            given["checkpoint"] = "x"
        if path == "marl.teams:Team":
            given |= {"groups": None, "algorithm": None, "model": None, "critic_model": None}
        assert type(from_plain(given)).__name__ in moved.current(path)


def test_paths_of_today_and_of_others_stay() -> None:
    for path in (
        "marl.envs.task:Task",
        "my_tasks:duel",
        "environments:x",
        "algorithms.mappo:Config",
        "algorithms.mine:MAPPOConfig",
        "algorithms:MAPPOConfig",
        "envs.task:Task",
        "envs.games:Task",
        "tests.helpers.lazy_algorithm:Lazy",
    ):
        assert moved.current(path) == path


OLD = """
import warnings
warnings.simplefilter("error", FutureWarning)
import marl
for words in {imports!r}:
    try:
        exec(words)
    except FutureWarning as warning:
        print(warning)
"""


def python(code: str, folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_old_imports_work_for_one_release_with_a_warning(tmp_path: Path) -> None:
    imports = (
        "from envs import Task",
        "from algorithms.mappo import MAPPO",
        "from marl.losses import approximate_kl",
        "from marl.networks import Network",
        "from marl.algorithm import Setting",
    )
    for folder in (tmp_path, ROOT):  # beside our own folders of these names, too
        said = python(OLD.format(imports=imports), folder).splitlines()
        assert len(said) == len(imports), said
        assert said[0] == (
            "envs.Task is now marl.envs.task.Task; the old name is removed in the next release"
        )


def test_packages_of_users_that_have_our_old_names_are_theirs(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/__init__.py").write_text("mine = 1\n")
    (tmp_path / "algorithms.py").write_text("mine = 2\n")
    code = "import marl, envs, algorithms; print(envs.mine, algorithms.mine)"
    assert python(code, tmp_path).strip() == "1 2"


THEIRS = """
import json
import algorithms.mappo as theirs
from marl.utils.serialization import Foreign, any_class, from_plain, to_plain
for kind in (theirs.Config, theirs.MAPPOConfig):
    stored = json.loads(json.dumps(to_plain(kind(3))))
    try:
        from_plain(stored)
    except Foreign:
        read = from_plain(stored, any_class)
        print(stored["_type_"], read.mine, type(read).__doc__)
"""


def test_stored_classes_of_a_users_package_are_not_taken_for_ours(tmp_path: Path) -> None:
    """Not even one whose path was ours in the first release: it is stored by its file."""
    (tmp_path / "algorithms").mkdir()
    (tmp_path / "algorithms/__init__.py").touch()
    module = "from dataclasses import dataclass\n" + "".join(
        f"@dataclass\nclass {name}:\n    'theirs'\n    mine: int\n"
        for name in ("Config", "MAPPOConfig")
    )
    (tmp_path / "algorithms/mappo.py").write_text(module)
    assert python(THEIRS, tmp_path).splitlines() == [
        "algorithms.mappo:Config 3 theirs",
        f"{tmp_path}/algorithms/mappo.py:MAPPOConfig 3 theirs",
    ]


def test_only_modules_that_existed_are_imported_by_old_names() -> None:
    for name in ("envs.nothing", "algorithms.registry", "envs.task"):
        code = f"import marl\ntry:\n    import {name}\nexcept ModuleNotFoundError: print('none')"
        assert python(code, ROOT / "tests").strip() == "none"


def test_what_was_nowhere_is_nowhere() -> None:
    with pytest.raises(ImportError):
        exec("from marl.losses import nothing_of_that_name")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("marl.nothing")
