"""Runs that begin with another run's weights (``start_from``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from marl.algorithms.hasac import HASACConfig, MASACConfig
from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import IPPOConfig, MAPPOConfig
from marl.cli import compose
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.perceptron import Perceptron
from marl.training import zoo
from marl.training.fitting import Difference, flat
from marl.training.run_directory import read_config
from marl.training.start_from import StartFrom
from marl.training.starting import advice, fingerprint
from tests.helpers.toy_envs import crowd

TINY: dict[str, Any] = {
    "total_frames": 40, "num_envs": 2, "steps": 10, "evaluation_interval": 20,
    "evaluation_episodes": 2, "progress": False, "video": False, "replay_size": 100,
}  # fmt: skip
OFF_POLICY: dict[str, Any] = {"warmup": 10, "batch_size": 4, "frames_per_update": 10}


def run(
    directory: Path,
    algorithm: Any = None,
    start: StartFrom | None = None,
    *,
    model: Any = None,
    task: str = "crowd",
    settings: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Experiment:
    """A tiny run of a group ``agent``, whose number of agents changes no observation."""
    return Experiment(
        Task(f"tests.helpers.toy_envs:{task}", kwargs=kwargs),
        algorithm or MAPPOConfig(epochs=1, chunk_length=5),
        model or Perceptron(hidden=[8], normalize_obs=True),
        settings=Settings(**TINY, **(settings or {}), start_from=start or StartFrom()),
        directory=directory,
    )


def weights(experiment: Experiment, team: str = "team") -> dict[str, torch.Tensor]:
    return flat(experiment.teams[team].policy.state_dict())  # type: ignore[attr-defined]


def greedy(experiment: Experiment, observations: int = 100) -> torch.Tensor:
    env = crowd(observations, torch.device("cpu"))
    team, start = experiment.teams["team"], torch.ones(observations, dtype=torch.bool)
    carry = team.policy.initial_carry(observations)
    random = torch.Generator().manual_seed(0)
    return team.act(env.reset(3), carry, start, random, explore=False).action["agent"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(x, other[n]) for n, x in one.items())


@pytest.mark.parametrize(
    "algorithm",
    [
        MAPPOConfig(epochs=1, chunk_length=5),
        HASACConfig(**OFF_POLICY),
        MADDPGConfig(**OFF_POLICY),
    ],
)
def test_a_run_begins_as_its_source_ended(tmp_path: Path, algorithm: Any) -> None:
    """The same greedy actions on 100 observations and the same weights, critics' and normalisers'
    too; optimizers on request; schedules and random numbers are the new run's own."""
    first = run(tmp_path / "first", algorithm)
    first.run()
    last = first.teams["team"].state_dict()
    fresh = run(tmp_path / "fresh", algorithm, settings={"seed": 1})
    second = run(
        tmp_path / "second", algorithm, StartFrom(str(tmp_path / "first"), "last"),
        settings={"seed": 1},
    )  # fmt: skip
    assert not same(weights(first), weights(fresh))
    assert torch.equal(greedy(first), greedy(second))
    state, new = second.teams["team"].state_dict(), fresh.teams["team"].state_dict()
    own = {name for name in state if "optimizer" in name or name.startswith("actor_")}
    own |= {"generator", "critic_carry", "iteration", "frames", "updates"}
    assert {"policy", "critic"} <= state.keys() - own
    for name in state:
        assert same(flat(state[name]), flat(new[name] if name in own else last[name])), name
    assert all(fit.complete for fit in second.start.fits["team"].values())

    origin = json.loads((tmp_path / "second" / "provenance.json").read_text())["start_from"]
    assert origin["team"]["frames"] == 40
    assert origin["team"]["fingerprint"] == fingerprint(last["policy"])

    moments = run(
        tmp_path / "third", algorithm, StartFrom(str(tmp_path / "first"), "last", optimizers=True)
    ).teams["team"]
    for name in state:
        if "optimizer" in name:
            assert same(flat(moments.state_dict()[name]), flat(last[name])), name


def test_another_number_of_agents_another_group_and_another_algorithm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shared networks fit; MAPPO's critic of all observations does not and begins anew, and with it
    its value normaliser; IPPO's fits; a target policy follows the policy."""
    first = run(tmp_path / "first")
    first.run()
    start = StartFrom(str(tmp_path / "first"))
    wide = run(tmp_path / "wide", None, start, agents=3, name="drone")
    assert list(weights(wide)) == [n.replace("agent", "drone") for n in weights(first)]
    pairs = zip(weights(wide).values(), weights(first).values(), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)
    fits = wide.start.fits["team"]
    assert (fits["critic"].loaded, fits["value_norm"].loaded) == (0, 0)
    wide.run()
    out = capsys.readouterr().out
    assert "critic" in out and "[8, 6]" in out and "[8, 9]" in out and "begins anew" in out, out

    algorithm = MADDPGConfig(**OFF_POLICY)
    learner = run(tmp_path / "other", algorithm, start)
    assert "such as algorithm.warmup=1," in " ".join(learner.start.notes)  # fewer than its 10
    other = learner.teams["team"].state_dict()
    assert same(other["policy"], weights(first)) and same(other["target_policy"], other["policy"])

    local = run(tmp_path / "local", IPPOConfig(epochs=1, chunk_length=5))
    local.run()
    more = run(
        tmp_path / "more", IPPOConfig(epochs=1, chunk_length=5),
        StartFrom(str(tmp_path / "local"), optimizers=True), agents=5,
    )  # fmt: skip
    assert all(fit.complete for fit in more.start.fits["team"].values())
    assert "optimizer" in more.start.fits["team"]


def test_an_optimizer_fits_part_by_part(tmp_path: Path) -> None:
    """The moments of a policy that fits are loaded beside a critic that does not."""
    run(tmp_path / "first").run()
    start = StartFrom(str(tmp_path / "first"), optimizers=True)
    fit = run(tmp_path / "more", None, start, agents=3).start.fits["team"]["optimizer"]
    assert 0 < fit.loaded < fit.tensors
    assert [(d.tensor, d.there, d.here) for d in fit.differences] == [
        ("first.critic.0", (8, 6), (8, 9))
    ]
    assert all((x > 0).all() for x in fit.state["steps"]["actor"])
    assert not any(x.any() for x in fit.state["steps"]["critic"])


def test_layers_that_do_not_fit_begin_anew(tmp_path: Path) -> None:
    """Other actions: all but the last layer is loaded. Other observations too: nothing is, which is
    an error with a tensor and both shapes, and leaves no directory."""
    first = run(tmp_path / "first", model=Perceptron(hidden=[8, 8]))
    first.run()
    start = StartFrom(str(tmp_path / "first"))
    deeper = run(tmp_path / "deeper", None, start, model=Perceptron(hidden=[8, 16]))
    before, now = weights(first), weights(deeper)
    assert {n for n in now if n in before and torch.equal(now[n], before[n])} >= {
        "networks.agent.body.0.weight", "networks.agent.body.0.bias"
    }  # fmt: skip
    fit = deeper.start.fits["team"]["policy"]
    assert {d.tensor.rpartition(".")[0] for d in fit.differences} == {
        "networks.agent.body.2", "networks.agent.head"
    }  # fmt: skip
    table = deeper.start.table()
    cause = "team: model.hidden is [8, 8] in the run and [8, 16] here; make them alike to load all"
    assert cause in table and "body.2" not in table
    told = (
        r"\[8, 3\] there and \[4, 3\] here; model.hidden is \[8, 8\] in the run and \[4, 4\] here"
    )
    with pytest.raises(UserError, match=f"body.0.weight is {told}; make them alike"):
        run(tmp_path / "no", None, start, model=Perceptron(hidden=[4, 4]))
    norm = Difference("networks.agent.body.0.weight", (6,), (8, 2))  # input_norm there, not here
    assert advice(norm).startswith("take the run's model")
    assert not (tmp_path / "no").exists()


def test_weights_of_each_agent_or_of_all(tmp_path: Path) -> None:
    model = Perceptron(hidden=[8], sharing="per_agent", normalize_obs=True)
    run(tmp_path / "first", model=model).run()
    with pytest.raises(UserError, match=r"\[8, 3\] here; model.sharing is per_agent in the run"):
        run(tmp_path / "no", None, StartFrom(str(tmp_path / "first")))
    with pytest.raises(UserError, match=r"is missing there and .* model.normalize_obs is True in"):
        run(tmp_path / "no", None, StartFrom(str(tmp_path / "first")), model=Perceptron(hidden=[8]))


def test_teams_are_matched_by_name(tmp_path: Path) -> None:
    first = run(tmp_path / "first", task="rivals")
    first.run()
    start = StartFrom(str(tmp_path / "first"))
    second = run(tmp_path / "second", None, start, task="rivals", settings={"seed": 1})
    best = json.loads((tmp_path / "second" / "provenance.json").read_text())["start_from"]
    assert {n: o["checkpoint"].startswith(f"best-{n}-") for n, o in best.items()} == {
        "left": True, "right": True
    }  # fmt: skip
    assert same(weights(second, "left"), weights(first, "left"))
    with pytest.raises(UserError, match="its teams are left, right, and here team learn"):
        run(tmp_path / "no", None, start)


def test_a_resumed_run_does_not_load_them_again(tmp_path: Path) -> None:
    """Even if the source is gone; only a run without a checkpoint begins again, with the same."""
    first = run(tmp_path / "first")
    first.run()
    source = str(tmp_path / "first")
    with_start = run(tmp_path / "second", None, StartFrom(source), settings={"seed": 1})
    with_start.run()
    unstarted = run(tmp_path / "third", None, StartFrom(source), settings={"seed": 2})
    again = Experiment.load(tmp_path / "third")
    assert same(weights(again), weights(unstarted))
    checkpoint = next((tmp_path / "first" / "checkpoints").glob("best-*.pt"))
    checkpoint.unlink()
    with pytest.raises(UserError, match="holds others now"):
        other = run(tmp_path / "other", settings={"seed": 3})
        other.run()
        best = next((tmp_path / "other" / "checkpoints").glob("best-*.pt"))
        for ending in ("", ".sha256"):
            Path(f"{best}{ending}").rename(f"{checkpoint}{ending}")
        Experiment.load(tmp_path / "third")
    Path(source).rename(tmp_path / "away")
    resumed = Experiment.load(tmp_path / "second", total_frames=60)
    assert same(weights(resumed), weights(with_start)) and not resumed.start.run
    resumed.run()


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"run": "nowhere"}, "nowhere' does not exist"),
        ({"run": "{first}", "checkpoint": "frames-1.pt"}, "choose from|did you mean"),
        ({"run": "{first}/config.json"}, "is a file, not a run directory"),
        ({"run": "", "optimizers": True}, "only with a run"),
    ],
)
def test_mistakes(tmp_path: Path, start: dict[str, Any], words: str) -> None:
    run(tmp_path / "first").run()
    start["run"] = start["run"].replace("{first}", str(tmp_path / "first"))
    with pytest.raises(UserError, match=words):
        run(tmp_path / "second", None, StartFrom(**start))


def test_simultaneous_actors_of_another_team_size(tmp_path: Path) -> None:
    """MASAC with shared networks: policies fit, temperatures of each agent do not."""
    algorithm = MASACConfig(**OFF_POLICY)
    run(tmp_path / "first", algorithm).run()
    fits = run(tmp_path / "more", algorithm, StartFrom(str(tmp_path / "first")), agents=3)
    loaded = {part: fit.complete for part, fit in fits.start.fits["team"].items()}
    assert loaded == {"policy": True, "critic": False, "target_critic": False, "log_alpha": False}


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``start_from=RUN`` is ``start_from.run``, with any character in the path."""
    monkeypatch.chdir(tmp_path)
    settings = compose.composed(["start_from=runs/a, b=1", "start_from.optimizers=true"]).start_from
    assert settings == StartFrom(str(tmp_path / "runs/a, b=1"), optimizers=True)
    assert compose.composed(["start_from=null"]).start_from == StartFrom()


def test_a_policy_of_the_zoo(tmp_path: Path) -> None:
    """A policy file holds policies alone; critics begin anew."""
    name = "zoo:mpe/spread/mappo"
    config = read_config(zoo.find(name).parent)
    settings = Settings(**TINY, start_from=StartFrom(name))
    parts = config["task"], MAPPOConfig(), config["teams"]["team"].model
    second = Experiment(*parts, settings=settings, directory=tmp_path / "second")
    fits = second.start.fits["team"]
    assert fits["policy"].complete and not fits["critic"].loaded
    assert second.start.table().count("missing in the run; begins anew") == 1
