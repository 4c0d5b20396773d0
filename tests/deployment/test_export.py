"""``marl export``: files that compute what the policy does, and their card."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from marl.deployment import export as exporting
from marl.deployment.export import export
from marl.deployment.policy import load_policy
from marl.errors import UserError
from marl.policies.base import DifferentiablePolicy
from marl.policies.bayesian import JointPolicy
from marl.policies.dag import Fixed
from marl.policies.independent import IndependentPolicy
from marl.types import GroupObservation, Observation
from tests.deployment.test_policy import RUNS, run
from tests.helpers.cli import refused

NEEDS_MORE = ("entities", "mortal", "choices", "stacked")  # masks, a graph, or the whole stack
FAST = ("memory", "continuous", "mortal")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("runs")
    return cache(lambda name: run(name, folder / name))


def cases(*fast: str) -> list[Any]:
    return [pytest.param(n, marks=[] if n in fast else [pytest.mark.slow]) for n in RUNS]


@pytest.mark.parametrize("name", cases(*FAST))
def test_the_program_gives_the_policys_actions(runs: Any, tmp_path: Path, name: str) -> None:
    """Read by torch alone, step by step with its own memory, in batches of 1 and 5."""
    policy = load_policy(runs(name))
    files = export(runs(name), out=tmp_path)
    learned = {g for g in policy.groups if name != "scripted" or g != "agent"}
    assert {f.path.name for f in files} == {f"{g}.pt2" for g in learned}
    for file in files:
        module = torch.export.load(file.path).module()
        card = json.loads((tmp_path / "card.json").read_text())["groups"][file.path.stem]
        if card["without_graph_of_the_joint_policy"] or name in NEEDS_MORE:
            continue  # checked by the export; here masks, graphs and cut graphs would be needed
        for size in (1, 5):
            policy.reset()
            memory = torch.zeros(size, *card["inputs"].get("memory", ()))
            for step in range(3):
                obs = {g: _observations(policy, g, size, step) for g in policy.groups}
                expected = policy(obs)[file.path.stem]
                more = {"memory": memory, "start": torch.zeros(size, dtype=torch.bool)}
                inputs = {k: v for k, v in more.items() if k in card["inputs"]}
                action, *rest = module(obs=obs[file.path.stem], **inputs)
                memory = rest[0] if rest else memory
                assert torch.allclose(action.float(), expected.float(), atol=1e-5)


def _observations(policy: Any, name: str, size: int, seed: int) -> torch.Tensor:
    group, random = policy.groups[name], torch.Generator().manual_seed(seed)
    shape = (size, group.size, *group.observation.shape)
    numbers = torch.randn(shape, generator=random)
    bytes_ = torch.randint(256, shape, generator=random)
    return (bytes_ if group.observation.is_image else numbers).to(group.observation.dtype)


@pytest.mark.parametrize("name", cases("memory"))
def test_onnx_gives_the_policys_actions(runs: Any, tmp_path: Path, name: str) -> None:
    files = export(runs(name), "onnx", tmp_path)
    assert files and all(f.difference is not None and f.difference <= 1e-5 for f in files)
    import onnxruntime  # pyright: ignore[reportMissingImports]

    card = json.loads((tmp_path / "card.json").read_text())["groups"]
    for file in files:
        session = onnxruntime.InferenceSession(str(file.path))
        assert all(x.shape[0] == "B" for x in (*session.get_inputs(), *session.get_outputs()))
        assert [x.name for x in session.get_inputs()] == list(card[file.path.stem]["inputs"])
        assert [x.name for x in session.get_outputs()] == card[file.path.stem]["outputs"]


def test_a_wrong_file_is_refused(runs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The check compares: with actions of another policy it fails, and leaves no file."""
    load = torch.export.load

    def other(path: Path) -> Any:
        program = load(path)
        for x in program.state_dict.values():
            x.data.mul_(3).add_(0.1)
        return program

    monkeypatch.setattr(torch.export, "load", other)
    with pytest.raises(UserError, match=r"group 'agent' differs from the policy by .*format"):
        export(runs("continuous"), out=tmp_path)
    assert not list(tmp_path.glob("*.pt2"))


def test_weights_are_read_by_safetensors(runs: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    (file,) = export(runs("memory"), "safetensors", tmp_path)
    (team,) = load_policy(runs("memory")).teams.values()
    assert isinstance(team.policy, DifferentiablePolicy)
    expected = team.policy.state_dict()
    weights = load_file(file.path)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


def test_the_card_tells_what_a_reader_needs(runs: Any, tmp_path: Path) -> None:
    export(runs("continuous"), out=tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    group = card["groups"]["agent"]
    assert card["task"] == "mpe/simple_spread" and card["versions"].keys() == {"marl", "torch"}
    assert group["agents"] == ["agent_0", "agent_1", "agent_2"]
    assert group["action"] == {"kind": "continuous", "low": [0.0] * 5, "high": [1.0] * 5}
    assert group["inputs"] == {"obs": [3, 18]} and group["checked_on"] == 100
    assert card["evaluation"]["mean return"].keys() == {"team"}


def test_the_card_has_the_evaluation_of_these_policies(runs: Any, tmp_path: Path) -> None:
    """Not of the run's last ones, nor the absolute metric of the best ones for others."""
    run = tmp_path / "run"
    shutil.copytree(runs("continuous"), run)
    frames = load_policy(run).frames["team"]
    lines = [{"frames": f, "returns": {"team": [r]}} for f, r in ((frames, 3.0), (9**9, 5.0))]
    (run / "evaluations.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    for metric, expected in ((frames, ("absolute metric", 7.0)), (1, ("evaluation", 3.0))):
        best = {"team": {"frames": metric, "returns": {"team": [7.0]}}}
        (run / "absolute.json").write_text(json.dumps(best))
        export(run, "safetensors", tmp_path)
        card = json.loads((tmp_path / "card.json").read_text())
        assert card["frames"] == {"team": frames}
        assert card["evaluation"] == {"kind": expected[0], "mean return": {"team": expected[1]}}


def test_mistakes_end_in_one_sentence(
    runs: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    with pytest.raises(UserError, match="unknown format 'tf'; choose from torch, onnx"):
        export(runs("memory"), "tf", tmp_path)
    words = ["export", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    refused(capsys, tmp_path, words, "does not exist")

    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such operator\nand a long trace")

    monkeypatch.setattr(IndependentPolicy, "act", fails)
    with pytest.raises(UserError, match=r"'agent' cannot be traced .*no such operator; take"):
        export(runs("memory"), "torch", tmp_path)
    assert exporting.WRITERS.keys() == {"torch", "onnx", "safetensors"}


@pytest.mark.parametrize("name", ["mpe/speaker_listener/bn_mappo", "bayes/aloha/learned"])
def test_a_joint_policy_is_exported_without_its_graph(tmp_path: Path, name: str) -> None:
    """Each group's file gives what the whole policy does along a graph without edges."""
    loaded = load_policy(f"zoo:{name}")
    (policy,) = (team.policy for team in loaded.teams.values())
    assert isinstance(policy, JointPolicy)
    files = export(f"zoo:{name}", out=tmp_path)
    obs = {g: GroupObservation(_observations(loaded, g, 5, 0)) for g in loaded.groups}
    start = torch.ones(5, dtype=torch.bool)
    policy.graphs = Fixed(torch.zeros(sum(policy.sizes), sum(policy.sizes)))
    with torch.no_grad():
        expected = policy.act(Observation(obs), {}, start, None).action
    card = json.loads((tmp_path / "card.json").read_text())["groups"]
    assert {file.path.stem for file in files} == set(loaded.groups)
    for file in files:
        (action,) = torch.export.load(file.path).module()(obs=obs[file.path.stem].obs)
        assert torch.allclose(action.float(), expected[file.path.stem].float(), atol=1e-5)
        assert card[file.path.stem]["without_graph_of_the_joint_policy"]
