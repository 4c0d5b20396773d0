"""What HASAC's and MASAC's greedy policies earn in the climbing game."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from _common import Bars, Panel, group, read, table

ACTORS = {"hasac": "HASAC, one after another", "masac": "MASAC, together"}
LOSSES = {"exact": "exact expectations", "sampled": "sampled losses, straight through"}


def returns() -> dict[tuple[str, str], list[float]]:
    cells = group(read("climbing", "runs"), "algorithm", "losses")
    return {(a, b): [float(row["return"]) for row in rows] for (a, b), rows in cells.items()}


def tables() -> dict[str, str]:
    rows = []
    for algorithm, name in ACTORS.items():
        counts = [Counter(returns()[algorithm, losses]) for losses in LOSSES]
        words = [
            ", ".join(f"{value:g} in {n} of {count.total()}" for value, n in count.most_common())
            for count in counts
        ]
        rows.append([name, *words])
    return {"returns": table(["actors", *LOSSES.values()], rows)}


def panels() -> Sequence[Panel]:
    found = returns()
    return [
        Bars(
            "climbing, 20 seeds (optimum 11)",
            "greedy return",
            [name.split(",")[0] for name in ACTORS.values()],
            {LOSSES[losses]: [found[name, losses] for name in ACTORS] for losses in LOSSES},
        )
    ]
