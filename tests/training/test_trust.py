"""What somebody else's files name is not imported. The module that they name here leaves a mark
when it is imported, and does nothing else."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marl.algorithms.scripted import FrozenConfig, ScriptedConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment
from marl.launch.progress import run_progress
from marl.training import agent_order, run_claim
from marl.training.run_directory import read_config
from marl.training.teams import Team
from marl.utils import trust
from marl.utils.serialization import Foreign, own_class, to_plain
from tests.helpers.experiments import WORDS, experiment
from tests.helpers.processes import cli

ROOT = Path(__file__).parents[2]
MODULE = """
from dataclasses import dataclass
from pathlib import Path
from marl.algorithms.mappo import MAPPOConfig
from tests.helpers.toy_envs import identity as task
Path(__file__).with_suffix(".imported").touch()
@dataclass
class Config(MAPPOConfig):
    pass
def still(group, seen):
    return seen.obs.new_zeros(len(seen.obs), group.size)
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A folder of somebody's modules; this process can import ``stranger``."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "stranger.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    yield folder
    sys.modules.pop("stranger", None)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "marl" / "key"


def changed(run: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The run with its configuration changed, as an editor would."""
    config = json.loads((run / "config.json").read_text())
    change(config)
    (run / "config.json").write_text(json.dumps(config))
    return run


def theirs(run: Path) -> Path:
    """The run as somebody else's: without a signature of this user's."""
    (run / trust.SIGNATURE).unlink(missing_ok=True)
    return run


def small(directory: Path) -> Path:
    """A run of our classes alone, with a checkpoint."""
    experiment(directory, "games/climbing", total_frames=40).run()
    return directory


TEAM = "team"
NAMES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "stranger:Config": lambda c: c["teams"][TEAM]["algorithm"].update(_type_="stranger:Config"),
    "stranger:task": lambda c: c["task"].update(name="stranger:task"),
    "stranger:still": lambda c: c["teams"][TEAM].update(
        algorithm=to_plain(ScriptedConfig("stranger:still"))
    ),
    "stranger:Anything": lambda c: c.update(more=[{"deep": {"_type_": "stranger:Anything"}}]),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_strangers_run_names_is_not_imported(
    stranger: Path, tmp_path: Path, name: str
) -> None:
    run = theirs(changed(small(tmp_path / "run"), NAMES[name]))
    sentence = rf"would import '{name}', and nothing shows that you made this run.*add --trust"
    with pytest.raises(UserError, match=sentence):
        read_config(run)
    with pytest.raises(UserError, match=sentence):
        Experiment.load(run, total_frames=80)
    for words in (["evaluate", "run"], ["resume", "run"]):
        result = cli(tmp_path, *words)
        assert result.code == 2 and f"would import {name!r}" in result.err, result
    assert "stranger" not in sys.modules
    assert not (stranger / "stranger.imported").exists()


def test_a_stage_of_a_curriculum_imports_nothing_either(stranger: Path, tmp_path: Path) -> None:
    stages = [{"until": 40}, {"task.name": "tests.helpers.toy_envs:identity"}]
    experiment(tmp_path / "run", curriculum=stages)
    theirs = changed(
        tmp_path / "run",
        lambda config: config["settings"]["curriculum"][1].update({"task.name": "stranger:task"}),
    )
    with pytest.raises(UserError, match=r"would import .*'stranger:task'"):
        read_config(theirs)
    assert not (stranger / "stranger.imported").exists()


def test_trust_imports_it(stranger: Path, tmp_path: Path, monkeypatch) -> None:
    run = theirs(changed(small(tmp_path / "run"), NAMES["stranger:Config"]))
    monkeypatch.setenv("PYTHONPATH", str(stranger))
    with trust.accept_all(False), pytest.raises(UserError, match="would import"):
        read_config(run)
    played = cli(stranger, "evaluate", str(run), "--episodes", "2", "--trust", "--json")
    assert played.code == 0 and json.loads(played.out)["frames"] == 40
    resumed = cli(stranger, "resume", str(run), "--trust", "total_frames=80")
    assert resumed.code == 0, resumed
    loaded = Experiment.load(run, trust=True, total_frames=120)
    loaded.run()
    assert type(loaded.specs[TEAM].algorithm).__module__ == "stranger"
    assert not (run / trust.SIGNATURE).exists()  # trusted once, not for ever


def test_a_run_of_ours_needs_no_trust(cache: Path, tmp_path: Path) -> None:
    run = theirs(small(tmp_path / "run"))
    Experiment.load(run, total_frames=80).run()
    assert not (run / trust.SIGNATURE).exists()


@pytest.mark.parametrize(
    "path",
    [
        "marl.__main__:main",  # which would run a command
        "marl.cli.compose:RunConfig",
        "marl.training.provenance:subprocess.Popen",
        "marl.training..settings:Settings",
        "marl.training.../../../theirs/stranger:Config",
        "marl.training/settings:Settings",
        "marl.utils.files:Lock",
        "os:system",
        "marl",
        ":",
        "",
    ],
)
def test_only_configurations_of_ours_are_looked_up(path: str) -> None:
    with pytest.raises(Foreign):
        own_class(path)


@pytest.mark.parametrize("name", ["partial", "__builtins__", "PACKAGES", "Any", "nobody"])
def test_what_our_modules_hold_besides_is_no_configuration(name: str) -> None:
    with pytest.raises(UserError, match="is not a dataclass"):
        own_class(f"marl.training.provenance:{name}")


def test_an_opponents_run_is_asked_for_as_well(stranger: Path, tmp_path: Path) -> None:
    """Who plays against a run of somebody else reads its configuration."""
    run = small(tmp_path / "run")
    theirs(changed(run, NAMES["stranger:Config"]))
    frozen = {TEAM: Team(algorithm=FrozenConfig(str(run)))}
    with pytest.raises(UserError, match="would import 'stranger:Config'"):
        experiment(tmp_path / "mine", "games/climbing", teams=frozen)
    words = ["task=games/climbing", *WORDS, f"teams.{TEAM}.frozen={run}", "total_frames=40"]
    result = cli(tmp_path, "train", "directory=mine2", *words)
    assert result.code == 2 and "would import 'stranger:Config'" in result.err
    assert not (stranger / "stranger.imported").exists()
    trained = cli(stranger, "train", "--trust", f"directory={tmp_path / 'mine3'}", *words)
    assert trained.code == 0, trained


# --------------------------------------------------------------------------------- this user's runs


def mine(directory: Path) -> Path:
    run_claim.create(directory, {"task": Task("stranger:task"), "settings": {}, "teams": {}})
    return directory


def test_a_run_is_its_makers_wherever_it_goes(stranger: Path, cache: Path, tmp_path: Path) -> None:
    run = mine(tmp_path / "run")
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600 and len(cache.read_bytes()) == 32
    assert read_config(run)["task"].name == "stranger:task"
    shutil.copytree(run, tmp_path / "copy")
    run.rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        read_config(tmp_path / name)
    read_config(changed(tmp_path / "moved", lambda c: None))  # the same, written otherwise
    with pytest.raises(UserError, match="would import 'stranger:other'"):
        read_config(changed(tmp_path / "copy", lambda c: c["task"].update(name="stranger:other")))


def test_a_signature_is_of_one_configuration(stranger: Path, cache: Path, tmp_path: Path) -> None:
    """A signature of mine in somebody else's run makes it not mine."""
    run = changed(mine(tmp_path / "run"), lambda c: c["task"].update(kwargs={"N": 3}))
    with pytest.raises(UserError, match="would import"):
        read_config(run)


def test_another_user_is_asked(stranger: Path, cache: Path, tmp_path: Path, monkeypatch) -> None:
    run = mine(tmp_path / "run")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    with pytest.raises(UserError, match="would import"):
        read_config(run)
    assert not (tmp_path / "other").exists()  # who only reads needs no key
    mine(tmp_path / "another")
    with pytest.raises(UserError, match="would import"):
        read_config(run)


def test_a_key_that_others_can_read_signs_nothing(
    stranger: Path, cache: Path, tmp_path: Path
) -> None:
    run = mine(tmp_path / "run")
    cache.chmod(0o644)
    with pytest.raises(UserError, match="would import"):
        read_config(run)
    assert not (mine(tmp_path / "other") / trust.SIGNATURE).exists()


def test_without_a_cache_runs_work_and_ask_for_trust(
    stranger: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    experiment(tmp_path / "run", "stranger:task").run()
    with pytest.raises(UserError, match=r"would import 'stranger:task'.*--trust"):
        Experiment.load(tmp_path / "run", total_frames=280)
    Experiment.load(tmp_path / "run", total_frames=280, trust=True).run()


def test_changed_settings_are_signed(cache: Path, stranger: Path, tmp_path: Path) -> None:
    """Also where the process dies between the signature and the configuration."""
    run = tmp_path / "run"
    experiment(run, "stranger:task").run()
    before = (run / "config.json").read_bytes()
    for frames in (280, 320):
        Experiment.load(run, total_frames=frames).run()
    read_config(run)
    run_claim.change_settings(run, {"total_frames": 280})
    (run / "config.json").write_bytes(before)
    run_claim.change_settings(theirs(run), {"total_frames": 400})
    assert not (run / trust.SIGNATURE).exists()


def test_killed_before_the_configuration(cache: Path, tmp_path: Path, monkeypatch) -> None:
    """The new signature is there and the old configuration: it is still this user's."""
    run = mine(tmp_path / "run")
    monkeypatch.setattr(run_claim.run_directory, "write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_claim.change_settings(run, {"total_frames": 400})
    assert trust.signed(run, json.loads((run / "config.json").read_text()))


def test_tests_have_a_key_of_their_own(tmp_path: Path) -> None:
    """Of this user's own key nothing is read or written, by no process."""
    code = "from marl.utils import trust; print(trust._key_file())"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert child.stdout.strip() == str(trust._key_file())
    assert not Path(child.stdout).is_relative_to(Path.home() / ".cache")


# --------------------------------------------------------------------------------- hostile nesting


def test_a_configuration_nested_without_end_is_refused(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    (run / "config.json").write_text('{"task":' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(UserError, match="is not a run's configuration"):
        read_config(run)
    assert agent_order.read(run) is None and run_progress(run).total == 0
    for text in ("[]", "3", '{"settings": [], "task": 1, "teams": {}}', '{"_type_": ["a"]}'):
        (run / "config.json").write_text(text)
        assert not agent_order.read(run) and run_progress(run).total == 0
        if text[:11] != '{"settings"':
            with pytest.raises(UserError, match="is not a run's configuration"):
                read_config(run)
