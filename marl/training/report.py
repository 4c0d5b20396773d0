"""Pictures of a run: learning curve, cross-play and video. Importable without torch."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marl.errors import UserError
from marl.utils.files import write_atomic
from marl.utils.jsonl import read_json

if TYPE_CHECKING:
    from marl.training.crossplay import Crossplay

VIDEOS = (".mp4", ".gif")


def draw_curve(directory: Path) -> Path:
    """Draws ``curve.png`` from ``evaluations.jsonl``; returns its path.

    It shows each team's mean return with a 95% interval, that of sampled actions where it was
    measured too, random play, and the borders of a curriculum's stages.
    """
    lines = (directory / "evaluations.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    path = directory / "curve.png"
    return draw_returns(records, path, directory.name, random_returns(directory))


def draw_returns(
    records: Sequence[Mapping[str, Any]],
    path: Path,
    title: str,
    baseline: Mapping[str, Sequence[float]],
    marker: str = "",
) -> Path:
    """Draws each team's returns over frames.

    Args:
        records: ``frames``, ``returns`` by team, and perhaps ``sampled`` and ``stage``, as in
            ``evaluations.jsonl``.
        path: picture to write.
        title: title of the picture.
        baseline: returns of random play, by team.
        marker: marks each record's point, in matplotlib's notation; empty for none.

    Returns:
        The path.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter

    frames = [record["frames"] for record in records]
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for team in records[0]["returns"]:
        returns = np.array([record["returns"][team] for record in records])
        mean, error = returns.mean(1), 1.96 * returns.std(1, ddof=min(1, returns.shape[1] - 1))
        error = error / returns.shape[1] ** 0.5
        (line,) = axes.plot(frames, mean, label=team, linewidth=2, marker=marker)
        axes.fill_between(frames, mean - error, mean + error, color=line.get_color(), alpha=0.2)
        if all("sampled" in record for record in records):
            sampled = [np.mean(record["sampled"]["returns"][team]) for record in records]
            name, color = f"{team}, sampled actions", line.get_color()
            axes.plot(frames, sampled, color=color, label=name, linewidth=1.4, linestyle="--")
        if team in baseline:
            level = float(np.mean(baseline[team]))
            axes.axhline(level, color=line.get_color(), linestyle=":", label=f"{team}, random")
    stages = [record.get("stage", 1) for record in records]
    for i in (i for i in range(1, len(stages)) if stages[i] != stages[i - 1]):
        axes.axvline(frames[i - 1], color="gray", linestyle="--", linewidth=1)
        place = frames[i - 1], 0.99
        words = {"va": "top", "fontsize": 8, "color": "gray"}
        axes.text(*place, f" stage {stages[i]}", transform=axes.get_xaxis_transform(), **words)
    axes.set(xlabel="frames", ylabel="evaluated return (mean, 95% interval)", title=title)
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    image = io.BytesIO()
    figure.savefig(image, dpi=130)
    plt.close(figure)
    write_atomic(path, image.getvalue())
    return path


def draw_crossplay(results: Crossplay, path: Path) -> Path:
    """Draws a heat map of each quantity of cross-play, row against column.

    Args:
        results: the results.
        path: picture to write.

    Returns:
        The path.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    quantities, count = results.quantities(), len(results.entrants)
    size = (1.6 + 1.35 * count, 1.6 + 0.75 * count)
    columns = min(3, len(quantities))
    rows = -(-len(quantities) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(size[0] * columns, size[1] * rows), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    names = [entrant.name for entrant in results.entrants]
    for axes in grid.flat[len(quantities) :]:
        axes.set_visible(False)
    for axes, (kind, name) in zip(grid.flat, quantities, strict=False):
        matrix = np.array(results.matrix(kind, name))  # [row, column, (mean, error)]
        image = axes.imshow(matrix[..., 0], cmap="viridis", aspect="auto")
        bright = matrix[..., 0] > (matrix[..., 0].min() + matrix[..., 0].max()) / 2
        for (i, j), mean in np.ndenumerate(matrix[..., 0]):
            text = f"{mean:.2f}\n± {matrix[i, j, 1]:.2f}"
            color = "black" if bright[i, j] else "white"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=color)
        axes.set_xticks(range(count), names, rotation=20, ha="right", fontsize=8)
        axes.set_yticks(range(count), names, fontsize=8)
        prefix = "return of " if kind == "returns" else ""
        axes.set(title=f"{prefix}{name}", ylabel=results.side, xlabel="the others")
        figure.colorbar(image, ax=axes)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def random_returns(directory: Path) -> dict[str, list[float]]:
    """Returns a run's returns of random play by team; none where they were not measured."""
    stored = read_json(directory / "random.json")
    return stored["returns"] if stored else {}


def check_video(path: Path) -> None:
    """Raises UserError if no video can be written to ``path``."""
    if path.suffix not in VIDEOS:
        raise UserError(
            f"a video is written as {' or '.join(VIDEOS)}, not {path.suffix or path.name!r}"
        )
    if not path.parent.is_dir():
        raise UserError(f"directory {str(path.parent)!r} for the video does not exist; create it")


def write_video(frames: list[np.ndarray], path: Path, fps: int = 15) -> Path:
    """Writes a video as MP4 or GIF, by the ending of its name.

    Args:
        frames: ``[H, W, 3]`` uint8 each; an odd last row or column is cut off.
        path: file to write.
        fps: frames per second.

    Returns:
        The path.

    Raises:
        UserError: the ending is another one, or no file can be written there.
    """
    check_video(path)
    images = [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
    try:
        path.unlink(missing_ok=True)  # of an old video nobody should think that it is the new one
        _write_images(images, path, fps)
    except OSError as error:
        raise UserError(f"the video {str(path)!r} cannot be written: {error}") from error
    if not path.is_file() or not path.stat().st_size:  # ffmpeg fails without an error
        raise UserError(f"the video {str(path)!r} cannot be written there; choose another folder")
    return path


def _write_images(images: list[np.ndarray], path: Path, fps: int) -> None:
    import imageio.v2 as imageio

    if path.suffix == ".gif":
        imageio.mimsave(path, images, duration=1000 / fps, loop=0)  # type: ignore[arg-type]
    else:
        imageio.mimsave(path, images, fps=fps, macro_block_size=2, quality=7)  # type: ignore[arg-type]
