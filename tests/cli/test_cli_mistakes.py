"""What the command line says to mistakes: one sentence, exit code 2, nothing created."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from marl.cli import commands, listing, warning_lines
from marl.cli.main import main
from marl.errors import UserError, unknown
from tests.helpers.cli import PLAIN, TOY, called, refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=vmas/balence"], "unknown task 'vmas/balence'; did you mean 'vmas/balance'?"),
        (["task=vmas/nav"], "did you mean 'vmas/navigation'?"),
        (["algorithm.lr=1e-3"], "did you mean 'algorithm.actor_lr'?"),
        (["gamma=0.9"], "did you mean 'algorithm.gamma'?"),
        (["+hidden=[3]"], "did you mean 'model.hidden'?"),
        (["critic_model.gru=0"], "no critic_model is chosen; add critic_model=NAME"),
        (["teams.team.algorithm.gamma=0"], "choose its algorithm first: teams.team.algorithm="),
        (["algorithm=mapo"], "unknown algorithm 'mapo'; did you mean 'mappo'?"),
        (["model=mpl"], "unknown model 'mpl'; did you mean 'mlp'?"),
        (["teams.team.algoritm=random"], "did you mean 'teams.team.algorithm'?"),
        (["experiment=defualt"], "did you mean 'default'?"),
        (["total_frame=3"], "did you mean 'total_frames'?"),
        (["algorithm.gama=0.9"], "did you mean 'algorithm.gamma'?"),
        (["task.max_step=3"], "did you mean 'task.max_steps'?"),
        (["num_envs=many"], "num_envs"),
        (["num_envs=1.5"], "num_envs"),
        (["wandb=perhaps"], "wandb"),
        (["algorithm.gamma=2"], "marl: algorithm.gamma=2.0 is out of range; expected 0 to 1"),
        (["algorithm.gamma=high"], "algorithm.gamma: expected a number, not 'high'"),
        (["steps=1.5"], "steps: expected a whole number, not '1.5'"),
        (["model.hidden=64"], "model.hidden: expected a list, such as [64,64], not int"),
        (["callbacks=./mine.py:Mine"], "callbacks: expected a list in brackets, such as [A,B]"),
        (["seed=0,1"], "seed=0,1 holds several values; add -m to train a run with each"),
        (["-m", "seed=0,1", "directory=x"], "directory=x is one directory for 2 runs; leave it"),
        (["--lr", "3"], "unknown flag '--lr'; settings are KEY=VALUE without dashes"),
        (["num_envs=0"], "num_envs=0 is out of range"),
        (["algorithm.critic=al"], "unknown critic 'al'; did you mean 'all'?"),
        (["algorithm.critic=state"], "critic 'state' needs an environment that gives its state"),
        (["model.activation=rleu"], "did you mean 'relu'?"),
        (["model=gru", "steps=7", "algorithm.chunk_length=5"], "chunk_length=5 must divide"),
        (["device=cuda:7"], "device 'cuda:7' does not exist"),
        (["device=gpu"], "unknown device 'gpu'"),
        (["teams.tem.algorithm=random"], "unknown team 'tem' without groups; did you mean 'team'?"),
        (
            ["teams.team.groups=[lefty]", "teams.team.model=mlp"],
            "unknown group 'lefty' in teams.team; did you mean",
        ),
        (["teams.team.algorithm=randm"], "'randm'; did you mean 'random'?"),
        (["task.name="], "unknown task ''"),
        (["foo"], "'foo'"),
        (["task=tests.helpers.toy_envs:nothing"], "'tests.helpers.toy_envs' has no 'nothing'"),
        (["task=no_such_package.x:y"], "no module named 'no_such_package'"),
        (["algorithm=tests.helpers.lazy_algorithm:Nothing"], "has no 'Nothing'"),
        (["task=vmas/simple_spread", "task.actions=discreet"], "did you mean 'discrete'?"),
        (["train"], "train"),
        (["seed="], "seed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    capsys, tmp_path: Path, monkeypatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(capsys, tmp_path, ["train", *TOY, *words], said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["algorithm=frozen"], "frozen needs checkpoint=RUN"),
        (["algorithm=frozen", "algorithm.checkpoint=no/run"], "run or checkpoint file"),
        (
            ["task=tests.helpers.toy_envs:rivals", "teams.right.frozen=no/run"],
            "run or checkpoint file",
        ),
        (["task=tests.helpers.toy_envs:images", "model=cnn"], "8x8 pixels are too small"),
        (
            ["algorithm=qmix", "algorithm.burn_in=3"],
            "nothing reads algorithm.burn_in: the networks have no memory; set model.gru=64",
        ),
        (["algorithm=vdn", "critic_model=mlp"], "nothing reads critic_model: the algorithm has no"),
        (["algorithm=hasac", "algorithm.lr=1"], "did you mean 'algorithm.actor_lr'?"),
        (
            ["experiment=value", "algorithm=masac"],
            "experiment=value sets algorithm.lr, which MASAC does not have",
        ),
        (
            ["algorithm=hasac", "model=gru", "algorithm.batch_size=16", "replay_size=100"],
            "sequences of 32 steps",
        ),
        (
            ["task=tests.helpers.toy_envs:rivals", "teams.left.algorithm=null"],
            "teams.left.algorithm names no",
        ),
        (
            ["task=tests.helpers.toy_envs:rivals", "teams.left=null"],
            "set teams.left.algorithm=NAME",
        ),
        (
            ["task=tests.helpers.toy_envs:rivals", "~algorithm", "teams.left.algorithm=mappo"],
            "'right' has no",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_built_is_one_sentence(
    capsys, tmp_path: Path, monkeypatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(capsys, tmp_path, ["train", *PLAIN, *words], said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "task=:foo"], "foo"),  # ValueError: Empty module name
        (["train", *TOY, "=3"], "=3"),  # ValueError of Hydra
        (["train", "~algorithm"], "algorithm"),  # AttributeError: None has no build
    ],
    ids=["import path", "no key", "deleted"],
)
def test_mistakes_in_the_form_of_a_setting(
    capsys, tmp_path: Path, monkeypatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "run", lambda *_, **__: 0)  # if nothing is noticed, train nothing
    refused(capsys, tmp_path, words, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["resume", "none"], "run directory 'none' does not exist"),
        (["evaluate", "none", "task.kwargs.N=3"], "run directory 'none' does not exist"),
        (["resume", "."], "is not a run directory"),
        (["resume", "none", "lr=3"], "resume changes only total_frames"),
        (["resume", "none", "total_frames=x"], "total_frames: expected a whole number, not 'x'"),
        (
            ["resume", "none", "total_frames=inf"],
            "total_frames: expected a whole number, not 'inf'",
        ),
        (["resume", "none", "threads=nan"], "threads: expected a whole number, not 'nan'"),
        (["resume", "none", "threads=-1"], "threads=-1 is out of range"),
        (["resume", "none", "progress=maybe"], "progress: expected true or false, not 'maybe'"),
        (["resume", "none", "total_frames"], "'total_frames' is not a setting"),
        (["evaluate", "none"], "run directory 'none' does not exist"),
        (["evaluate", "."], "is not a run directory"),
        (["evaluate", "none/checkpoints/best.pt"], "cannot be read"),
        (["evaluate", "none", "--device", "cuda:7"], "device 'cuda:7' does not exist"),
        (["speed", "task=vmas/balence"], "did you mean 'vmas/balance'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_of_other_commands(
    capsys, tmp_path: Path, monkeypatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(capsys, tmp_path, words, said)


@pytest.mark.parametrize(
    "words",
    [["fly"], [], ["list", "planets"], ["evaluate", "run", "--episodes", "0"],
     ["evaluate", "run", "--episodes", "x"], ["evaluate"], ["speed", "--warmup", "-1"]],
    ids=" ".join,
)  # fmt: skip
def test_bad_flags_end_with_2(capsys, words: list[str]) -> None:
    code, _, err = called(capsys, *words)
    assert code == 2 and "Traceback" not in err and "marl" in err


def test_bugs_keep_their_traceback(monkeypatch) -> None:
    """Only what a sentence explains is said in one."""

    def bug(_) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(listing, "names", bug)
    with pytest.raises(ZeroDivisionError):
        main(["list", "tasks"])


def test_unknown_names_the_nearest_or_the_choices() -> None:
    assert str(unknown("thing", "zzz", ["b", "a"])) == "unknown thing 'zzz'; choose from a, b"
    assert "none exists to choose from" in str(unknown("thing", "x", []))
    assert isinstance(unknown("thing", "x", []), UserError)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (
            ["evaluate", "x", "--epsodes", "3"],
            "unknown flag '--epsodes'; did you mean '--episodes'?",
        ),
        (["evaluate", "my_env.py"], "'my_env.py' is a file, not a run directory or .pt checkpoint"),
        (["train", "task=my_env"], "name its factory: task=./my_env.py:FACTORY"),
        (["train", "task=my_env.py"], "name its factory: task=./my_env.py:FACTORY"),
        (["train", "task=vmas/my_env"], "name its class: task=./my_env.py:CLASS"),
    ],
)
def test_what_was_probably_meant(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_env.py").touch()
    code, _, err = called(capsys, *words)
    assert code == 2 and said in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "1 / 0",
            "ZeroDivisionError: division by zero (",
        ),
        ("raise SystemExit(0)", "SystemExit: 0 ("),
        ("raise KeyError('a\\nb')", "KeyError: "),
    ],
)
def test_code_that_fails_when_it_is_imported(
    capsys, tmp_path: Path, monkeypatch, line: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(f"x = 1\n{line}\n")
    for key in ("task", "algorithm", "model"):
        code, _, err = called(capsys, "train", f"{key}=./mine.py:f")
        assert code == 2 and "cannot import" in err and said in err and "mine.py, line 2)" in err
        assert err.startswith("marl: ") and err.count("\n") == 1, err


def test_ctrl_c_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(listing, "names", interrupted)
    with pytest.raises(SystemExit, match="130"):
        main(["list", "tasks"])
    assert capsys.readouterr().err == "marl: interrupted\n"


def test_a_warning_of_this_package_is_a_line_without_its_code() -> None:
    own = warning_lines.line("careful", UserWarning, warning_lines.__file__, 3, None)
    assert own == "marl: warning: careful\n"
    other = warning_lines.line("careful", UserWarning, "/elsewhere/theirs.py", 3, "x = 1")
    assert other == "/elsewhere/theirs.py:3: UserWarning: careful\n  x = 1\n"


@pytest.mark.parametrize("command", ["resume", "evaluate", "sweep", "list"])
def test_settings_are_not_required(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command])
    assert re.search(r"are required: \w+\n", capsys.readouterr().err)
