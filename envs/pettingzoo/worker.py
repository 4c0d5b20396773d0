"""Worker process of ``marl.envs.pettingzoo.workers``, and the channel to its parent."""

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
from marl.envs.pettingzoo.layout import Arena, allocate
from marl.errors import UserError

# The parent's requests.
START, RESET, STEP, RENDER, CANNOT_DRAW, CLOSE = b"S", b"r", b"s", b"v", b"w", b"c"
DONE, ERROR, REFUSAL = b"d", b"e", b"u"  # a worker's replies
HEADER = struct.Struct("!cQ")  # kind, length of the payload
WATCH = 0.5  # seconds between checks that the parent is alive


class Gone(Exception):
    """The other end of a channel has closed."""


class Channel:
    """Messages over a stream socket: one byte of kind, then a payload of any bytes.

    Every method raises Gone where the other end has closed.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Sends one message; returns when it is written.

        Args:
            kind: one byte.
            payload: any bytes.
        """
        try:
            self._socket.sendall(HEADER.pack(kind, len(payload)) + payload)
        except OSError as error:
            raise Gone from error

    def receive(self) -> tuple[bytes, bytes]:
        """Waits for one message; returns its kind and payload."""
        kind, length = HEADER.unpack(self._read(HEADER.size))
        return kind, self._read(length) if length else b""

    def close(self) -> None:
        """Closes this end."""
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
    """Serves the parent until it sends CLOSE or exits.

    Args:
        connection: file descriptor of the socket.
        memory: file descriptor of the shared memory.
        parent: the parent's process id.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for descriptor in (connection, memory):  # an environment's processes must not keep them open
        os.set_inheritable(descriptor, False)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    channel = Channel(socket.socket(fileno=connection))
    try:
        _serve(channel, memory)
    except Gone:
        pass
    except UserError as error:  # its sentence is enough; no traceback
        _send_error(channel, REFUSAL, str(error))
    except BaseException:  # the parent shows it, whatever it is
        _send_error(channel, ERROR, traceback.format_exc())


def _serve(channel: Channel, memory: int) -> None:
    """Makes the copies, then answers requests until CLOSE."""
    make, layout, rows, seed = pickle.loads(channel.receive()[1])
    random.seed(seed + rows.start)  # Python's generator belongs to this process alone
    block = mmap.mmap(memory, 0)
    os.close(memory)
    copies = Copies(make, layout, allocate(layout, Arena(block)), rows, seed)
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
    if kind == CANNOT_DRAW:
        return copies.cannot_draw().encode()
    return b""


def _send_error(channel: Channel, kind: bytes, text: str) -> None:
    with contextlib.suppress(Gone):
        channel.send(kind, text.encode())


def _watch(parent: int) -> None:
    """Ends this process, whatever it is doing, when its parent is no longer ``parent``."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)
