"""The documentation's pages of algorithms and environments say what the code says."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marl.algorithms.registry import ALGORITHMS
from marl.cli import arguments, compose
from marl.cli.main import SEPARATE
from marl.envs.foraging import tasks as foraging
from marl.envs.games.tasks import GAMES
from marl.envs.gymnasium import registry
from marl.envs.particle.tasks import SCENARIOS
from marl.envs.pettingzoo import factories
from marl.envs.providers import PROVIDERS
from marl.envs.vmas.build import SCENARIOS as VMAS
from marl.errors import UserError
from marl.policies.dag import BayesianNetworkConfig
from marl.utils.capabilities import needs_replay

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(
    [*(DOCS / "algorithms").glob("*.md"), DOCS / "environments.md", DOCS / "coming_from.md"]
)
FIXED = ("random", "scripted", "frozen")  # algorithms that never learn
NATIVE = {
    **SCENARIOS,
    **{f"games/{name}": game for name, game in GAMES.items()},
    **dict.fromkeys(foraging.names(), foraging.Options),
}


def cells_of(page: str, first: str) -> list[str]:
    """The cells of the table's row whose first cell is ``first``, the one with most of them."""
    lines = (DOCS / page).read_text().splitlines()
    rows = [line.strip().strip("|").split(" | ") for line in lines if line.startswith("|")]
    found = [row for row in rows if first in re.findall(r"`([^`]*)`", row[0])]
    assert found, f"{page} has no row of {first}"
    return [cell.strip() for cell in max(found, key=len)]


# ------------------------------------------------------------------------------------- algorithms


def accepts(config: Any, joint: BayesianNetworkConfig) -> bool:
    try:
        replace(config, joint=joint)
    except (UserError, TypeError):  # refused, or without joint policies
        return False
    return True


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in FIXED])
def test_every_algorithm_has_its_row(name: str) -> None:
    row, config = cells_of("algorithms/index.md", name), ALGORITHMS[name]()
    off_policy = needs_replay(config)
    joint = accepts(config, BayesianNetworkConfig("full"))
    anneals = accepts(config, BayesianNetworkConfig("learned", anneal=True))
    assert row[2] == ("off-policy" if off_policy else "on-policy")
    assert row[4] == "yes"
    assert row[6] == ("yes, with annealing" if anneals else "yes" if joint else "no")
    critic = getattr(config, "critic", None)
    assert row[7] == (f"`{critic}`" if critic else "–")


@pytest.mark.parametrize("name", FIXED)
def test_algorithms_that_never_learn_have_theirs(name: str) -> None:
    assert cells_of("algorithms/index.md", name)[2] == "never"


def test_every_page_of_an_algorithm_is_in_the_table_of_contents() -> None:
    index = (DOCS / "algorithms" / "index.md").read_text()
    listed = re.findall(r"^(\w+)$", index.split("{toctree}")[1], re.MULTILINE)
    pages = {path.stem for path in (DOCS / "algorithms").glob("*.md")} - {"index"}
    assert sorted(listed) == sorted(pages)


# ----------------------------------------------------------------------------------- environments


def written(value: Any) -> str:
    """A default as the command line takes it."""
    if isinstance(value, tuple):
        return f"[{','.join(map(written, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


@pytest.mark.parametrize("name", NATIVE)
def test_native_tasks_have_their_options(name: str) -> None:
    parameters = inspect.signature(NATIVE[name]).parameters.values()
    plain = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    row = cells_of("environments.md", name)
    if row[-1] == "the same":
        row = cells_of("environments.md", "navigation/target")
    assert re.findall(r"`([^`]*)`", row[-1]) == [f"{p.name}={written(p.default)}" for p in plain]


def test_names_of_other_packages_are_all_there() -> None:
    text = (DOCS / "environments.md").read_text()
    names = (*VMAS, *factories.MPE2, *factories.REGISTRY, *factories.TURN_BASED)
    missing = [name for name in (*names, *registry.NAMES) if f"`{name}`" not in text]
    assert not missing


@pytest.mark.parametrize("prefix", PROVIDERS)
def test_options_that_providers_read(prefix: str) -> None:
    lines = (DOCS / "environments.md").read_text().split("| reads, besides")[1].splitlines()
    (line,) = [line for line in lines if line.startswith(f"| `{prefix}/…` |")]
    assert set(re.findall(r"`(\w+)`", line)) == PROVIDERS[prefix].reads


# --------------------------------------------------------------------------------------- commands


def commands(page: Path) -> list[list[str]]:
    """The words of every ``marl …`` line in a page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("marl ")]


def check(words: Sequence[str]) -> None:
    """Parses a command as ``marl`` does; settings of a run are composed."""
    if words[0] == "train":
        compose.composed(words[1:])
        return
    settings = [w for w in words if words[0] in SEPARATE and re.match(r"[\w.]+=", w)]
    arguments.parser().parse_args([word for word in words if word not in settings])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_parse(page: Path) -> None:
    for words in commands(page):
        check(words)


def test_every_page_of_an_algorithm_has_a_command() -> None:
    bare = [page.name for page in PAGES if not commands(page)]
    assert bare == ["index.md"]


# ------------------------------------------------------------------------------------- directives

HEAD = "task,team,metric,algorithm,seeds,absolute,absolute_low,absolute_high,random,learning\n"
ROWS = (
    "spread,team,return,mappo,5,-11.3,-11.8,-10.5,-25.3,2\n"
    "spread,team,collisions,mappo,5,2,1,3,1,2\n"
    "tag,prey,return,ippo,3,1,0,2,-1,1\n"
    "all,team,normalised,mappo,5,0.9,0.8,1,0,2\n"
)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The directive's module, with a suite ``mpe`` and an empty one."""
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(DOCS / "_ext")
    import results as module

    for suite, rows in {"mpe": ROWS, "none": ""}.items():
        (tmp_path / "results" / suite).mkdir(parents=True)
        (tmp_path / "results" / suite / "summary.csv").write_text(HEAD + rows)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    yield module
    sys.modules.pop("results")


def test_results_are_the_returns_of_an_algorithm(results: Any) -> None:
    mappo = ["mpe", "spread", "mappo", "-11.3 [-11.8, -10.5]", "-25.3", "5", "2"]
    ippo = ["mpe", "tag, prey", "ippo", "1 [0, 2]", "-1", "3", "1"]
    assert list(results.rows(results.RESULTS, ["mappo"], [])) == [mappo]
    assert list(results.rows(results.RESULTS, ["ippo", "mappo"], ["mpe"])) == [mappo, ippo]
    assert list(results.rows(results.RESULTS, ["mappo"], ["none"])) == []
    line = "| mpe | spread | mappo | -11.3 [-11.8, -10.5] | -25.3 | 5 | 2 |"
    assert line in results.markdown([mappo]).splitlines()


CONFIG = """
import sys
sys.path.insert(0, {folder!r})
extensions = ["myst_parser", "options", "results"]
"""
PAGE = """# Page

```{results} mappo
```

```{results} qmix
```

```{options} marl.algorithms.mappo:IPPOConfig
:prefix: algorithm.
:base: marl.algorithms.mappo:MAPPOConfig
```
"""


def test_directives_make_tables(results: Any, tmp_path: Path) -> None:
    from sphinx.application import Sphinx

    source, built = tmp_path / "source", tmp_path / "built"
    source.mkdir()
    (source / "conf.py").write_text(CONFIG.format(folder=str(DOCS / "_ext")))
    (source / "index.md").write_text(PAGE)
    app = Sphinx(source, source, built, built / "trees", "text", status=None, warningiserror=True)
    app.build()
    text = (built / "index.txt").read_text()
    assert "spread" in text and "-11.3" in text and "tag" not in text
    assert "results/mpe/tables.md" in text and "none/tables.md" not in text
    assert "No suite under" in text
    assert "algorithm.critic=agent" in text and "algorithm.reward=own" in text
    assert "algorithm.gamma" not in text
