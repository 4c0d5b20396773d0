"""Whose a run directory is. What its configuration names of other people's code is imported only
where this user made the run on this machine, or says that its author is to be trusted.

A run that is made here is signed with a key of this user's, which never leaves the cache; the
signature goes where the directory goes, and fits no other configuration. Importable without torch.
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

from marl.utils.files import write_atomic

SIGNATURE = ".signature"  # the file in a run directory
KEY_BYTES = 32

_everything = ContextVar("everything", default=False)  # whether all run directories are trusted
_accepted: set[str] = set()  # configurations that this process trusts, by their checksums


@contextmanager
def given(trust: bool = True) -> Iterator[None]:
    """Trusts every run directory that is read within the block, and what was read there ever after
    in this process; with ``trust=False`` nothing changes."""
    before = _everything.set(trust or _everything.get())
    try:
        yield
    finally:
        _everything.reset(before)


def everything() -> bool:
    """Returns whether every run directory is trusted here."""
    return _everything.get()


def trusted(directory: Path, config: Any) -> bool:
    """Returns whether the run in ``directory``, with this configuration (as JSON tells it), may
    name code of others."""
    text = _canonical(config)
    checksum = hashlib.sha256(text).hexdigest()
    if everything():
        _accepted.add(checksum)
    return checksum in _accepted or signed(directory, config)


def signed(directory: Path, config: Any) -> bool:
    """Returns whether this user's signature of this configuration is in ``directory``."""
    key = _key(create=False)
    if key is None:
        return False
    wanted = _signature(key, config)
    return any(hmac.compare_digest(wanted, line) for line in _signatures(directory))


def sign(directory: Path, config: Mapping[str, Any]) -> None:
    """Signs a configuration that is about to be written to ``directory``; the one that it replaces
    stays signed, for the process may be killed in between. Where there is no place for a key,
    nothing is written."""
    key = _key(create=True)
    if key is not None:
        lines = [_signature(key, config), *_signatures(directory)[:1]]
        text = "".join(f"{line}\n" for line in dict.fromkeys(lines))
        write_atomic(directory / SIGNATURE, text.encode())


def forget_older(directory: Path) -> None:
    """Removes all signatures but the newest, whose configuration is written now."""
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
    """Reads this user's key, or makes it; None where there is none, or others could have read it or
    written it."""
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
    private = about.st_uid == os.getuid() and not about.st_mode & 0o077
    return key if private and len(key) == KEY_BYTES else None


def _key_file() -> Path | None:
    """``~/.cache/marl/key``, or where XDG_CACHE_HOME says; None for a user without a home."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "marl" / "key"


def _make_key(path: Path) -> None:
    """Writes a random key; of several processes at once the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f".key.{secrets.token_hex(8)}.tmp")
    file = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secrets.token_bytes(KEY_BYTES))
        os.fsync(file)
        os.link(own, path)
    except FileExistsError:
        pass
    finally:
        os.close(file)
        own.unlink(missing_ok=True)
