"""Where the sparse form of the graph encoder becomes faster than the dense one."""

from __future__ import annotations

from collections.abc import Sequence

from _common import Line, Lines, Panel, read, table

WORK = {
    "act_1": "acting, 1 environment",
    "act_32": "acting, 32 environments",
    "learn_64": "learning, 64 moments",
}
FORMS = ("dense", "sparse")
SHOWN = (3, 4, 5, 6, 8, 12, 24)


def written(milliseconds: float) -> str:
    digits = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:.{digits}f}"


def tables() -> dict[str, str]:
    runs = [run for run in read("informarl_crossover", "milliseconds") if run["agents"] in SHOWN]
    rows = [
        [name, *(" / ".join(written(run[f"{key}_{form}"]) for form in FORMS) for run in runs)]
        for key, name in WORK.items()
    ]
    return {"crossover": table(["agents", *(run["agents"] for run in runs)], rows)}


def panels() -> Sequence[Panel]:
    runs = read("informarl_crossover", "milliseconds")
    agents = [run["agents"] for run in runs]
    return [
        Lines(
            name, "agents", "ms",
            [Line(agents, [run[f"{key}_{form}"] for run in runs], form) for form in FORMS],
            log_x=True, log_y=True,
        )
        for key, name in WORK.items()
    ]  # fmt: skip
