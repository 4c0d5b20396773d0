"""Environment copies in worker processes, which share one block of memory with this one.

No array is pickled between steps: the parent writes actions, wakes every worker with a few bytes
over a socket, and reads the results. The memory has no name (memfd), so it is freed with the last
process, however that ends. A worker exits when the socket closes or its parent changes. It ignores
SIGINT and SIGTERM, so that the parent decides what they mean. Workers are plain ``python -c``
processes: multiprocessing would import the parent's main module into them, and torch with it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import mmap
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterable, Sequence

import numpy as np

from marl.envs.pettingzoo.layout import Arena, Factory, Layout, allocate, size_of
from marl.envs.pettingzoo.report import Report, merge_reports
from marl.envs.pettingzoo.worker import (
    CANNOT_DRAW,
    CLOSE,
    ERROR,
    REFUSAL,
    RENDER,
    RESET,
    START,
    STEP,
    Channel,
    Gone,
)
from marl.errors import EnvironmentFault, UserError, WorkerError

POLL = 0.5  # seconds between checks that the workers are alive
PATIENCE = 600.0  # seconds without a reply until a worker counts as hung
CLOSE_TIMEOUT = 2.0  # seconds in which the workers have to close their environments
BOOT = """
import sys
sys.path[:] = {path!r}
from marl.envs.pettingzoo.worker import main
main({connection}, {memory}, {parent})
"""


class Worker:
    """One worker process, and the channel to it.

    Args:
        memory: file descriptor of the shared memory.
    """

    def __init__(self, memory: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = _start_process(theirs.fileno(), memory)
        self.channel = Channel(ours)

    def send(self, kind: bytes, payload: bytes) -> None:
        """Sends one request.

        Args:
            kind: one byte.
            payload: any bytes.

        Raises:
            WorkerError: the process has ended.
        """
        try:
            self.channel.send(kind, payload)
        except Gone:
            raise WorkerError(self.exit_reason()) from None

    def receive(self) -> bytes:
        """Returns the payload of the reply.

        Raises:
            EnvironmentFault: the environment gave what cannot be learned from.
            WorkerError: the environment failed, or the process has ended.
        """
        try:
            kind, payload = self.channel.receive()
        except Gone:
            raise WorkerError(self.exit_reason()) from None
        if kind == REFUSAL:
            raise EnvironmentFault(payload.decode())
        if kind == ERROR:
            failure = f"an environment failed in worker process {self.process.pid}"
            raise WorkerError(f"{failure}:\n{payload.decode(errors='replace')}")
        return payload

    def exit_reason(self) -> str:
        """Returns how the process ended, in words."""
        try:
            code = self.process.wait(POLL)  # its socket closes a moment before it can be waited for
        except subprocess.TimeoutExpired:
            return f"worker process {self.process.pid} closed its socket"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        return f"worker process {self.process.pid} {how}"


class Workers:
    """Runs the copies of ``layout`` in ``count`` processes, which share ``arrays``.

    Every method raises WorkerError or EnvironmentFault once a worker has failed; all workers are
    ended then.

    Args:
        make: makes one environment; importable by name, or a ``partial`` of such.
        layout: sizes of the arrays, and encoders and decoders of every agent.
        count: number of processes.
        seed: of global random numbers that are drawn while the copies are made.

    Raises:
        UserError: a factory that no other process can import, or Windows.
    """

    def __init__(self, make: Factory, layout: Layout, count: int, seed: int = 0) -> None:
        if sys.platform == "win32":
            raise UserError("task.workers does not work on Windows; leave task.workers=0")
        edges = (
            np.linspace(0, layout.num_envs, min(count, layout.num_envs) + 1).astype(int).tolist()
        )
        self._rows = [range(a, b) for a, b in itertools.pairwise(edges)]
        starts = [_pickled(make, layout, rows, seed) for rows in self._rows]
        self._workers: list[Worker] = []
        self._stop = weakref.finalize(self, _stop, self._workers, os.getpid())
        self._ready = True
        memory = _anonymous_memory(size_of(layout))
        try:
            self.arrays = allocate(layout, Arena(mmap.mmap(memory, size_of(layout))))
            for _ in self._rows:
                self._workers.append(Worker(memory))
        finally:
            os.close(memory)
        self._ask(START, self._workers, starts)

    def reset(self) -> Report:
        return self._report(RESET)

    def step(self) -> Report:
        return self._report(STEP)

    def _report(self, kind: bytes) -> Report:
        replies = self._ask(kind, self._workers)
        return merge_reports(pickle.loads(reply) for reply in replies if reply)

    def render(self, index: int) -> np.ndarray:
        owners = [w for w, rows in zip(self._workers, self._rows, strict=True) if index in rows]
        return pickle.loads(self._ask(RENDER, owners, [str(index).encode()])[0])

    def cannot_draw(self) -> str:
        return self._ask(CANNOT_DRAW, self._workers[:1])[0].decode()

    def close(self) -> None:
        self._ready = False
        self._stop()

    def _ask(
        self, kind: bytes, workers: Sequence[Worker], payloads: Sequence[bytes] = ()
    ) -> list[bytes]:
        """Sends every worker a request and waits for all replies, in the workers' order."""
        if not self._ready:
            raise WorkerError(
                "the workers were closed, or interrupted in the middle of a step; make the "
                "environment again"
            )
        self._ready = False  # until all have replied, and for good where that is interrupted
        try:
            for worker, payload in zip(workers, payloads or [b""] * len(workers), strict=True):
                worker.send(kind, payload)
            replies = _collect(workers)
        except (WorkerError, UserError):
            self._stop()
            raise
        self._ready = True
        return replies


def _collect(workers: Sequence[Worker]) -> list[bytes]:
    """Waits for a reply of every worker; returns them in the workers' order."""
    waiting = {worker.channel.fileno(): worker for worker in workers}
    poller = select.poll()
    for descriptor in waiting:
        poller.register(descriptor, select.POLLIN)
    replies: dict[Worker, bytes] = {}
    silence = 0.0  # counted in polls, so that a suspended parent's time does not count
    while waiting:
        events = poller.poll(POLL * 1000)
        for descriptor, _ in events:
            poller.unregister(descriptor)
            worker = waiting.pop(descriptor)
            replies[worker] = worker.receive()
        silence = 0.0 if events else silence + POLL
        if silence:
            _check_alive(waiting.values(), silence)
    return [replies[worker] for worker in workers]


def _check_alive(workers: Iterable[Worker], silence: float) -> None:
    """Raises WorkerError for a worker that ended while some other process keeps its socket open, or
    that hangs."""
    for worker in workers:
        if worker.process.poll() is not None:
            raise WorkerError(worker.exit_reason())
        if silence > PATIENCE:
            raise WorkerError(
                f"worker process {worker.process.pid} did not reply for {PATIENCE:.0f} s"
            )


def _stop(workers: list[Worker], owner: int) -> None:
    """Asks all workers to exit, and kills those that do not; does nothing in a fork of the
    parent."""
    if os.getpid() != owner:
        return
    for worker in workers:
        with contextlib.suppress(Gone):
            worker.channel.send(CLOSE)
    deadline = time.monotonic() + CLOSE_TIMEOUT
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        worker.channel.close()


def _start_process(connection: int, memory: int) -> subprocess.Popen[bytes]:
    environ = {"SDL_VIDEODRIVER": "dummy", **os.environ}  # pygame without a display
    environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # Blocked signals stay blocked in the child: Ctrl-C does not even interrupt its start.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _boot_code(connection, memory)],
            stdin=subprocess.DEVNULL,
            pass_fds=(connection, memory),
            env=environ,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _boot_code(connection: int, memory: int) -> str:
    """Returns the Python code that a worker runs."""
    return BOOT.format(path=sys.path, connection=connection, memory=memory, parent=os.getpid())


def _anonymous_memory(size: int) -> int:
    """Returns a file descriptor of ``size`` bytes of shared memory without a name, all zero."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("marl-environments")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _pickled(make: Factory, layout: Layout, rows: range, seed: int) -> bytes:
    """Returns what a worker starts from; raises UserError where it could not import the factory."""
    function = make
    while isinstance(function, functools.partial):
        function = function.func
    try:
        if getattr(function, "__module__", None) == "__main__":
            raise pickle.PicklingError("it is defined in the script that was started")
        return pickle.dumps((make, layout, rows, seed))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"workers cannot import the environment's factory {make!r}: {error}; expected a "
            "function of an importable module, or a functools.partial of one"
        ) from error
