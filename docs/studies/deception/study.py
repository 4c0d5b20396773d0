"""Physical deception: success of MADDPG and DDPG on either side."""

from __future__ import annotations

from collections.abc import Sequence

from _common import Bars, Matrix, Panel, group, mean_error, means, read, table

NAMES = {"m": "MADDPG", "d": "DDPG"}
PAPER = {  # of Lowe et al. and of Google's replication
    "mm": ("94.4 / 39.2", "94.7 / 34.0"),
    "md": ("92.2 / 16.4 (or 32.8)", "94.8 / 31.9"),
    "dm": ("68.9 / 59.0", "44.6 / 34.0"),
    "dd": ("74.7 / 38.6", "52.5 / 35.6"),
}
SIDES = ("agent", "adversary")


def success() -> dict[str, dict[str, list[float]]]:
    """Returns pairing (the agents' letter first) -> side -> percent of every run."""
    runs = [{**row, "pairing": row["run"].split("-")[1]} for row in read("deception", "runs")]
    return {
        pairing: {side: means(rows, f"{side}_success", 100) for side in SIDES}
        for (pairing,), rows in group(runs, "pairing").items()
    }


def tables() -> dict[str, str]:
    header = ["agents", "adversary", "agents' success %", "adversary's success %"]
    rows = [
        [NAMES[pairing[0]], NAMES[pairing[1]], *map(mean_error, sides.values()), *PAPER[pairing]]
        for pairing, sides in success().items()
    ]
    return {"success": table([*header, "in the paper", "replicated by Google"], rows)}


def panels() -> Sequence[Panel]:
    found = success()
    names = [f"{NAMES[pairing[0]]} /\n{NAMES[pairing[1]]}" for pairing in found]
    values = {side: [sides[side] for sides in found.values()] for side in SIDES}
    cells = group(read("deception", "crossplay"), "row")
    runs = [name for (name,) in cells]
    return [
        Bars("success at an episode's end", "success, %", names, values, "agents / adversary"),
        Matrix(
            "agents' return in cross-play",
            [[cell["return_agent"] for cell in row] for row in cells.values()],
            [name.removeprefix("deception-") for name in runs],
            [name.removeprefix("deception-") for name in runs],
            "adversary of the run",
            "agents of the run",
            digits=1,
        ),
    ]
