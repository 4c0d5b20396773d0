"""What is said, and when it is refused, where episodes do not end; and of runs too short to
learn."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from marl.algorithms.hasac import HASACConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.cli.run_report import describe, random_returns
from marl.envs.task import Task
from marl.errors import EndlessEpisode
from marl.experiment import Experiment
from marl.training import absolute_metric, cautions
from marl.training.crossplay import Entrant, crossplay
from marl.training.evaluation import Limit, evaluate, film
from marl.training.evaluations import Evaluations
from marl.training.settings import Settings
from marl.training.teams import Team
from marl.types import AgentGroup, Discrete, TensorSpec
from tests.helpers.builders import CPU, mappo, randomly
from tests.helpers.cli import WORDS, called
from tests.helpers.experiments import SHORT, equal, experiment, outcome
from tests.helpers.tiny_env import Tiny
from tests.helpers.toy_envs import identity


class Endless(Tiny):
    length = 10**12


ENDLESS = f"{__name__}:Endless"


def endless(num_envs: int = 3) -> Any:
    return Task(ENDLESS)(num_envs, CPU)


def every_second(after: float = 3.0, steps: int = 10) -> Limit:
    """A step takes a second."""
    seconds = count()
    return Limit(steps, "evaluation at frame 0", after=after, clock=lambda: float(next(seconds)))


def test_an_evaluation_says_how_far_it_is_and_then_that_it_is_refused(capsys) -> None:
    env = endless()
    with pytest.raises(EndlessEpisode) as refused:
        evaluate(env, randomly(env), 3, 1, limit=every_second())
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"marl: evaluation at frame 0: no episode of 3 has ended after {n} steps ({n} s); "
        "if none ever does, set task.max_steps"
        for n in (3, 6)
    ]
    assert str(refused.value) == (
        "evaluation at frame 0: 3 of 3 episodes have not ended after 10 steps; end them by "
        "task.max_steps=10, for instance, or allow longer ones by evaluation_max_steps=100"
    )


def test_it_counts_those_that_have_ended(capsys) -> None:
    """Of 16 copies some end at every step, as a count of what the environment says tells."""
    env = identity(16, CPU, end=0.5)
    ended, said = set(), []
    step = env.step

    def counted(action: Any) -> Any:
        transition = step(action)
        ended.update(transition.done.nonzero().flatten().tolist())
        said.append(len(ended))
        return transition

    env.step = counted
    evaluate(env, randomly(env), 16, 1, limit=every_second(after=1.0))
    first = capsys.readouterr().err.splitlines()[0]
    assert 0 < said[0] < 16
    assert f"{said[0]} of 16 episodes have ended after 1 steps (1 s)" in first
    assert "max_steps" not in first


def test_an_episode_as_long_as_the_limit_is_played(capsys) -> None:
    env: Any = Task(f"{Tiny.__module__}:Tiny")(2, CPU)
    result = evaluate(env, randomly(env), 4, 1, limit=Limit(5))
    assert len(result["returns"]["team"]) == 4 and capsys.readouterr().err == ""
    with pytest.raises(EndlessEpisode, match="2 of 2 episodes have not ended after 4 steps"):
        evaluate(env, randomly(env), 4, 1, limit=Limit(4))


def test_everything_that_plays_episodes_has_the_limit(tmp_path: Path, capsys) -> None:
    settings = {"evaluation_max_steps": 7, "absolute_episodes": 2}
    run = experiment(tmp_path / "run", ENDLESS, **settings)
    run.save(["team"])
    with pytest.raises(EndlessEpisode, match=r"^random play: 3 of 3 .* evaluation_max_steps=70"):
        random_returns(run)
    with pytest.raises(EndlessEpisode, match=r"^evaluation at frame 0: 3 of 3"):
        run.run()
    env = run.evaluations.env
    with pytest.raises(EndlessEpisode, match=r"^absolute metric: 3 of 3"):
        absolute_metric.measure(tmp_path / "run", env, run.specs, run.settings)
    entrant = Entrant("a", tmp_path, 0, run.teams)
    with pytest.raises(EndlessEpisode, match=r"^cross-play: 3 of 3 .* after 4 steps"):
        crossplay(env, [entrant], 3, 1, limit=Limit(4, "cross-play"))
    for more, steps in (([], 7), (["--max-steps", "9"], 9)):
        code, _, err = called(capsys, "evaluate", str(tmp_path / "run"), "--episodes", "2", *more)
        assert code == 2 and err.count("\n") == 1
        assert f"evaluation: 2 of 2 episodes have not ended after {steps} steps" in err
        assert f"or allow longer ones by --max-steps={10 * steps}" in err


def test_an_endless_film_ends(capsys) -> None:
    env = identity(1, CPU, end=0.0)
    teams = {"team": mappo("identity", envs=1)}
    assert len(film(env, teams, seed=1, max_steps=2)) == 2
    assert "the film ends after 2 steps, before its episode does" in capsys.readouterr().err
    assert len(film(env, teams, seed=1)) == 3 and capsys.readouterr().err == ""


def test_the_command_refuses_and_says_how_to_go_on(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", f"task={ENDLESS}", *WORDS, "video=false", "total_frames=40"]
    code, _, err = called(capsys, *words, "evaluation_max_steps=50")
    assert code == 2 and "marl: random play: 3 of 3 episodes have not ended" in err
    code, out, err = called(capsys, *words, "task.max_steps=20")
    assert (code, err) == (0, "")
    assert "team     team: 2 agents (a_0, a_1), mappo, reward team_mean\n" in out


def test_what_was_learned_is_saved_where_episodes_became_too_long(tmp_path: Path, capsys) -> None:
    """The run goes on with another limit to the same end."""
    whole = experiment(tmp_path / "whole")
    whole.run()
    part = experiment(tmp_path / "part")
    play = Evaluations.play

    def strict(self: Evaluations, frames: int) -> Any:
        self.settings.evaluation_max_steps = 2 if frames >= 80 else 100
        return play(self, frames)

    part.evaluations.play = strict.__get__(part.evaluations)
    with pytest.raises(EndlessEpisode, match="evaluation at frame 80: "):
        part.run()
    assert part.checkpoints.last() is not None and part.frames == 80
    assert called(capsys, "resume", str(tmp_path / "part"), "evaluation_max_steps=100")[0] == 0
    assert equal(outcome(tmp_path / "whole"), outcome(tmp_path / "part"))


# ------------------------------------------------------------------------------- too short to learn


def warmed(total: int, **options: Any) -> list[str]:
    specs = {"team": Team(["team"], HASACConfig(**options)), "other": Team([], MAPPOConfig())}
    return cautions.idle_warnings(specs, Settings(total_frames=total, num_envs=16, steps=25))


def test_a_warmup_longer_than_the_run_is_told() -> None:
    (sentence,) = warmed(8_000)
    assert sentence == (
        "team 'team' will not learn: its first update is due after 10,020 frames (warmup=10,000), "
        "and the run ends after 8,000; set algorithm.warmup=800, for instance, or a larger "
        "total_frames"
    )


@pytest.mark.parametrize(
    ("total", "options", "learns"),
    [
        (8_000, {"warmup": 7_980}, True),
        (8_000, {"warmup": 7_981}, False),
        (7_900, {"warmup": 7_980}, True),  # of whole iterations of 400 frames
        (8_000, {"warmup": 0, "frames_per_update": 8_000}, True),
        (8_000, {"warmup": 0, "frames_per_update": 8_001}, False),
    ],
)
def test_a_run_with_one_update_is_long_enough(total: int, options: dict, learns: bool) -> None:
    assert (warmed(total, **options) == []) is learns


@pytest.mark.parametrize("warmup", [60, 61])
def test_the_run_agrees(tmp_path: Path, capsys, warmup: int) -> None:
    """It learns where nothing is said, and not where it is."""
    run = Experiment(
        Task("tests.helpers.toy_envs:continuous"), HASACConfig(warmup=warmup, batch_size=4),
        settings=Settings(**{**SHORT, "total_frames": 80}), directory=tmp_path / "run",
    )  # fmt: skip
    run.run()
    team: Any = run.teams["team"]
    told = "marl: warning: team 'team' will not learn" in capsys.readouterr().err
    assert (team.updates, told) == ((1, False) if warmup == 60 else (0, True))


# ------------------------------------------------------------------------------------------- a team


def test_a_team_is_described_in_a_line() -> None:
    def group(name: str, size: int) -> AgentGroup:
        agents = tuple(f"{name}_{i}" for i in range(size))
        return AgentGroup(name, agents, TensorSpec((2,)), Discrete(2))

    groups = {"a": group("a", 1), "b": group("b", 2), "c": group("c", 100)}
    ours = Team(["a", "b"], MAPPOConfig(reward="own"))
    assert describe("us", ours, groups) == "us: 3 agents (a_0, b_0, b_1), mappo, reward own"
    crowd = "c: 100 agents (c_0, c_1, c_2, …, c_99), hasac, reward team_mean"
    assert describe("c", Team(["c"], HASACConfig()), groups) == crowd
