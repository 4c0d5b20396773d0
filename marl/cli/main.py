"""``marl``: the composition root. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import importlib
import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence

from marl.cli.arguments import parser

# Each is imported only when it is wanted: some load torch, which takes seconds, and some need not.
COMMANDS = {
    "train": "marl.cli.commands:train",
    "resume": "marl.cli.commands:resume",
    "evaluate": "marl.cli.evaluate:evaluate",
    "list": "marl.cli.commands:names",
    "speed": "marl.cli.commands:speed",
    "benchmark": "marl.cli.benchmark:run",
    "tables": "marl.cli.tables:tables",
    "sweep": "marl.cli.sweep:run",
}

SEPARATE = ("resume", "evaluate", "speed", "sweep")  # commands whose settings may follow flags


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; bad input ends in one sentence and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.path.append(os.getcwd())  # where import paths like my_tasks:duel are looked for last
    if words[:1] == ["train"] and not {"-h", "--help"} & set(words):
        settings = [word for word in words[1:] if word != "--trust"]
        command, options = "train", Namespace(settings=settings, trust="--trust" in words)
    else:
        # argparse takes settings behind the first word only
        separate = words[0] in SEPARATE if words else False
        changes = [word for word in words if separate and re.match(r"[\w.]+=", word)]
        options = parser().parse_args([word for word in words if word not in changes])
        command = options.command
        if separate:
            options.settings += changes
    from marl.errors import UserError
    from marl.utils import trust
    from marl.utils.files import explanation

    try:
        module, name = COMMANDS[command].split(":")
        run = getattr(importlib.import_module(module), name)
        with trust.accept_all(getattr(options, "trust", False)):
            code = run(options)
        sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        print(f"marl: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # as of `marl list tasks | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if not (reason := explanation(error)):
            raise
        print(f"marl: {reason}", file=sys.stderr)
        sys.exit(2)
