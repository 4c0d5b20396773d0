"""Policies that are inferred from the others' actions, beside the true ones."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Sequence

from _common import Line, Lines, Panel, Row, mean_error, means, read, table

KINDS = {  # beginning of the runs' names -> what the others' policies are taken to be
    "deception-mm": "true",
    "inference": "inferred",
    "true-deception-slow": "true, actors at 1e-3",
    "inference-slow": "inferred, actors at 1e-3, beliefs at 1e-2",
}
SIDES = ("agent", "adversary")


def rows_of(name: str, prefix: str) -> list[Row]:
    return [row for row in read("inference", name) if row["run"].rpartition("-")[0] == prefix]


def frames(run: Row) -> list[int]:
    spec = run["frames"]
    return [spec["first"] + spec["step"] * i for i in range(spec["count"])]


def divergences(runs: list[Row]) -> list[str]:
    """Returns the agents' / the adversary's KL at four moments, means over runs."""
    moments = []
    for run in runs:
        at = [bisect_left(frames(run), when) for when in (0, 1e5, 5e5)]
        moments.append([
            [*(run[side][i] for i in at), statistics.fmean(run[side][-20:])] for side in SIDES
        ])  # fmt: skip
    return [
        " / ".join(
            f"{statistics.fmean(run[side][i] for run in moments):.2f}".removeprefix("0")
            for side in range(2)
        )
        for i in range(4)
    ] if runs else [""] * 4  # fmt: skip


def tables() -> dict[str, str]:
    rows = []
    for prefix, kind in KINDS.items():
        runs = rows_of("runs", prefix)
        returns = [mean_error(means(runs, f"return_{side}")) for side in SIDES]
        success = [f"{statistics.fmean(means(runs, f'{side}_success', 100)):.1f}" for side in SIDES]
        kl = divergences(rows_of("divergence", prefix))
        rows.append([kind, len(runs), *returns, " / ".join(success), *kl])
    header = ["others' policies", "seeds", "return of agents", "of adversary"]
    header += ["agents' / adversary's success %", "KL first", "at 0.1M", "0.5M", "the last 20"]
    return {"inference": table(header, rows)}


def panels() -> Sequence[Panel]:
    return [
        Lines(
            KINDS[prefix],
            "million frames",
            "KL(true, inferred), nats",
            [
                Line(
                    [frame / 1e6 for frame in frames(run)[::4]],
                    run[side][::4],
                    f"what the {side}s infer" if side == "agent" else f"what the {side} infers",
                )
                for run in rows_of("divergence", prefix)
                for side in SIDES
            ],
        )
        for prefix in ("inference", "inference-slow")
    ]
