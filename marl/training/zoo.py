"""The zoo: trained policies by name, kept beside their records in ``results/``.

``zoo:mpe/spread/hasac`` is the best policy of the first seed of that row of the suite ``mpe``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from marl.errors import UserError, unknown
from marl.training import policy_file

PREFIX = "zoo:"


def is_name(run: str | Path) -> bool:
    """Returns whether ``run`` names a policy of the zoo."""
    return str(run).startswith(PREFIX)


def find(name: str | Path) -> Path:
    """Returns the policy file of a name, which lies in the folder of its record.

    Args:
        name: ``zoo:SUITE/TASK/ALGORITHM``.

    Raises:
        UserError: there is no such policy, or no folder of results.
    """
    text = str(name).removeprefix(PREFIX).strip("/")
    policies = dict(names())
    if not policies:
        places = " or ".join(repr(str(folder)) for folder in folders())
        raise UserError(
            f"{str(name)!r}: no policies in {places}; the zoo is part of a checkout of marl, so "
            "run this there, or give the folder of a record"
        )
    if text not in policies:
        raise unknown("policy of the zoo", text, policies)
    return policies[text]


def names() -> Iterator[tuple[str, Path]]:
    """Yields every policy's name, without ``zoo:``, and its file."""
    for folder in folders():
        for path in sorted(folder.glob(f"*/*/*/seed_*/{policy_file.NAME}")):
            yield "/".join(path.parts[-5:-2]), path


def folders() -> list[Path]:
    """Returns the folders of results: of the checkout that marl is imported from, then
    ``results/`` here."""
    checkout = Path(__file__).resolve().parents[2] / "results"
    here = Path("results").absolute()
    return [checkout] if checkout == here else [checkout, here]
