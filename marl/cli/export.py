"""The command ``marl export``."""

from __future__ import annotations

from argparse import Namespace

from marl.deployment import export as exporting


def export(options: Namespace) -> int:
    """Runs ``marl export``: writes the files and prints where they are.

    Returns:
        The exit code.
    """
    words = options.run, options.format, options.out, options.checkpoint, options.team
    files = exporting.export(*words)
    for file in files:
        checked = (
            "weights alone, read back equal"
            if file.difference is None
            else f"differs from the policy by at most {file.difference:.1g} on "
            f"{exporting.CHECKED} observations"
        )
        print(f"written  {file.path}   {checked}")
    print(f"card     {files[0].path.parent / 'card.json'}")
    return 0
