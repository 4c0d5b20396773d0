"""``marl``: the composition root. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from types import ModuleType

from marl.cli.arguments import flags_of, parser

# Each is imported only when it is called: some load torch, which takes seconds, and some need not.
COMMANDS = {
    "train": "marl.cli.commands:train",
    "resume": "marl.cli.commands:resume",
    "evaluate": "marl.cli.evaluate:evaluate",
    "export": "marl.cli.export:export",
    "list": "marl.cli.listing:names",
    "compare": "marl.cli.compare:compare",
    "record": "marl.cli.record:record",
    "check": "marl.cli.check_task:check",
    "speed": "marl.cli.commands:speed",
    "benchmark": "marl.cli.benchmark:run",
    "tables": "marl.cli.tables:tables",
    "sweep": "marl.cli.sweep:run",
    "new": "marl.cli.new:new",
}
# Commands whose settings may follow flags, which argparse by itself does not allow.
# With those of their flags that a path follows.
SEPARATE = {
    "list": (),
    "resume": (),
    "evaluate": ("--video", "--out", "--versus"),
    "check": ("--picture",),
    "speed": ("--json",),
    "sweep": ("--directory",),
}
POSIX_ONLY = ("benchmark", "sweep")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits; bad input ends in one sentence and exit code 2.

    Args:
        arguments: the words of the command line; None for ``sys.argv``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.path.append(os.getcwd())  # import paths like my_tasks:duel are looked up here last
    from marl.cli import warning_lines
    from marl.errors import UserError
    from marl.utils import trust
    from marl.utils.files import explanation

    warnings.formatwarning = warning_lines.line
    try:
        command, options = parse(words)
        _check_system(command)
        module, name = COMMANDS[command].split(":")
        run = getattr(_import(module), name)
        with trust.accept_all(getattr(options, "trust", False)):
            code = run(options)
        sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        print(f"marl: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if not (requirement := _requirement(error)):
            raise
        print(
            f"marl: this needs the package {error.name!r}, which is not installed; "
            f"install it: pip install '{requirement}'",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:  # training saves and returns this code by itself
        print("marl: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # as in `marl list tasks | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if not (reason := explanation(error)):
            raise
        print(f"marl: {reason}", file=sys.stderr)
        sys.exit(2)


def _import(module: str) -> ModuleType:
    """Returns an imported module.

    The garbage collector pauses meanwhile: imports make no garbage, and take a tenth longer with
    it.
    """
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


def parse(words: Sequence[str]) -> tuple[str, Namespace]:
    """Returns the command and its options.

    Raises:
        UserError: an unknown command or flag.
    """
    from marl.errors import unknown

    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        raise unknown("command", words[0], COMMANDS)
    if words[:1] == ["train"] and not {"-h", "--help"} & set(words):
        settings = [word for word in words[1:] if word != "--trust"]  # the rest is Hydra's
        return "train", Namespace(settings=settings, trust="--trust" in words)
    changes: list[int] = []
    if words and (flags := SEPARATE.get(words[0])) is not None:
        after = [i for i in range(1, len(words)) if words[i - 1] not in flags]
        changes = [i for i in after if _is_setting(words[i])]
    rest = [word for i, word in enumerate(words) if i not in changes]
    root = parser()
    options, others = root.parse_known_args(rest)
    if others and (others[0].startswith("--")):
        raise unknown("flag", others[0].partition("=")[0], flags_of(root, options.command))
    if others:
        root.error(f"unrecognized arguments: {' '.join(others)}")
    if changes:
        options.settings = [*options.settings, *(words[i] for i in changes)]
    return options.command, options


def _is_setting(word: str) -> bool:
    """Returns whether a word is KEY=VALUE, and not a path with = in its name."""
    return re.match(r"[\w.]+=", word) is not None and not os.path.exists(word)


def _check_system(command: str) -> None:
    """Raises UserError where the operating system cannot run the command."""
    from marl.errors import UserError

    if sys.platform == "win32" and command in POSIX_ONLY:
        raise UserError(
            f"'marl {command}' starts its runs in a way that Windows does not have; use Linux, "
            "macOS or WSL, or start each run with 'marl train'"
        )


def _requirement(error: ModuleNotFoundError) -> str:
    """Returns what to install for a missing package of ours; empty for any other package."""
    import importlib.metadata

    package = (error.name or "").split(".")[0].replace("_", "-").lower()
    try:
        known = importlib.metadata.requires("marl-groups") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that was never installed
        return ""
    names = (text.split(";")[0].strip() for text in known)
    return next((text for text in names if re.match(rf"{package}\b(?!-)", text)), "")
