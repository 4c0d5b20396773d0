"""The worker process's side of ``envs.pettingzoo.workers``, and the socket between the two."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import random
import signal
import socket
import struct
import threading
import time
import traceback

from marl.envs.pettingzoo.copies import Copies
from marl.envs.pettingzoo.layout import Arena, carve
from marl.errors import UserError

# The parent's requests.
START, RESET, STEP, RENDER, DRAWS, CLOSE = (
    b"S",
    b"r",
    b"s",
    b"v",
    b"w",
    b"c",
)
DONE, ERROR, REFUSAL = b"d", b"e", b"u"  # a worker's replies
HEADER = struct.Struct("!cQ")  # kind, length of what follows
WATCH = 0.5  # seconds between looks at whether the parent still lives


class Gone(Exception):
    """The other end of a channel has closed."""


class Channel:
    """Messages over a stream socket: one byte of kind, then any bytes."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        try:
            self._socket.sendall(HEADER.pack(kind, len(payload)) + payload)
        except OSError as error:
            raise Gone from error

    def receive(self) -> tuple[bytes, bytes]:
        kind, length = HEADER.unpack(self._read(HEADER.size))
        return kind, self._read(length) if length else b""

    def close(self) -> None:
        self._socket.close()

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._socket.recv(count - len(parts))
            except OSError as error:
                raise Gone from error
            if not part:
                raise Gone
            parts += part
        return bytes(parts)


def main(connection: int, memory: int, parent: int) -> None:
    """Serves the parent until it says so, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for descriptor in (
        connection,
        memory,
    ):  # an environment's own processes must not keep them open
        os.set_inheritable(descriptor, False)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    channel = Channel(socket.socket(fileno=connection))
    try:
        _serve(channel, memory)
    except Gone:
        pass
    except UserError as error:  # one sentence says it all
        _send_error(channel, REFUSAL, str(error))
    except BaseException:  # the parent shows it, whatever it is
        _send_error(channel, ERROR, traceback.format_exc())


def _serve(channel: Channel, memory: int) -> None:
    make, layout, rows, seed = pickle.loads(channel.receive()[1])
    random.seed(seed + rows.start)  # Python's, which is the process's alone
    block = mmap.mmap(memory, 0)
    os.close(memory)
    copies = Copies(make, layout, carve(layout, Arena(block)), rows, seed)
    channel.send(DONE)
    while True:
        kind, payload = channel.receive()
        if kind == CLOSE:
            return copies.close()
        channel.send(DONE, _answer(copies, kind, payload))


def _answer(copies: Copies, kind: bytes, payload: bytes) -> bytes:
    if kind == RESET:
        random.seed(int(copies.arrays.seed[copies.rows.start]))
    if kind in (STEP, RESET):
        report = copies.step() if kind == STEP else copies.reset()
        return pickle.dumps(report) if report else b""
    if kind == RENDER:
        return pickle.dumps(copies.render(int(payload)))
    if kind == DRAWS:
        return copies.cannot_draw().encode()
    return b""


def _send_error(channel: Channel, kind: bytes, text: str) -> None:
    with contextlib.suppress(Gone):
        channel.send(kind, text.encode())


def _watch(parent: int) -> None:
    """Ends this process when its parent is another one than at the start, whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)
