"""Sweep files: what is read, what is refused, the points and the commands they become."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps import utils as theirs

from marl.errors import UserError
from marl.launch import sweep
from marl.launch.hyperband import Hyperband
from marl.launch.search_space import parameter
from marl.launch.sweep import Sweep

GOOD: dict[str, Any] = {
    "method": "random",
    "metric": {"name": "evaluation/return/team", "goal": "maximize"},
    "parameters": {"seed": {"values": [1, 2]}, "task": {"value": "games/climbing"}},
    "command": ["${env}", "marl", "train", "${args_no_hyphens}"],
    "run_cap": 2,
}


def load(folder: Path, **changes: Any) -> Sweep:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return sweep.load(path)


def drawn(given: dict[str, Any], count: int = 2000) -> list[Any]:
    source = Random(0)
    one = parameter("x", given)
    return [one.sample(source) for _ in range(count)]


# --------------------------------------------------------------------------------- distributions


def test_values_and_weights() -> None:
    assert {*drawn({"values": [1, "a", False]}, 100)} == {1, "a", False}
    assert drawn({"value": [64, 64]}, 1) == [[64, 64]]
    weighted = drawn({"values": ["a", "b"], "probabilities": [0.9, 0.1]})
    assert weighted.count("a") / 2000 == pytest.approx(0.9, abs=0.03)


def test_whole_numbers_include_both_ends() -> None:
    found = drawn({"min": 3, "max": 6}, 200)
    assert {*found} == {3, 4, 5, 6} and all(isinstance(x, int) for x in found)


def test_uniform_is_even_and_logarithmic_even_in_the_logarithm() -> None:
    even = drawn({"min": 1.0, "max": 3.0})
    assert min(even) >= 1 and max(even) <= 3 and statistics.mean(even) == pytest.approx(2, abs=0.05)
    log = drawn({"distribution": "log_uniform_values", "min": 0.0001, "max": 0.01})
    assert min(log) >= 1e-4 and max(log) <= 1e-2
    assert statistics.median(log) == pytest.approx(1e-3, rel=0.15)


def test_steps_and_bells() -> None:
    steps = drawn({"distribution": "q_uniform", "min": 10, "max": 30, "q": 10})
    assert {*steps} == {10, 20, 30} and all(isinstance(x, int) for x in steps)
    tenths = drawn({"distribution": "q_uniform", "min": 0.0, "max": 0.3, "q": 0.1})
    assert {*tenths} == {0.0, 0.1, 0.2, 0.3}
    powers = drawn({"distribution": "q_log_uniform_values", "min": 16, "max": 64, "q": 16})
    assert {*powers} == {16, 32, 48, 64} and powers.count(16) > powers.count(64)
    bell = drawn({"distribution": "normal", "mu": 5, "sigma": 2})
    assert statistics.mean(bell) == pytest.approx(5, abs=0.2)
    assert statistics.stdev(bell) == pytest.approx(2, abs=0.15)
    assert statistics.median(drawn({"distribution": "log_normal"})) == pytest.approx(1, abs=0.1)
    rounded = drawn({"distribution": "q_normal", "mu": 5, "sigma": 2, "q": 1})
    assert all(isinstance(x, int) for x in rounded)
    assert statistics.mean(rounded) == pytest.approx(5, abs=0.2)
    assert min(drawn({"distribution": "q_log_normal", "sigma": 1, "q": 0.5})) == 0


def test_exponents_and_inverses() -> None:
    """W&B's log_uniform takes exponents; 1 / x of inv_log_uniform_values is log-uniform."""
    powers = drawn({"distribution": "log_uniform", "min": -2, "max": 0})
    assert math.exp(-2) <= min(powers) and max(powers) <= 1
    assert statistics.median(powers) == pytest.approx(math.exp(-1), rel=0.1)
    inverse = drawn({"distribution": "inv_log_uniform_values", "min": 0.01, "max": 1})
    assert min(inverse) >= 0.01 and max(inverse) <= 1
    assert statistics.median(inverse) == pytest.approx(0.1, rel=0.2)


def test_numbers_are_short_enough_to_copy() -> None:
    assert all(len(f"{x:.10g}") <= 12 for x in drawn({"min": 0.001, "max": 1.0}, 50))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "expected value, values, or min and max"),
        (3, "'x' is 3; expected value"),
        ({"min": 2.0, "max": 1.0}, "min 2.0 not below max 1.0"),
        ({"min": 1.0}, "is uniform and needs max"),
        ({"min": "1e-3", "max": 1}, "write 0.001"),
        ({"min": "low", "max": 1}, "the text 'low', not a number"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "a min above 0"),
        ({"distribution": "beta"}, "unknown distribution 'beta' of parameter 'x'; choose from con"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 1}, "not a whole number"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, "must be above 0"),
        ({"vales": [1]}, "unknown key 'vales' of parameter 'x'"),
        ({"values": []}, "expected a list"),
        ({"values": 3}, "expected a list"),
        ({"values": [1], "probabilities": [1, 2]}, "a number for each of its 1 values"),
        ({"value": None}, "write null as 'null'"),
        ({"values": [{"a": 1}]}, "x.KEY"),
        ({"parameters": {"y": {"value": 1}}}, "is nested; write x.KEY"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense(given: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        parameter("x", given)
    assert said in str(error.value) and "'x'" in str(error.value)


# --------------------------------------------------------------------------------------- points


def test_a_grid_is_all_combinations(tmp_path: Path) -> None:
    words = {"a": {"values": [1, 2]}, "b": {"min": 5, "max": 7}, "c": {"value": "x"}}
    found = load(tmp_path, method="grid", parameters=words, run_cap=None)
    points = [tuple(point.values()) for point in found.points()]
    assert points == [(a, b, "x") for a in (1, 2) for b in (5, 6, 7)]
    assert found.points(4) == found.points()[:4] and found.varied == ["a", "b"]


def test_draws_are_the_seeds_and_the_first_of_more(tmp_path: Path) -> None:
    found = load(tmp_path, parameters={"lr": {"min": 0.0, "max": 1.0}, "n": {"min": 1, "max": 9}})
    assert found.points(8, seed=3)[:3] == found.points(3, seed=3) != found.points(3, seed=4)
    assert len(found.points()) == 2  # run_cap


def test_draws_differ_and_end_with_their_number(tmp_path: Path) -> None:
    points = load(tmp_path).points(5)
    assert sorted(point["seed"] for point in points) == [1, 2]


def test_draws_need_a_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="add --count K"):
        load(tmp_path, run_cap=None).points()


def test_commands_are_those_of_wandbs_agent(tmp_path: Path) -> None:
    point = {"a.b": 0.0001, "c": True, "d": [64, 64], "e": "mappo", "f": 1e-7}
    args = theirs.create_sweep_command_args({"args": {k: {"value": v} for k, v in point.items()}})
    command = [*GOOD["command"][:3], "experiment=climbing", GOOD["command"][3]]
    found = load(tmp_path, command=command)
    assert found.settings(point) == ["experiment=climbing", *args["args_no_hyphens"]]
    rendered = sweep.render(["${interpreter}", "-m", "marl"], point)
    assert rendered == ["python", "-m", "marl"]


def test_macros_of_programs_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "cuda:1")
    command = ["${env}", "${program}", "train", "device=${envvar:PLACE}", "${args_no_hyphens}"]
    one = load(tmp_path, command=command, program="marl")
    assert sweep.render(one.command, {"seed": 1}, one.program) == [
        "/usr/bin/env", "marl", "train", "device=cuda:1", "seed=1",
    ]  # fmt: skip


def test_what_a_metric_may_leave_out(tmp_path: Path) -> None:
    one = load(tmp_path, metric={"name": "return/team"})
    assert (one.goal, one.target, one.reached(-1e9)) == ("minimize", None, False)
    low = load(tmp_path, metric={"name": "return/team", "goal": "minimize", "target": 3})
    assert low.reached(2.5) and not low.reached(3.5)


@pytest.mark.parametrize(
    "name",
    [
        "evaluation/return/team", "return/team", "evaluation/info/success", "info/success",
        "kl/team", "timing/frames_per_second", "episodes",
    ],
)  # fmt: skip
def test_metrics_that_runs_log(name: str) -> None:
    sweep.check_metric(name, ["team"])


@pytest.mark.parametrize("name", ["eval/team", "test/return", "evaluation/return/tem"])
def test_evaluations_are_suggested_for_an_unknown_metric(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"(mean '|choose from .*)evaluation/return/team"):
        sweep.check_metric(name, ["team"])
    line = '{"frames": 0, "entropy/team": 1.0, "return/team": 2.0, "returns": {"team": [1.0]}}\n'
    for kind in ("metrics", "evaluations"):
        (tmp_path / f"{kind}.jsonl").write_text(line)
    assert "entropy/team" in str(sweep.missing(tmp_path, "entropi/team", done=True))


# ---------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": None}, "there is no method; choose from grid, random, bayes"),
        ({"method": "gird"}, "did you mean 'grid'?"),
        ({"metric": None}, "there is no metric; expected {name: evaluation/return/team"),
        ({"metric": "return"}, "metric is 'return'; expected"),
        ({"metric": {"name": "x", "gaol": "maximize"}}, "unknown key 'gaol' of the metric"),
        ({"metric": {"name": "x", "target": "much"}}, "target of the metric is 'much', not a num"),
        ({"metric": {"name": "x", "goal": "maximise"}}, "did you mean 'maximize'?"),
        ({"parameters": None}, "there is no parameters"),
        ({"parameters": {"directory": {"value": "x"}}}, "leave out 'directory'"),
        ({"parameters": {"+x": {"value": "x"}}}, "'+x' is not a parameter"),
        (
            {"method": "grid", "parameters": {"x": {"min": 0.1, "max": 1.0}}},
            "no finite list",
        ),
        ({"paramters": {}}, "unknown key 'paramters'; did you mean 'parameters'?"),
        ({"run_cap": 0}, "run_cap is 0"),
        ({"command": None}, "there is no command"),
        ({"command": ["marl", "train", "${args}"]}, "which does not train"),
        ({"command": ["${evn}", "train", "${args_no_hyphens}"]}, "did you mean '${env}'?"),
        ({"command": ["${program}", "train", "${args_no_hyphens}"]}, "add program: marl"),
        ({"early_terminate": {"type": "median"}}, "expected {type: hyperband"),
        ({"early_terminate": {"type": "hyperband"}}, "needs min_iter, or max_iter and s"),
        ({"early_terminate": {"type": "hyperband", "min_itr": 3}}, "did you mean 'min_iter'?"),
        ({"early_terminate": {"type": "hyperband", "min_iter": "a"}}, "not a number"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 1}}, "above 1"),
    ],
    ids=str,
)
def test_files_that_make_no_sense(tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, **changes)
    assert said in str(error.value) and str(error.value).startswith(f"{tmp_path}/sweep.yaml: ")


def test_files_that_are_none(tmp_path: Path) -> None:
    for text, said in (("a: [1", "is not YAML, in line 1"), ("- a", "is not a sweep")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=said):
            sweep.load(tmp_path / "bad.yaml")
    with pytest.raises(UserError, match="there is no such file"):
        sweep.load(tmp_path / "none.yaml")


# ---------------------------------------------------------------------------------- early stopping


def test_bands() -> None:
    assert Hyperband(min_iter=3, eta=2).bands(13) == [3, 6, 12]
    assert Hyperband(max_iter=27, s=2).bands(27) == [3, 9]
    assert Hyperband(max_iter=27, s=2).bands(8) == [3]


def test_who_is_behind() -> None:
    """The example of W&B's own library (hyperband_stop_runs), with losses negated: with bands 1 and
    2 and half of the runs going on, of these only the second is stopped."""
    runs = [[-10, -9], [-10, -10], [-10, -8, -8], [-10, -7, -7], [-10, -6, -6]]
    rule = Hyperband(max_iter=5, eta=2, s=2)
    assert [rule.behind(own, runs) for own in runs] == [True, True, False, False, False]
    assert not rule.behind([], runs)


def test_strictly_the_value_at_the_band_counts() -> None:
    runs = [[5.0, 1.0], [0.0, 2.0], [0.0, 3.0]]
    assert not Hyperband(min_iter=2).behind(runs[0], runs)
    assert Hyperband(min_iter=2, strict=True).behind(runs[0], runs)


# --------------------------------------------------------------------------------------- results


def test_histories_of_any_metric(tmp_path: Path) -> None:
    evaluations = [{"frames": f, "returns": {"team": [f, f + 2]}, "metrics": {}} for f in (0, 10)]
    lines = "".join(json.dumps(record) + "\n" for record in evaluations)
    (tmp_path / "evaluations.jsonl").write_text(lines + '{"frames": 20, "retu')
    (tmp_path / "metrics.jsonl").write_text('{"frames": 5, "kl/team": 0.5}\n')
    assert sweep.history(tmp_path, "evaluation/return/team") == [(0, 1.0), (10, 11.0)]
    assert sweep.history(tmp_path, "kl/team") == [(5, 0.5)]
    assert sweep.missing(tmp_path, "evaluation/return/team", done=False) is None
    assert "did you mean 'evaluation/return/team'" in str(
        sweep.missing(tmp_path, "evaluation/return/tem", done=False)
    )
    assert sweep.missing(tmp_path, "kl/tem", done=False) is None  # it may come later
    assert "did you mean 'kl/team'" in str(sweep.missing(tmp_path, "kl/tem", done=True))
    assert math.isclose(len(sweep.history(tmp_path / "none", "x")), 0)
