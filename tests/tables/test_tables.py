"""``marl tables``: what is written, and that ``--check`` sees where it is no more what it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from marl.benchmark import records
from marl.benchmark.records import Cell
from marl.cli.main import main
from marl.tables import plots, publish, text
from marl.tables.readme import BEGIN, END, marks
from marl.tables.scores import Score
from tests.helpers import toy_records
from tests.helpers.cli import called
from tests.helpers.toy_records import record

SKILL = {"mappo": 10.0, "ippo": 0.0}
TASKS = "walk run"


def level(cell: Cell, team: str) -> float:
    """Seeds 0 to 4 of MAPPO end at 10 to 14 on either task, of IPPO at 0 to 4."""
    return SKILL[cell.algorithm] + cell.seed


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of two algorithms on two tasks, with its tables; and an older folder of no suite."""
    folder = tmp_path_factory.mktemp("original") / "results"
    toy_records.suite(folder / "toy", toy_records.grid(TASKS, "mappo ippo", 5), level)
    (folder / "older" / "run-0").mkdir(parents=True)
    (folder / "older" / "run-0" / "config.json").write_text("{}")
    (folder.parent / "README.md").write_text(f"# Mine\n\n{BEGIN}\nold\n{END}\n\nThe end.\n")
    with pytest.raises(SystemExit) as end:
        main(["tables", "--results", str(folder)])
    assert end.value.code == 0
    return folder


@pytest.fixture
def results(original: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    shutil.copytree(original.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "results"


def tables(capsys, results: Path, *words: str) -> tuple[int, str, str]:
    return called(capsys, "tables", "--results", str(results), *words)


def rows(results: Path, file: str, **chosen: str) -> list[dict[str, str]]:
    there = text.rows((results / "toy" / file).read_text())
    return [row for row in there if all(row[key] == value for key, value in chosen.items())]


def test_known_numbers(results: Path) -> None:
    """Against what the records were made with: the absolute metric is one better than the final
    policy, sampled play one worse; random play is -10."""
    (row,) = rows(results, "final.csv", task="walk", algorithm="mappo", seed="2", metric="return")
    wanted = {"final": "12", "absolute": "13", "sampled": "11", "random": "-10", "frames": "1000"}
    wanted |= {"best_frames": "800", "wall_clock": "10", "frames_per_second": "100"}
    assert wanted.items() <= row.items()
    (row,) = rows(results, "summary.csv", task="walk", algorithm="mappo", metric="return")
    assert (row["seeds"], row["final_mean"], row["final"], row["absolute"]) == (
        "5",
        "12",
        "12",
        "13",
    )
    assert 11 <= float(row["absolute_low"]) < 13 < float(row["absolute_high"]) <= 15
    (row,) = rows(results, "summary.csv", task="walk", algorithm="mappo", metric="success")
    assert (row["final"], row["absolute"], row["sampled"]) == ("0.12", "0.13", "")
    (row,) = rows(results, "summary.csv", task="all", algorithm="ippo")
    assert row["absolute"] == "0.52"  # (3 + 10) / (15 + 10): the best run's is 15
    assert (row["tasks"], row["runs"], row["seeds"]) == ("2", "10", "5")
    (row,) = rows(results, "improvement.csv", x="mappo")
    assert (row["probability"], row["probability_low"], row["tasks"]) == ("1", "1", "2")
    (row,) = rows(results, "profiles.csv", algorithm="mappo", tau="0.9")
    assert row["fraction"] == "0.6"  # 11 to 15 are 0.84 to 1: three of five are above
    (row,) = rows(results, "curves.csv", task="run", algorithm="ippo", frames="400")
    assert row["score"] == "-5.2"  # -10 + 0.4 * 12
    assert (row["random"], row["seeds"]) == ("-10", "5")


def test_what_is_written(results: Path) -> None:
    files = {path.name for path in (results / "toy").iterdir() if path.is_file()}
    assert files == set(publish.WRITTEN)
    told = (results / "toy" / "tables.md").read_text()
    assert "| mappo | 5 | 12.00 | 12.00 [10.33, 13.67] | **13.00 [11.33, 14.67]** |" in told
    assert "Left out" not in told and "preliminary)" not in told
    assert [path.name for path in (results / "older").iterdir()] == ["run-0"]
    readme = (results.parent / "README.md").read_text()
    assert readme.startswith("# Mine\n\n") and readme.endswith("\n\nThe end.\n")
    assert "**13.00 [11.33, 14.67]**<br>12.00 |" in readme and "\nold\n" not in readme


def test_check_passes_on_what_was_written(capsys, results: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    assert tables(capsys, results, "--check") == (0, "", "")
    code, out, err = tables(capsys, results, "toy")  # writes nothing that is as it should be
    assert (code, err) == (0, "") and "toy: 20 runs, 0 left out, 0 missing" in out
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == times


def test_versions_of_learning_are_never_mixed_in_a_number(capsys, results: Path) -> None:
    """Three of MAPPO's five seeds on one task are made anew: they alone count there; what spans
    tasks has its new version alone, and no version is compared with another."""
    before = rows(results, "summary.csv", algorithm="ippo", task="walk")
    for seed in range(3):
        record(results / "toy", Cell("walk", "mappo", seed), {"team": 20.0 + seed}, learning=2)
    assert tables(capsys, results, "--check")[0] == 1
    code, out, err = tables(capsys, results)
    assert (code, err) == (0, "")
    assert "toy: 18 runs, 0 left out, 0 missing; learning 1 and 2" in out
    assert "older    2 records are left out, because the same task" in out
    assert tables(capsys, results, "--check") == (0, "", "")

    found = {
        (row["task"], row["algorithm"]): (row["learning"], row["seeds"], row["absolute"])
        for row in rows(results, "summary.csv", metric="return")
    }
    assert found == {
        ("walk", "mappo"): ("2", "3", "22"), ("walk", "ippo"): ("1", "5", "3"),
        ("run", "mappo"): ("1", "5", "13"), ("run", "ippo"): ("1", "5", "3"),
    }  # fmt: skip
    assert rows(results, "summary.csv", algorithm="ippo", task="walk") == before
    (row,) = rows(results, "summary.csv", task="all", algorithm="mappo")
    assert (row["tasks"], row["runs"], row["learning"]) == ("1", "3", "2")
    assert float(row["absolute"]) == pytest.approx((22 + 10) / (23 + 10), abs=1e-4)
    assert rows(results, "improvement.csv") == []
    assert {row["runs"] for row in rows(results, "profiles.csv", algorithm="mappo")} == {"3"}
    seeds = {(r["task"], r["algorithm"]): r["seeds"] for r in rows(results, "curves.csv")}
    assert seeds["walk", "mappo"] == "3" and seeds["run", "mappo"] == "5"
    assert list(json.loads((results / "toy/marl_eval.json").read_text())["toy"]) == ["walk"]


def test_versions_of_learning_are_told(capsys, results: Path) -> None:
    assert "algorithms. Learning version 1." in (results / "toy/tables.md").read_text()
    assert "Learning version 1.\n" in (results.parent / "README.md").read_text()
    for seed in range(5):
        record(results / "toy", Cell("walk", "mappo", seed), {"team": 1.0}, learning=2)
    tables(capsys, results)
    told = (results / "toy" / "tables.md").read_text()
    assert "Learning versions 1 (15 runs) and 2 (5 runs): every number is of one" in told
    assert "left out" not in told
    assert (
        "| return | learning | seeds |" in told and "| absolute; final, mean | learning |" in told
    )
    assert "| mappo | 2 | 5 | 1.000 | 1.000 [1.000, 1.000] | **2.000 [2.000, 2.000]** |" in told
    assert "| ippo | 1 | 5 | 2.000 | 2.000 [0.333, 3.667] | **3.000 [1.333, 4.667]** |" in told
    assert "| *random play* | 2 |  | -10.00 |" in told and "| *random play* | 1 |" in told
    assert "| mappo | 2 | 1 † | 5 |" in told and "| ippo | 1 | 2 | 10 |" in told
    assert "- mappo on run is of learning version 1, older than on other tasks" in told
    assert "- `marl_eval.json` leaves out learning version: 1" in told
    readme = (results.parent / "README.md").read_text()
    assert "**2.000 [2.000, 2.000]**<br>1.000, learning 2 | " in readme
    assert "<br>12.00, learning 1 | " in readme and "Learning versions 1 (15 runs) and" in readme
    assert "<th class=n>learning</th>" in (results / "index.html").read_text()
    record(results / "toy", Cell("walk", "ippo", 0), {"team": 1.0}, learning=2)
    tables(capsys, results)
    told = (results / "toy" / "tables.md").read_text()
    assert "4 records of an older version of learning left out: see the end." in told
    assert "- walk ippo, seeds 1, 2, 3, 4: learning version 1, beside version 2" in told
    assert "4 of its runs are left out or" in (results.parent / "README.md").read_text()


def test_pictures_tell_versions_of_learning() -> None:
    import matplotlib.pyplot as plt

    def labels(*versions: str) -> list[str]:
        lines = [
            {"task": "toy", "team": "team", "algorithm": f"a{v}", "frames": frames, "score": "1",
             "score_low": "0", "score_high": "2", "random": "0", "learning": v}
            for v in versions
            for frames in ("0", "10")
        ]  # fmt: skip
        figure = plots.curves(lines, {"a1": "red", "a2": "blue"})
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        plt.close(figure)
        return names

    assert labels("1", "2") == ["a1 (learning 1)", "a2 (learning 2)", "random play"]
    assert labels("2") == ["a2", "random play"]


def alter(path: Path) -> None:
    path.write_text(path.read_text().replace("13", "14", 1))


def other_data(path: Path) -> None:
    plots.draw("scores", (path.parent / "summary.csv").read_text() + "\n", ["mappo", "ippo"], path)


def bare(path: Path) -> None:
    Image.new("RGB", (4, 4)).save(path)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("toy/tables.md", alter, "line"),
        ("toy/final.csv", alter, "line 16: "),
        ("toy/curves.csv", Path.unlink, "is missing"),
        ("toy/marl_eval.json", alter, "line"),
        ("toy/scores.png", Path.unlink, "is missing"),
        ("toy/scores.png", bare, "has no checksum"),
        ("toy/scores.png", other_data, "was drawn from other data than that of summary.csv"),
        ("index.html", alter, "line"),
        ("../README.md", alter, "line"),
    ],
)
def test_check_names_what_differs(capsys, results: Path, file: str, change, said: str) -> None:
    change(results / file)
    code, _, err = tables(capsys, results, "--check")
    assert code == 1 and said in err.splitlines()[0], err
    assert Path(file).name in err.splitlines()[0]
    assert err.splitlines()[1:] == ["marl: run 'marl tables' and commit what it writes"]
    tables(capsys, results)
    assert tables(capsys, results, "--check")[0] == 0


def test_check_sees_a_new_record_and_what_nothing_is_left_of(capsys, results: Path) -> None:
    toy_records.record(results / "toy", Cell("walk", "mappo", 5), {"team": 9.0})
    assert tables(capsys, results, "--check")[0] == 1
    for cell, path in list(records.find(results / "toy")):
        if cell.algorithm == "ippo" or cell.seed == 5:
            (path / records.SUMS).unlink()
    code, _, err = tables(capsys, results, "--check")
    assert code == 1 and "improvement.png exists, but there is nothing to show in it" in err
    assert tables(capsys, results)[0] == 0 and not (results / "toy/improvement.png").exists()
    assert tables(capsys, results, "--check")[0] == 0


def test_a_suite_of_bad_records_only(capsys, results: Path) -> None:
    for _, path in list(records.find(results / "toy")):
        (path / records.SUMS).unlink()
    code, _, err = tables(capsys, results)
    assert code == 0 and err.count("was never finished") == 20
    assert tables(capsys, results, "--check")[0] == 0


def test_the_order_of_files_does_not_matter(results: Path, monkeypatch) -> None:
    before = publish.publish(results / "toy", None).texts
    there = list(records.find(results / "toy"))
    monkeypatch.setattr(records, "find", lambda suite: iter(there[::-1]))
    after = publish.publish(results / "toy", None).texts
    assert after == before


def test_without_suites(capsys, tmp_path: Path) -> None:
    results = tmp_path / "results"
    (results / "speed").mkdir(parents=True)
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    assert tables(capsys, results, "--check")[0] == 1
    assert tables(capsys, results) == (0, "there are no records yet\n", "")
    assert "No suite has records in `results/` yet." in (tmp_path / "README.md").read_text()
    assert tables(capsys, results, "--check") == (0, "", "")
    assert not (results / "index.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["toi"], "unknown suite 'toi' in "),
        (["--results", "nowhere"], "results folder 'nowhere' does not exist"),
    ],
)
def test_mistakes_are_one_sentence(capsys, results: Path, words: list[str], said: str) -> None:
    code, _, err = tables(capsys, results, *words)
    assert code == 2 and said in err and err.count("\n") == 1


def test_few_seeds_say_so(capsys, tmp_path: Path) -> None:
    results = tmp_path / "results"
    cells = [Cell("walk", "mappo", seed) for seed in range(4)]
    cells += [Cell("walk", "ippo", seed) for seed in range(2)]
    toy_records.suite(results / "toy", cells, level)
    code, out, _ = tables(capsys, results)
    assert code == 0 and "6 runs, 0 left out, 2 missing" in out
    told = (results / "toy" / "tables.md").read_text()
    assert "| mappo | 4 (preliminary) |" in told and "| ippo | 2 (preliminary) |" in told
    assert "- missing: walk ippo, seeds 2, 3" in told


def test_left_out_records_are_named_and_do_not_count(capsys, results: Path) -> None:
    path = results / "toy" / "walk" / "mappo" / "seed_4" / "absolute.json"
    path.write_text(path.read_text().replace("15.0", "150.0"))
    _, _, err = tables(capsys, results)
    assert "left out walk mappo seed 4: absolute.json is not what the run wrote" in err
    for page in ("toy/tables.md", "index.html"):
        assert (
            "walk mappo seed 4: absolute.json is not what the run" in (results / page).read_text()
        )
    (row,) = rows(results, "summary.csv", task="walk", algorithm="mappo", metric="return")
    assert (row["seeds"], row["absolute"]) == ("4", "12.5")


def test_teams_are_never_averaged_together(capsys, tmp_path: Path) -> None:
    results = tmp_path / "results"
    toy_records.suite(
        results / "toy", toy_records.grid("tag", "mappo ippo", 3),
        lambda cell, team: level(cell, team) * (-0.5 if team == "prey" else 1),
        teams=("hunters", "prey"),
    )  # fmt: skip
    assert tables(capsys, results)[0] == 0
    found = {
        (row["team"], row["algorithm"]): row["absolute"]
        for row in rows(results, "summary.csv", task="tag", metric="return")
    }
    assert found == {
        ("hunters", "mappo"): "12", ("hunters", "ippo"): "2", ("prey", "mappo"): "-4.5",
        ("prey", "ippo"): "0.5",
    }  # fmt: skip
    (row,) = rows(results, "improvement.csv", team="prey", x="mappo")
    assert row["probability"] == "0"
    (row,) = rows(results, "improvement.csv", team="hunters", x="mappo")
    assert row["probability"] == "1"
    exported = json.loads((results / "toy" / "marl_eval.json").read_text())
    assert list(exported) == ["toy_hunters", "toy_prey"]
    told = (results / "toy" / "tables.md").read_text()
    assert "### Team hunters" in told and "never averaged" in told


def test_a_task_no_better_than_random_play_is_not_normalised(capsys, tmp_path: Path) -> None:
    results = tmp_path / "results"
    toy_records.suite(
        results / "toy", toy_records.grid("flat", "mappo ippo", 3), lambda c, t: -11.0
    )
    toy_records.suite(results / "toy", toy_records.grid("walk", "mappo ippo", 3), level)
    assert tables(capsys, results)[0] == 0
    assert (
        "flat, team team: no run is better than random" in (results / "toy/tables.md").read_text()
    )
    assert rows(results, "summary.csv", task="all", algorithm="mappo")[0]["tasks"] == "1"


def test_graphs_of_joint_policies(capsys, tmp_path: Path) -> None:
    results = tmp_path / "results"
    toy_records.suite(results / "toy", toy_records.grid("walk", "mappo", 3), level, joint=True)
    toy_records.suite(results / "toy", toy_records.grid("walk", "ippo", 3), level)
    assert tables(capsys, results)[0] == 0
    (row,) = rows(results, "summary.csv", metric="cut")
    assert (row["algorithm"], row["absolute"], row["final"]) == ("mappo", "9", "")
    (row,) = rows(results, "summary.csv", metric="density")
    assert row["absolute"] == "0.5"
    assert "cut" not in json.loads((results / "toy/marl_eval.json").read_text())["toy"]


def test_the_export_has_what_marl_eval_asks_for(results: Path) -> None:
    published = publish.publish(results / "toy", None)
    exported = json.loads(published.texts["marl_eval.json"])
    assert list(exported) == ["toy"] and list(exported["toy"]) == ["run", "walk"]
    run = exported["toy"]["walk"]["mappo"]["seed_3"]
    assert list(run) == [*(f"step_{k}" for k in range(6)), "absolute_metrics"]
    assert run["step_2"] == {
        "step_count": 400, "elapsed_time": 4.0, "return": [-0.8] * 4, "success": [-0.008] * 4,
    }  # fmt: skip
    wanted = {"return": [14.0] * 8, "success": [0.14] * 8, "elapsed_time": [10.0]}
    assert run["absolute_metrics"] == wanted


def test_the_export_leaves_out_what_others_lack(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    cells = [c for c in toy_records.grid(TASKS, "mappo ippo", 3) if str(c) != "run mappo seed 1"]
    toy_records.suite(folder, [*cells, Cell("walk", "happo", 0)], lambda cell, team: 1.0)
    published = publish.publish(folder, None)
    exported = json.loads(published.texts["marl_eval.json"])["toy"]
    found = [(task, a, *runs) for task, each in exported.items() for a, runs in each.items()]
    assert found == [
        (task, a, "seed_0", "seed_2") for task in ("run", "walk") for a in ("ippo", "mappo")
    ]
    told = published.texts["tables.md"]
    assert "leaves out algorithms that lack a task: happo" in told
    assert "leaves out seeds that some algorithm lacks: 1" in told


def test_pictures_carry_their_data(results: Path) -> None:
    for picture, csv in publish.PLOT_DATA.items():
        told = plots.embedded_checksum(results / "toy" / picture)
        assert told == plots.checksum((results / "toy" / csv).read_text())
        pixels = np.asarray(Image.open(results / "toy" / picture).convert("L"))
        assert pixels.std() > 5, f"{picture} is blank"


def test_the_page_holds_everything(capsys, results: Path) -> None:
    seed = results / "toy" / "walk" / "mappo" / "seed_0"
    (seed / "video.mp4").write_bytes(b"film")
    toy_records.resumed(seed)
    tables(capsys, results)
    page = (results / "index.html").read_text()
    assert '<video src="toy/walk/mappo/seed_0/video.mp4"' in page
    for name in publish.WRITTEN:
        assert f'="toy/{name}"' in page
    assert "http" not in page  # nothing from elsewhere
    assert "<strong>13.00 [11.33, 14.67]</strong>" in page


@pytest.mark.parametrize(
    ("value", "csv", "shown"),
    [
        (float("nan"), "", ""), (0.0, "0", "0.000"), (-0.0, "0", "0.000"),
        (-1e-9, "-1e-09", "0.000"), (2.46875, "2.4688", "2.469"), (12.345, "12.345", "12.35"),
        (2.46875 - 1e-15, "2.4688", "2.469"), (123456.7, "1.2346e+05", "123,457"),
        (-0.0512, "-0.0512", "-0.051"), (-123.45, "-123.45", "-123.5"),
    ],
)  # fmt: skip
def test_numbers_are_rounded_alike_everywhere(value: float, csv: str, shown: str) -> None:
    assert (text.digits(value), text.number(value)) == (csv, shown)


def test_one_run_has_no_interval() -> None:
    assert text.interval(Score(1.0, 1.0, 1.0), 1) == "1.000"
    assert text.interval(Score(1.0, 0.5, 2.0), 2) == "1.000 [0.500, 2.000]"


def test_the_readme_shows_one_suite_if_it_is_told(capsys, results: Path) -> None:
    toy_records.suite(results / "other", toy_records.grid("walk", "mappo", 3), lambda *_: 1.0)
    assert tables(capsys, results)[0] == 0
    readme = results.parent / "README.md"
    assert "### [toy]" in readme.read_text() and "### [other]" in readme.read_text()
    assert tables(capsys, results, "--readme", "other")[0] == 0
    assert "### [toy]" not in readme.read_text() and "### [other]" in readme.read_text()
    assert tables(capsys, results, "--check") == (0, "", "")
    code, _, err = tables(capsys, results, "--readme", "othr")
    assert code == 2 and "did you mean 'other'?" in err
    readme.write_text("# Mine\n")
    code, _, err = tables(capsys, results, "--readme", "other")
    assert code == 2 and "has no place for a table" in err


def test_the_readme_has_its_marks() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    found = marks(readme)
    assert found is not None and found.suite == "mpe"


@pytest.mark.parametrize(("begin", "bottom"), [(-500.0, 0.6), (-5.0, -5.45)])
def test_a_beginning_far_below_does_not_flatten_the_rest(begin: float, bottom: float) -> None:
    """Returns of 1 to 5 after one of -500; but one of -5 is shown."""
    import matplotlib.pyplot as plt

    lines = [(0, begin), (2000, 1.0), (6000, 3.0), (10_000, 5.0)]
    points = [
        {"task": "toy", "team": "team", "algorithm": "mappo", "frames": str(frames),
         "score": str(score), "score_low": str(score), "score_high": str(score), "random": "-4",
         "learning": "1"}
        for frames, score in lines
    ]  # fmt: skip
    figure = plots.curves(points, {"mappo": "red"})
    (axes,) = figure.axes
    told = [text.get_text() for text in axes.texts]
    plt.close(figure)
    assert axes.get_ylim()[0] == pytest.approx(bottom, abs=0.06)
    assert told == (["begins lower; random play -4"] if begin < -5 else [])


def test_what_all_runs_set_of_their_task_is_told(capsys, tmp_path: Path) -> None:
    results = tmp_path / "results"
    cells = toy_records.grid("walk", "mappo ippo", 3)
    toy_records.suite(results / "toy", cells, level)
    for cell in cells:

        def change(config: dict[str, Any], seen: str = cell.algorithm) -> dict[str, Any]:
            task = {**config["task"], "max_steps": 200, "kwargs": {"mass": 1.5, "seen": seen}}
            return {**config, "task": task}

        toy_records.rewrite(results / "toy" / cell.folder / "config.json", change)
    assert tables(capsys, results)[0] == 0
    told = (results / "toy/tables.md").read_text()
    assert "`toys/walk mass=1.5 max_steps=200`: " in told
