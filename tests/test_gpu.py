"""What only a CUDA device shows: runs on it, that it computes what the CPU does, and that nothing
waits for it. ``MARL_DEVICE=cpu pytest -m gpu`` tries these tests where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.cli import compose
from marl.env import random_action
from marl.envs.particle.env import ParticleEnv
from marl.envs.task import Task
from marl.envs.vmas.env import VmasEnv
from marl.experiment import Experiment
from marl.policies import distributions
from marl.training import execution, finite
from marl.training.checkpoint import Checkpoints
from marl.training.finite import all_finite
from marl.training.rollout_program import RolloutProgram
from marl.types import tree_map, tree_tensors
from marl.utils import programs
from tests.helpers.builders import CPU
from tests.helpers.experiments import experiment, outcome
from tests.helpers.graphs import use_fake_graphs

DEVICE = torch.device(os.environ.get("MARL_DEVICE", "cuda"))
CUDA = torch.cuda.is_available()
TORCH = tuple(map(int, torch.__version__.split(".")[:2]))

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE.type == "cuda" and not CUDA, reason="no CUDA device here"),
]

SPREAD, TARGET = "task=mpe/simple_spread", "task=navigation/target"
BALANCE = "task=vmas/balance task.max_steps=20"
LEARNED = "algorithm.joint.graph=learned"
GRAPH = "model=informarl task.kwargs.information=local"
OFF_POLICY = "algorithm.warmup=20 algorithm.frames_per_update=20 algorithm.batch_size=32"
FAMILIES = {
    "mappo": f"{SPREAD} algorithm=mappo algorithm.minibatch_size=20",
    "mappo-continuous": f"{BALANCE} algorithm=mappo",
    "ippo-gru": f"{SPREAD} algorithm=ippo model=gru algorithm.chunk_length=5",
    "happo": f"{SPREAD} algorithm=happo",
    "hasac": f"{SPREAD} algorithm=hasac {OFF_POLICY}",
    "masac-continuous": f"{BALANCE} algorithm=masac {OFF_POLICY} algorithm.n_step=3",
    "maddpg": f"task=mpe/simple_tag algorithm=maddpg {OFF_POLICY} algorithm.inference=true",
    "matd3-continuous": f"{BALANCE} algorithm=matd3 {OFF_POLICY}",
    "joint": f"{SPREAD} algorithm=mappo {LEARNED} algorithm.joint.anneal=true",
    "joint-aloha": f"task=games/aloha algorithm=mappo {LEARNED}",
    "joint-masac": f"{SPREAD} algorithm=masac {OFF_POLICY} {LEARNED}",
    "foraging": "task=foraging/2s-8x8-3p-2f algorithm=mappo algorithm.critic=state",
    "informarl": f"{TARGET} {GRAPH} algorithm=mappo",
    "informarl-sparse": f"{TARGET} {GRAPH} algorithm=mappo model.form=sparse",
    "two-teams": "task=mpe/simple_tag algorithm=mappo teams.agent.algorithm=random",
}  # fmt: skip


def run_of(directory: Path, words: str, device: torch.device, **more: Any) -> Experiment:
    """An experiment of two iterations of 40 frames."""
    given = {
        "num_envs": 4, "steps": 10, "total_frames": 80, "evaluation_episodes": 2,
        "video": "false", "progress": "false", "directory": directory, "device": device,
        "model.hidden": "[16]", "execution": "eager", **more,
    }  # fmt: skip
    settings = [*words.split(), *(f"{name}={value}" for name, value in given.items())]
    return compose.build(compose.composed(settings))


def module_tensors(team: Any) -> list[Tensor]:
    """The parameters and buffers of all networks of an algorithm, and its optimizers' moments."""
    return [x for x in tree_tensors(team.state_dict()) if x.dtype.is_floating_point]


# ---------------------------------------------------------------------------------- runs on the GPU


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_on_the_gpu(tmp_path: Path, family: str) -> None:
    """Everything it computes with lies on the device and is finite, and it learns."""
    run = run_of(tmp_path / "run", FAMILIES[family], DEVICE)
    before = [x.clone() for team in run.teams.values() for x in module_tensors(team)]
    returns = run.run()
    after = [x for team in run.teams.values() for x in module_tensors(team)]
    stored = [*tree_tensors(run.collector.storage.rollout), *tree_tensors(run.collector.obs)]
    if run.replay is not None:
        stored += tree_tensors((run.replay.storage, run.replay.successors.rows))
    run.close()
    assert {x.device.type for x in [*after, *stored]} == {DEVICE.type}
    assert all(x.isfinite().all() for x in after)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    assert all(len(each) == 2 for each in returns.values())


@pytest.mark.parametrize("task", ["mpe/simple_spread", "games/aloha", "vmas/navigation"])
def test_a_run_on_the_gpu_resumes(tmp_path: Path, task: str) -> None:
    """Without its last checkpoint, a run plays its last part again."""
    directory = tmp_path / "run"
    experiment(directory, task, device=str(DEVICE)).run()
    whole = outcome(directory)
    last = Checkpoints(directory / "checkpoints").last()
    assert last is not None
    last.unlink()
    Experiment.load(directory).run()
    again = outcome(directory)
    pairs = zip(whole["teams"], again["teams"], strict=True)
    assert all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in pairs)


# ------------------------------------------------------------------------------ captured runs


@pytest.mark.parametrize("family", [f for f in FAMILIES if "vmas" not in FAMILIES[f]])
def test_a_captured_run_computes_what_an_eager_one_does(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both draw their random numbers ahead; three iterations, of which the last two replay."""
    if DEVICE.type == "cpu":
        use_fake_graphs(monkeypatch)
        monkeypatch.setattr(execution, "resolve", lambda word, env: word)
    one, other = (
        run_of(tmp_path / word, FAMILIES[family], DEVICE, execution=word)
        for word in ("eager", "captured")
    )
    one.collector.program = RolloutProgram(
        one.env, one.teams, one.settings.steps, programs.eager, print  # type: ignore[arg-type]  # pure
    )  # fmt: skip
    for _ in range(3):
        for first, second in zip(iteration(one), iteration(other), strict=True):
            torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4, equal_nan=True)
    assert ("is eager" in capsys.readouterr().err) == (CUDA and "sparse" in family)


def iteration(run: Experiment) -> list[Tensor]:
    """Plays and learns; returns the rollout, and the state of the teams."""
    with run.process.use():
        rollout, _ = run.collector.collect()
        tensors = [x.clone() for x in tree_tensors(rollout)]
        run.learn(rollout)
        return [*tensors, *(x.clone() for team in run.teams.values() for x in module_tensors(team))]


# ------------------------------------------------------------------------- the GPU beside the CPU


@pytest.fixture
def same_numbers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """All devices draw the same random numbers, the CPU's; to call it begins them anew."""
    drawn = torch.Generator()

    def on_the_cpu(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def draw(*args: Any, generator: Any = None, device: Any = None, **more: Any) -> Tensor:
            return function(*args, generator=drawn, **more).to(device)

        return draw

    for name in ("rand", "randn", "randint", "randperm"):
        monkeypatch.setattr(torch, name, on_the_cpu(getattr(torch, name)))
    plain = distributions.gumbel

    def gumbel(batch: Any, generator: torch.Generator) -> Tensor:
        return plain(batch, drawn).to(generator.device)

    monkeypatch.setattr(distributions, "gumbel", gumbel)
    monkeypatch.setattr("marl.policies.dag.gumbel", gumbel)
    return lambda: drawn.manual_seed(0) and None


def moved(tree: Any, device: torch.device) -> Any:
    return tree_map(lambda x: x.to(device), tree)


ALIKE = ("mappo", "mappo-continuous", "ippo-gru", "happo", "hasac", "masac-continuous", "maddpg")


@pytest.mark.parametrize("family", [*ALIKE, "matd3-continuous", "joint", "informarl"])
def test_an_update_on_the_gpu_is_the_cpus(
    tmp_path: Path, family: str, same_numbers: Callable[[], None]
) -> None:
    """From the same weights, rollout and random numbers to the same weights."""
    words, rollout = FAMILIES[family], None
    learned: list[list[Tensor]] = []
    for device in (CPU, DEVICE):
        same_numbers()
        run = run_of(tmp_path / f"{len(learned)}", words, device)
        same_numbers()
        if rollout is None:
            rollout = tree_map(torch.clone, run.collector.collect()[0])
        same_numbers()
        before = [x.clone() for team in run.teams.values() for x in module_tensors(team)]
        run.learn(moved(rollout, device))
        after = [x for team in run.teams.values() for x in module_tensors(team)]
        learned.append([(a - b).cpu() for a, b in zip(after, before, strict=True)])
        run.close()
    for cpu, gpu in zip(*learned, strict=True):
        assert (gpu - cpu).norm() <= 5e-3 * cpu.norm() + 1e-6


WORLDS = ("mpe/simple_spread", "mpe/simple_world_comm", "mpe/simple_formation", "navigation/target")


@pytest.mark.parametrize("task", WORLDS)
def test_worlds_on_the_gpu_are_the_cpus(task: str) -> None:
    """Step by step from the same states, by the same actions and random numbers, restarts too."""
    worlds: list[Any] = [Task(task)(16, device) for device in (CPU, DEVICE)]
    random = torch.Generator().manual_seed(0)
    obs = worlds[0].reset(0)
    for step in range(30):
        action = {n: random_action(g, obs.groups[n], random) for n, g in worlds[0].groups.items()}
        numbers = [torch.rand(16, 4096, generator=random) for _ in range(2)]
        (cpu, obs), (gpu, _) = (stepped(w, worlds[0], step, action, numbers) for w in worlds)
        for a, b in zip(tree_tensors(cpu), tree_tensors(gpu), strict=True):
            assert b.device.type == DEVICE.type
            assert torch.allclose(a.float(), b.cpu().float(), rtol=1e-4, atol=1e-5)
        worlds[0].state = cpu[-1]


def stepped(world: Any, first: Any, step: int, action: Any, numbers: Any) -> tuple[Any, Any]:
    """What a step and a restart in every third world make of the ``first`` world's state."""
    assert isinstance(world, ParticleEnv)
    state, action, (events, begins) = moved((first.state, action, numbers), world.device)
    told = world.advance(state, action, events[:, : world.scenario.event_noise])
    done = (torch.arange(world.num_envs, device=world.device) + step) % 3 == 0
    after, obs = world.restart(told[0], done, begins[:, : world.scenario.noise_size])
    return (told, obs, after), obs


def test_compiled_worlds_are_eager_ones_on_the_gpu(tmp_path: Path) -> None:
    compiled_is_eager(tmp_path, "task.kwargs.compile")


@pytest.mark.skipif(TORCH < (2, 13), reason="compiled learning needs torch 2.13")
def test_compiled_learning_is_eager_on_the_gpu(tmp_path: Path) -> None:
    compiled_is_eager(tmp_path, "algorithm.compile")


def compiled_is_eager(tmp_path: Path, switch: str) -> None:
    """An iteration from the same seed ends at the same weights."""
    learned = []
    for word in ("false", "true"):
        more = {switch: word, "algorithm.epochs": 2}
        run = run_of(tmp_path / word, FAMILIES["mappo"], DEVICE, **more)
        run.learn(run.collector.collect()[0])
        learned.append([x for team in run.teams.values() for x in module_tensors(team)])
        run.close()
    for eager, compiled in zip(*learned, strict=True):
        assert torch.allclose(eager, compiled, rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------------------- nothing waits


@contextmanager
def sync_mode(inside: str, after: str) -> Iterator[None]:
    """CUDA refuses whatever makes the host wait where the mode is ``error``."""
    if CUDA:
        torch.cuda.set_sync_debug_mode(inside)
    try:
        yield
    finally:
        if CUDA:
            torch.cuda.set_sync_debug_mode(after)


no_waiting = partial(sync_mode, "error", "default")
waiting_allowed = partial(sync_mode, "default", "error")


QUIET = ("mappo", "ippo-gru", "joint", "joint-aloha", "informarl", "joint-masac", "maddpg")


@pytest.mark.parametrize("scenario", ["het_mass", "simple", "simple_adversary", "vel_control"])
def test_steps_of_vmas_do_not_wait_for_the_gpu(scenario: str) -> None:
    """In scenarios that do not read the device themselves; the first step prepares what stays."""
    env = VmasEnv(scenario, 4, DEVICE, max_steps=6)
    obs, generator = env.reset(0), torch.Generator(DEVICE)
    action = {n: random_action(g, obs.groups[n], generator) for n, g in env.groups.items()}
    env.step(action)
    with no_waiting():
        ends = [env.step(action).done for _ in range(4)]
    assert not torch.stack(ends).any()
    assert env.step(action).done.all()


@pytest.mark.parametrize("part", ["collect", "learn"])
@pytest.mark.parametrize("family", QUIET)
def test_nothing_waits_for_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, part: str
) -> None:
    """Neither collecting nor learning, after a first time: where it fails, the trace tells what
    waited. Only the check of a rollout does, once, for nothing may be learned before."""
    run = run_of(tmp_path / "run", FAMILIES[family], DEVICE)
    run.learn(run.collector.collect()[0])
    rollout = run.collector.collect()[0]
    run.learn(rollout)
    checks: list[bool] = []

    def check(tensors: Iterable[Tensor]) -> bool:
        with waiting_allowed():
            checks.append(all_finite(tensors))
        return checks[-1]

    monkeypatch.setattr(finite, "all_finite", check)
    with no_waiting():
        if part == "collect":
            run.collector.collect()
        else:
            run.learn(rollout)
    assert len(checks) == (part == "collect")
    run.close()
