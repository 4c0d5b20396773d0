"""The setting ``start_from``: the earlier run whose weights a run begins with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from marl.errors import UserError
from marl.utils.serialization import REFERENCE


@dataclass
class StartFrom:
    """The earlier run whose weights a run begins with: ``Settings(start_from=StartFrom(RUN))``."""

    #: Directory of the run, one of its checkpoint files, or a name of the zoo
    #: (``zoo:mpe/spread/mappo``); empty to begin with new weights. On the command line
    #: ``start_from=RUN`` is enough.
    run: str = field(default="", metadata=REFERENCE)
    #: Checkpoint of that directory: ``best`` (of each team), ``last``, or the name of a file in
    #: ``checkpoints/``.
    checkpoint: str = "best"
    #: Whether optimizers (the moments of Adam) are loaded too, where they fit; otherwise they begin
    #: anew.
    optimizers: bool = False

    def __post_init__(self) -> None:
        if self.run.startswith("zoo:"):
            pass
        elif self.run:
            self.run = str(Path(self.run).absolute())  # valid in every working directory
        elif self.checkpoint != "best" or self.optimizers:
            raise UserError(
                "start_from.checkpoint and start_from.optimizers are read only with a run; set "
                "start_from=RUN, or leave them out"
            )
        if Path(self.run).suffix == ".pt" and self.checkpoint != "best":
            raise UserError(
                f"start_from={self.run} is a checkpoint file already; leave out "
                f"start_from.checkpoint={self.checkpoint}, or name the run's directory"
            )
