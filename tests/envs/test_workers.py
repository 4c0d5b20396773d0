"""Worker processes: the same numbers as in-process, and no way of ending badly in silence."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from marl.env import check_env
from marl.envs.pettingzoo import env as pettingzoo
from marl.envs.pettingzoo import workers
from marl.envs.pettingzoo.env import PettingZooEnv
from marl.envs.pettingzoo.workers import Workers
from marl.errors import UserError, WorkerError
from marl.types import tree_tensors
from tests.helpers.scripted_envs import Counting

ROOT = Path(__file__).parents[2]


def failing(how: str, **kwargs: int) -> PettingZooEnv:
    return PettingZooEnv(functools.partial(Counting, fail=how, **kwargs), 4, workers=2)


def actions(steps: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 4, shape, generator=generator) for _ in range(steps)]


def trajectory(env: PettingZooEnv) -> list[object]:
    seen: list[object] = [env.reset(4)]
    seen += [env.step({"agent": action}) for action in actions(12, env.num_envs, 2)]
    env.close()
    return seen


def pids(env: PettingZooEnv) -> list[int]:
    assert isinstance(env._runner, Workers)
    return [worker.process.pid for worker in env._runner._workers]


def running(pid: int) -> bool:
    """Whether the process lives: neither gone nor a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until_gone(numbers: list[int], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(running(pid) for pid in numbers):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_workers_give_exactly_what_one_process_gives() -> None:
    here, there = (
        trajectory(PettingZooEnv(Counting, 5, state=True, max_steps=4, workers=count))
        for count in (0, 2)
    )
    assert pytree.tree_structure(here) == pytree.tree_structure(there)
    for one, other in zip(tree_tensors(here), tree_tensors(there), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_mpe2_in_workers() -> None:
    env = pettingzoo.make("mpe2/simple_tag", 3, workers=2, num_obstacles=1)
    check_env(env, steps=30)
    assert env.render(2).shape == (700, 700, 3)
    env.close()


def test_render_asks_the_worker_that_has_the_copy() -> None:
    env = PettingZooEnv(Counting, 3, workers=2)
    env.reset(0)
    env.step({"agent": torch.zeros(3, 2, dtype=torch.int64)})
    for index in range(3):
        assert np.array_equal(env.render(index), np.ones((4, 6, 3), np.uint8))
    with pytest.raises(IndexError):
        env.render(3)
    env.close()


def test_close_ends_the_workers_and_can_be_repeated() -> None:
    env = PettingZooEnv(Counting, 2, workers=2)
    numbers = pids(env)
    env.reset(0)
    env.close()
    env.close()
    assert wait_until_gone(numbers)
    with pytest.raises(WorkerError, match="closed"):
        env.reset(0)


def test_forgotten_workers_end_with_their_owner() -> None:
    env = PettingZooEnv(Counting, 2, workers=2)
    numbers = pids(env)
    del env
    assert wait_until_gone(numbers)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raise", "ZeroDivisionError: the scripted failure"),
        ("torch", "imported: False"),  # which would cost each worker seconds and memory
        ("exit", "SystemExit: the scripted exit"),
        ("kill", "was killed by SIGKILL"),
        ("leave", "exited with 3"),
    ],
)
def test_a_failing_environment_is_raised_with_its_reason(how: str, words: str) -> None:
    env = failing(how)  # seeds 0 2 4 6: the last copy fails, in the second worker
    numbers = pids(env)
    env.reset(0)
    action = {"agent": torch.zeros(4, 2, dtype=torch.int64)}
    env.step(action)
    with pytest.raises(WorkerError, match=words) as caught:
        env.step(action)
    if how == "raise":
        assert "scripted_envs.py" in str(caught.value)  # the traceback of the environment
    assert wait_until_gone(numbers)
    with pytest.raises(WorkerError):
        env.step(action)
    env.close()


def test_a_killed_worker_is_noticed_within_a_second() -> None:
    env = failing("hang", where=2)  # the first worker never answers, the second one is killed
    env.reset(2)
    action = {"agent": torch.zeros(4, 2, dtype=torch.int64)}
    env.step(action)
    killed: list[float] = []

    def kill() -> None:
        time.sleep(0.3)
        killed.append(time.monotonic())
        os.kill(pids(env)[1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    second = pids(env)[1]
    os.kill(second, signal.SIGSTOP)  # so that it dies in the midst of the step
    thread.start()
    with pytest.raises(WorkerError, match="SIGKILL"):
        env.step(action)
    noticed = time.monotonic() - killed[0]
    thread.join()
    assert noticed < 1.0 + workers.CLOSE_TIMEOUT  # which includes ending the one that hangs
    assert wait_until_gone(pids(env))


def test_a_hanging_worker_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    env = failing("hang")
    env.reset(0)
    env.step({"agent": torch.zeros(4, 2, dtype=torch.int64)})
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    monkeypatch.setattr(workers, "CLOSE_TIMEOUT", 0.1)
    with pytest.raises(WorkerError, match="did not reply"):
        env.step({"agent": torch.zeros(4, 2, dtype=torch.int64)})
    assert wait_until_gone(pids(env))


PARENT = """
    import sys, time, torch
    from marl.envs.pettingzoo.env import PettingZooEnv
    from tests.helpers.scripted_envs import Counting
    env = PettingZooEnv(Counting, 4, workers=2)
    env.reset(0)
    pids = [w.process.pid for w in env._runner._workers]
    action = {"agent": torch.zeros(4, 2, dtype=torch.int64)}
"""
STEP_ALWAYS = """
print(*pids, flush=True)
while True:
    env.step(action)
"""
SURVIVE_CTRL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits none
try:
    print(*pids, flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    env.step(action)
    print("stepped", flush=True)
"""


def start_parent(then: str) -> tuple[subprocess.Popen[str], list[int]]:
    code = textwrap.dedent(PARENT) + then
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    return parent, [int(pid) for pid in parent.stdout.readline().split()]


def test_a_killed_parent_leaves_no_orphan() -> None:
    parent, numbers = start_parent(STEP_ALWAYS)
    assert len(numbers) == 2 and all(map(running, numbers))
    parent.kill()
    _, errors = parent.communicate()
    assert wait_until_gone(numbers)
    assert errors == ""


def test_ctrl_c_and_sigterm_reach_the_parent_only() -> None:
    parent, numbers = start_parent(SURVIVE_CTRL_C)
    for pid in numbers:
        os.kill(pid, signal.SIGTERM)
    os.killpg(parent.pid, signal.SIGINT)
    output, errors = parent.communicate(timeout=30)
    assert (output.strip(), errors, parent.returncode) == ("stepped", "", 0)
    assert wait_until_gone(numbers)


def test_factories_that_no_other_process_can_import() -> None:
    with pytest.raises(UserError, match="workers cannot import"):
        PettingZooEnv(lambda: Counting(), 2, workers=2)


def test_more_workers_than_copies() -> None:
    env = PettingZooEnv(Counting, 2, workers=5)
    assert len(pids(env)) == 2
    env.close()
