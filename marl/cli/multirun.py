"""One line on what a multirun starts, since Hydra's own log is off."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback

from marl.errors import UserError

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class Announcement(Callback):
    """Says how many runs Hydra's launcher gets, and where those on other machines write logs.

    ``configs/train.yaml`` names it among Hydra's callbacks.
    """

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Prints the line, before anything is launched."""
        hydra = config.hydra
        runs = "the sweeper's runs"
        if hydra.sweeper._target_ == BASIC_SWEEPER and not hydra.sweeper.get("params"):
            count = count_runs(hydra.overrides.task)
            runs = f"{count} run{'' if count == 1 else 's'}"
        if "submitit_folder" not in hydra.launcher:
            print(f"multirun {runs}, one after another", flush=True)
            return
        launcher = hydra.runtime.choices["hydra/launcher"]
        logs = Path(str(hydra.launcher.submitit_folder).replace("%j", "JOB"))
        print(f"multirun {runs}, submitted by {launcher}; waiting for them to end")
        print(f"logs     {logs} (*_log.out and *_log.err of each)", flush=True)


def count_runs(overrides: Iterable[str]) -> int:
    """Returns how many combinations of values a multirun's overrides have."""
    parser = OverridesParser.create()
    sweeps = [parser.parse_override(word) for word in overrides]
    return math.prod(len(list(one.sweep_iterator())) for one in sweeps if one.is_sweep_override())


def check_directory(overrides: Sequence[str]) -> None:
    """Checks that a multirun's runs do not share one directory.

    Raises:
        UserError: ``directory=`` names one for several runs.
    """
    own = [word for word in overrides if word.startswith("directory=")]
    if own and count_runs(own) == 1 and (count := count_runs(overrides)) > 1:
        raise UserError(
            f"{own[-1]} is one directory for {count} runs; leave it out, and each has its own "
            "below runs/"
        )
