"""``marl compare``: groups, statistics as those of the tables, remarks, and a page of its own."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from marl.comparison import groups, history, results
from marl.comparison.discovery import runs_of
from marl.errors import UserError
from marl.tables import plots, statistics
from tests.helpers import toy_runs
from tests.helpers.cli import called
from tests.helpers.toy_records import RANDOM, rewrite

ENDS = {"mappo": [1.0, 2.0, 6.0, 3.0, 9.0], "ippo": [0.0, 0.5]}
FILM = b"not quite a film"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for algorithm, ends in ENDS.items():
        for seed, end in enumerate(ends):
            toy_runs.run(Path(f"runs/{algorithm}/{seed}"), algorithm, seed, {"team": end})
    return Path("runs")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are empty files, which take no time."""
    monkeypatch.setattr(plots, "draw", lambda name, csv, labels, path, dpi: path.touch())


def read(*places: str) -> tuple[list[groups.Group], list[str]]:
    made, remarks = groups.grouped([history.read(path) for path in runs_of(places)])
    return made, [*remarks, *groups.remarks_of(made)]


def test_curves_are_those_of_the_tables(runs: Path, capsys) -> None:
    """Interquartile means over the seeds at each evaluation, over frames and over seconds."""
    (runs / "mappo/0/video.mp4").write_bytes(FILM)
    code, out, err = called(capsys, "compare", "runs")
    assert code == 0 and not err
    lines = [" ".join(line.split()) for line in out.splitlines()]
    values = np.array(ENDS["mappo"])
    low, high = statistics.iqm_interval([values])
    assert f"mappo 5 3.667 [{low:.3f}, {high:.3f}] 1,000 16 s 80 -10.00" in lines
    assert any(line.startswith("ippo 2 (preliminary) 0.250 [0.000, 0.500]") for line in lines)
    first = next(line for line in lines if line.startswith(("mappo", "ippo")))
    assert first.startswith("mappo"), "the best first"

    rows = list(csv.DictReader(Path("compare/curves.csv").read_text().splitlines()))
    (half,) = (r for r in rows if r["algorithm"] == "mappo" and r["frames"] == "400")
    at_400 = RANDOM + 0.4 * (values - RANDOM)
    assert float(half["score"]) == pytest.approx(np.sort(at_400)[1:4].mean(), abs=1e-4)
    assert float(half["seconds"]) == 0.5 + 2 * toy_runs.SECONDS

    page = Path("compare/index.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("data:", "#")) for source in sources), "it needs no other file"
    assert sum(source.startswith("data:image/png") for source in sources) == 2
    assert sum(source.startswith("data:video/mp4") for source in sources) == 1
    assert "<h2>toys/walk</h2>" in page and "3.667" in page


def test_only_seeds_are_averaged(runs: Path) -> None:
    """Another setting, option of the task or version of learning is a curve of its own."""
    for name, more in {
        "gamma": {"options": {"gamma": 0.9}}, "size": {"kwargs": {"n": 4}},
        "old": {"learning": 1}, "short": {"settings": {"steps": 5}},
    }.items():  # fmt: skip
        toy_runs.run(Path(f"more/{name}"), "ippo", 5, **more)
    made, remarks = read("runs", "more")
    assert {(group.label, len(group.runs)) for group in made} == {
        ("mappo", 5),
        ("ippo gamma=0.99 learning=2 steps=10 n=default", 2),
        ("ippo gamma=0.9 learning=2 steps=10 n=default", 1),
        ("ippo gamma=0.99 learning=2 steps=10 n=4", 1),
        ("ippo gamma=0.99 learning=1 steps=10 n=default", 1),
        ("ippo gamma=0.99 learning=2 steps=5 n=default", 1),
    }
    (remark,) = remarks
    assert "several versions of learning (1, 2)" in remark


def test_settings_that_go_with_the_algorithm_are_in_a_remark(runs: Path) -> None:
    for seed in (0, 1):
        toy_runs.run(Path(f"wide/{seed}"), "happo", seed, settings={"num_envs": 20})
    made, remarks = read("runs", "wide")
    assert sorted(group.label for group in made) == ["happo", "ippo", "mappo"]
    words = "algorithms also differ in their settings: num_envs is 10 (ippo, mappo), 20 (happo)"
    assert remarks == [f"toys/walk: {words}"]


def test_remarks_on_what_is_averaged(runs: Path, undrawn: None, capsys) -> None:
    toy_runs.run(Path("runs/twice"), "ippo", 0, started="2025-01-01T00:00:00+0000")
    toy_runs.run(Path("runs/other"), "ippo", 2, commit="fedcba9876543210")
    toy_runs.run(Path("runs/half"), "ippo", 3, frames=(0, 200, 400), state="killed")
    toy_runs.run(Path("runs/early"), "mappo", 0, frames=(0, 200), why="return 9 reached")
    toy_runs.run(Path("runs/new"), "ippo", 4, frames=(), state="running")
    Path("runs/new/evaluations.jsonl").write_text("")
    code, out, err = called(capsys, "compare", "runs/ippo", "runs/[thone]*", "--out", "there")
    assert code == 0 and "ippo   4 (preliminary)" in out
    for words in (
        "runs/twice is left out: it has the settings and seed 0 of runs/ippo/0",
        "averages over runs of 2 commits of the code, 0123456789ab, fedcba987654",
        "runs/half was killed at 400 of 1,000 frames",
        "runs/early ended early at 200 of 1,000 frames (return 9 reached)",
        "its curve ends at frame 400, which all seeds have",
        "'runs/new' has no evaluation yet (killed)",
    ):
        assert words in err
    assert words.replace("'", "&#x27;") in Path("there/index.html").read_text().replace(
        "'", "&#x27;"
    )


def test_sampled_episodes_are_compared(runs: Path, undrawn: None, capsys) -> None:
    """Of runs that have them beside the greedy ones, and of those that have no others."""
    for path in (runs / "mappo").glob("*/evaluations.jsonl"):
        sampled = {"sampled": {"returns": {"team": [2.0, 4.0]}, "metrics": {}}}
        rewrite(path, lambda lines, more=sampled: [{**x, **more} for x in lines], resum=False)
    toy_runs.run(Path("alone"), "happo", 0, settings={"evaluation": "sampled"})
    code, out, err = called(capsys, "compare", "runs", "alone", "--sampled")
    assert code == 0 and "3.000 [3.000, 3.000]" in out and "happo" in out and "ippo " not in out
    assert "left out: 'runs/ippo/0' has no evaluations with sampled actions" in err
    _, _, err = called(capsys, "compare", "runs", "alone")
    assert "toys/walk, happo: these returns are of sampled actions" in err


def test_a_later_absolute_metric_makes_no_other_curve(runs: Path) -> None:
    """As ``marl resume RUN absolute_episodes=320`` adds one to some of the seeds."""
    toy_runs.run(Path("more"), "ippo", 5, settings={"absolute_episodes": 7})
    made, remarks = read("runs/ippo", "more")
    assert [len(group.runs) for group in made] == [3] and not remarks


def test_every_task_and_team_has_a_table(runs: Path, undrawn: None, capsys) -> None:
    for seed in (0, 1):
        ends = {"cat": 1.0 + seed, "mouse": -1.0}
        toy_runs.run(Path(f"runs/tag/{seed}"), "ippo", seed, ends, "tag")
    code, out, _ = called(capsys, "compare", "runs")
    titles = ["toys/tag, team cat", "toys/tag, team mouse", "toys/walk"]
    assert code == 0 and [line for line in out.splitlines() if line.startswith("toys/")] == titles
    made, _ = read("runs")
    panels = {(point.task, point.team) for point in results.points(made)}
    assert panels == {("toys/tag", "cat"), ("toys/tag", "mouse"), ("toys/walk", "team")}


def test_records_are_compared_without_clocks_of_each_evaluation(
    runs: Path, undrawn: None, capsys
) -> None:
    for path in runs.rglob("timing.jsonl"):
        path.unlink()
    code, out, err = called(capsys, "compare", "runs")
    assert code == 0 and not err and "seconds.png" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "run directory 'nowhere' does not exist"),
        (["runs/*none"], "'runs/*none' holds no run"),
        (["runs/ippo/0/config.json"], "is a file; expected a run directory"),
        (["runs", "--out", "runs/ippo/0"], "is a run directory; name another folder"),
    ],
)
def test_mistakes(runs: Path, capsys, words: list[str], message: str) -> None:
    code, _, err = called(capsys, "compare", *words)
    assert code == 2 and message in err and err.count("\n") == 1


def test_a_place_named_twice_counts_once(runs: Path) -> None:
    assert len(runs_of(["runs", "runs/ippo", "runs/ippo/0", str(runs.absolute())])) == 7
    with pytest.raises(UserError, match="holds no run"):
        (runs / "empty").mkdir()
        runs_of(["runs", "runs/empty"])
