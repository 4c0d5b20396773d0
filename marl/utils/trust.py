"""Trust in run directories. Importable without torch.

A configuration can name third-party code. It is imported only if this user made the run on this
machine, or says that the run's author is trusted.

A run that is made here is signed with a key of this user, which never leaves the cache directory.
The signature is copied and moved with the run directory, and is valid for this configuration only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from marl.utils.files import cache_directory, write_atomic

#: The file in a run directory that holds its signatures.
SIGNATURE = ".signature"
KEY_BYTES = 32

_accepts_all = ContextVar("accepts_all", default=False)  # whether all run directories are trusted
_accepted: set[str] = set()  # configurations that this process trusts, by their checksums


@contextmanager
def accept_all(trust: bool = True) -> Iterator[None]:
    """Trusts every run directory that is read within a block.

    The configurations that are read there are trusted until the process ends.

    Args:
        trust: False changes nothing.
    """
    before = _accepts_all.set(trust or _accepts_all.get())
    try:
        yield
    finally:
        _accepts_all.reset(before)


def accepts_all() -> bool:
    """Returns whether every run directory is trusted here, within a block of ``accept_all``."""
    return _accepts_all.get()


def trusted(directory: Path, config: Any) -> bool:
    """Returns whether a run may name third-party code.

    Args:
        directory: the run directory.
        config: the run's configuration, as JSON values.
    """
    text = _canonical(config)
    checksum = hashlib.sha256(text).hexdigest()
    if accepts_all():
        _accepted.add(checksum)
    return checksum in _accepted or signed(directory, config)


def signed(directory: Path, config: Any) -> bool:
    """Returns whether a run directory holds this user's signature of a configuration.

    Args:
        directory: the run directory.
        config: the configuration, as JSON values.
    """
    key = _key(create=False)
    if key is None:
        return False
    expected = _signature(key, config)
    return any(hmac.compare_digest(expected, line) for line in _signatures(directory))


def sign(directory: Path, config: Mapping[str, Any]) -> None:
    """Signs a configuration that is about to be written.

    The configuration that it replaces stays signed, because the process may be killed in between.
    If no key can be stored, nothing is written.

    Args:
        directory: the run directory.
        config: the new configuration, as JSON values.
    """
    key = _key(create=True)
    if key is not None:
        lines = [_signature(key, config), *_signatures(directory)[:1]]
        text = "".join(f"{line}\n" for line in dict.fromkeys(lines))
        write_atomic(directory / SIGNATURE, text.encode())


def forget_older(directory: Path) -> None:
    """Removes all signatures but the newest, after its configuration has been written."""
    if len(lines := _signatures(directory)) > 1:
        write_atomic(directory / SIGNATURE, f"{lines[0]}\n".encode())


def _signatures(directory: Path) -> list[str]:
    try:
        return (directory / SIGNATURE).read_bytes().decode("ascii").split()
    except (OSError, UnicodeDecodeError):
        return []


def _signature(key: bytes, config: Any) -> str:
    return hmac.digest(key, b"marl run\n" + _canonical(config), "sha256").hex()


def _canonical(config: Any) -> bytes:
    return json.dumps(config, sort_keys=True).encode()


# --------------------------------------------------------------------------------------------- key


def _key(create: bool) -> bytes | None:
    """Returns this user's key.

    None if it does not exist, or if other users could have read or written it.

    Args:
        create: make a key if none exists.
    """
    path = _key_file()
    if path is None:
        return None
    try:
        if create and not path.exists():
            _make_key(path)
        with open(path, "rb") as file:
            about = os.fstat(file.fileno())
            key = file.read(KEY_BYTES + 1)
    except OSError:
        return None
    if not hasattr(os, "getuid"):  # Windows, where profiles are private and modes mean nothing
        return key if len(key) == KEY_BYTES else None
    private = about.st_uid == os.getuid() and not about.st_mode & 0o077
    return key if private and len(key) == KEY_BYTES else None


def _key_file() -> Path | None:
    """Returns ``$XDG_CACHE_HOME/marl/key``, by default in ``~/.cache``; None without a home."""
    folder = cache_directory()
    return None if folder is None else folder / "key"


def _make_key(path: Path) -> None:
    """Writes a random key, unless another process has written one in the meantime."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".key.{secrets.token_hex(8)}.tmp")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secrets.token_bytes(KEY_BYTES))
        os.fsync(file)
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.close(file)
        temporary.unlink(missing_ok=True)
