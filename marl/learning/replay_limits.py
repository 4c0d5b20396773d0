"""Limits of a replay's size: checks with errors that name a size which fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marl.errors import UserError

GIB = 2**30
LAYOUT = 2  # of a replay in checkpoints; 1, without a number, held each ``next_obs``


def check_holds_rollout(frames: int, rollout_frames: int) -> None:
    """Raises an error if a replay is too small for one rollout.

    Args:
        frames: what the replay can hold.
        rollout_frames: frames of one rollout.

    Raises:
        UserError: the replay holds fewer frames than a rollout.
    """
    if frames < rollout_frames:
        raise UserError(
            f"a replay of {frames:,} frames cannot hold one rollout; expected replay_size of at "
            f"least steps * num_envs = {rollout_frames}"
        )


def check_storage(nbytes: int, gib: float, steps: int, num_envs: int) -> None:
    """Raises an error if the storage of a replay exceeds its limit.

    Args:
        nbytes: bytes of the whole storage.
        gib: the limit, in GiB.
        steps: C, steps that the storage holds.
        num_envs: B, copies of the environment.

    Raises:
        UserError: it exceeds the limit; names the largest ``replay_size`` that fits.
    """
    if nbytes <= gib * GIB:
        return
    fitting_steps = int(gib * GIB / (nbytes // steps))
    size = round_down(fitting_steps * num_envs)
    advice = f"replay_size={size}" if fitting_steps else "fewer num_envs"
    raise UserError(
        f"a replay of {steps * num_envs:,} frames weighs {format_bytes(nbytes)}, and replay_gib="
        f"{gib:g} is the limit; take {advice}, or raise replay_gib"
    )


def successor_rows_error(frames: int, nbytes: int, gib: float) -> UserError:
    """Returns the error of a replay whose separately stored successors exceed its limit.

    Args:
        frames: what the replay can hold.
        nbytes: bytes that the storage would need.
        gib: the limit, in GiB.
    """
    return UserError(
        f"episodes are so short that a replay of {frames:,} frames comes to weigh more than "
        f"{format_bytes(nbytes)}, and replay_gib={gib:g} is the limit; raise replay_gib, or take a "
        "smaller replay_size"
    )


def check_checkpoint(state: Mapping[str, Any], steps: int, num_envs: int) -> None:
    """Raises an error if the replay of a checkpoint does not fit this run's.

    Args:
        state: the state of the checkpoint's replay.
        steps: C, steps that this run's replay holds.
        num_envs: B of this run.

    Raises:
        UserError: its layout or its size differs.
    """
    if (layout := state.get("layout", 1)) != LAYOUT:
        raise UserError(
            f"the checkpoint's replay has layout {layout} and this version of marl reads {LAYOUT}; "
            "resume the run with the version that wrote it, or train it again"
        )
    saved_steps, saved_envs = state["capacity"], state["num_envs"]
    if (saved_steps, saved_envs) != (steps, num_envs):
        raise UserError(
            f"the checkpoint's replay holds {saved_steps} steps of {saved_envs} copies, this run's "
            f"{steps} of {num_envs}; resume with replay_size={saved_steps * saved_envs} and "
            f"num_envs={saved_envs}"
        )


def format_bytes(nbytes: int) -> str:
    """Returns a number of bytes as text, such as ``0.9 GiB`` or ``12.0 MiB``."""
    return f"{nbytes / GIB:.1f} GiB" if nbytes > GIB / 10 else f"{nbytes / 2**20:.1f} MiB"


def round_down(number: int) -> int:
    """Rounds down to two significant digits."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return number // unit * unit
