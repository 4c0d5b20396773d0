"""The command ``marl check``: plays a task at random, and prints what it is and what it does."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from marl.cli import compose
from marl.cli.progress import counting
from marl.errors import UserError

if TYPE_CHECKING:
    from marl.env import VectorEnv
    from marl.envs.survey import Survey
    from marl.types import ActionSpec, AgentGroup, TensorSpec

SPEED_COPIES = (1, 32)
EXPLORE = (
    "agents learn only after they come upon a reward; let them explore longer, by "
    "algorithm.epsilon_frames (Q-learning), warmup (off policy) or entropy (on policy)"
)


def check(options: Namespace) -> int:
    """Runs ``marl check``: checks an environment against the contract, and prints what it found.

    Returns:
        The exit code.

    Raises:
        UserError: the environment cannot be made, fails, or breaks the contract.
    """
    from marl.envs import survey, trials
    from marl.utils.device import find_device

    task, device = _task(options), find_device(options.device)
    with trials.one_sentence(task.name, "its making"):
        env = task(options.copies, device)
    print(f"task     {task.name}", flush=True)
    _print(_interface(env))
    with trials.one_sentence(task.name, "random play"), counting("steps", options.steps) as advance:
        played = survey.play(env, options.steps, options.seed, advance)
        env.close()
    _print(_behaviour(played))
    with trials.one_sentence(task.name, "repeated play"):
        _print(_exactness(task, device, options))
    with trials.one_sentence(task.name, "timed play"):
        print(f"speed    {_speed(task, device)}", flush=True)
    print(f"picture  {_picture(task, device, options)}")
    return 0


def _task(options: Namespace) -> Any:
    """Returns the task of the command's words."""
    words = [*([f"task={options.task}"] if options.task else []), *options.settings]
    if not any(word.startswith("task=") for word in words):
        raise UserError("no task is named; expected one, as in: marl check vmas/balance")
    for word in words:
        if not re.match(r"task(\.[\w.]+)?=", word):
            raise UserError(f"{word!r} is not a setting of the task; expected task.KEY=VALUE")
    task = compose.composed(words).task
    assert task is not None
    return task


def _print(lines: Iterator[tuple[str, str]]) -> None:
    for word, text in lines:
        print(f"{word:8} {text}", flush=True)


# ------------------------------------------------------------------------------------- what it is


def _interface(env: VectorEnv) -> Iterator[tuple[str, str]]:
    """Yields what an environment says of itself."""
    for name, group in env.groups.items():
        yield "group", f"{name}: {_agents(group)}"
        yield "", f"  observes {_observation(group.observation)}; acts by {_action(group.action)}"
        words = [word for word, has in (("masks", group.masked), ("deaths", group.mortal)) if has]
        if words:
            yield "", f"  with {' and '.join(words)}"
    for name, groups in env.teams.items():
        yield "team", f"{name}: {', '.join(groups)}"
    if env.state_size is not None:
        yield "state", f"{env.state_size} numbers, for algorithm.critic=state"
    entities = next((g.entities for g in env.groups.values() if g.entities), None)
    if entities:
        yield "graph", f"entities of {entities.kinds} kinds in {entities.space} dimensions"


def _agents(group: AgentGroup) -> str:
    names = group.agents if group.size <= 6 else (*group.agents[:3], "…", group.agents[-1])
    return f"{group.size} agent{'s' * (group.size > 1)} ({', '.join(names)})"


def _observation(spec: TensorSpec) -> str:
    dtype = str(spec.dtype).removeprefix("torch.")
    if spec.is_image:
        return f"an image {' x '.join(map(str, spec.shape))} of {dtype}"
    return f"{' x '.join(map(str, spec.shape))} number{'s' * (spec.size > 1)} of {dtype}"


def _action(spec: ActionSpec) -> str:
    from marl.types import Continuous, Discrete

    if isinstance(spec, Discrete):
        return f"one of {spec.n} choices"
    if not isinstance(spec, Continuous):
        return f"{len(spec.nvec)} choices at once, of {', '.join(map(str, spec.nvec))}"
    bounds = sorted({(low, high) for low, high in zip(spec.low, spec.high, strict=True)})
    words = " and ".join(f"[{low:g}, {high:g}]" for low, high in bounds[:4])
    count = len(spec.low)
    return f"{count} number{'s' * (count > 1)} in {words}{' …' * (len(bounds) > 4)}"


# ----------------------------------------------------------------------------------- what it does


def _behaviour(played: Survey) -> Iterator[tuple[str, str]]:
    """Yields what happened in random play."""
    yield "checked", f"{played.steps} steps of {played.num_envs} copies keep the contract"
    for name in played.low:
        yield "observed", f"{name}: numbers from {played.low[name]:.3g} to {played.high[name]:.3g}"
    yield from _rewards(played)
    yield "episodes", _episodes(played)
    if any(group.mortal for group in played.groups.values()):
        yield "deaths", _deaths(played)
    for name, share in played.allowed.items():
        yield "masks", f"{name}: {share:.0%} of the choices are allowed"
    if played.metrics:
        values = ", ".join(f"{name} {value:.3g}" for name, value in played.metrics.items())
        yield "metrics", f"{values} (means over these episodes)"


def _rewards(played: Survey) -> Iterator[tuple[str, str]]:
    rewards = played.rewards()
    for name in rewards.mean:
        low, high = rewards.least[name], rewards.largest[name]
        yield "reward", f"{name}: from {low:.3g} to {high:.3g}, mean {rewards.mean[name]:.3g}"
    for team, groups in played.teams.items():
        size = sum(played.groups[name].size for name in groups)
        if size > 1:
            alike = "the same for all its agents" if rewards.shared[team] else "each agent's own"
            yield "", f"  team {team}: {alike}"
    if rewards.cancel:
        words = "  what all agents earn cancels in every step (zero-sum)"
        if len(played.teams) == 1:
            words += (
                ": one team has nothing to learn from it; set task.groups and teams.NAME.groups"
            )
        yield "", words
    elif not any((*map(abs, rewards.least.values()), *map(abs, rewards.largest.values()))):
        yield "", f"  random play earned nothing in {_played(played)}: {EXPLORE}"


def _played(played: Survey) -> str:
    """Returns how much was played, as text: episodes that ended, or else steps."""
    if ended := len(played.lengths):
        return f"{ended} episode{'s' * (ended > 1)}"
    return f"{played.steps} steps of {played.num_envs} copies"


def _deaths(played: Survey) -> str:
    if not played.deaths and not played.cuts:
        return "agents may leave before their episode ends, and none did"
    return (
        f"{played.deaths} agents died while their episode went on, and {played.cuts} reached a "
        "limit of their own"
    )


def _episodes(played: Survey) -> str:
    lengths, ended = played.lengths, played.terminated
    if not lengths:
        words = "play more by --steps, or set task.max_steps if none ever does"
        return f"none ended within {played.steps} steps; {words}"
    spread = f"{min(lengths)} to {max(lengths)} steps, mean {fmean(lengths):.3g}"
    if min(lengths) == max(lengths):
        spread = f"{lengths[0]} step{'s' * (lengths[0] > 1)} each"
    kinds = f"{ended} by a termination, {len(lengths) - ended} by a limit (truncation)"
    return f"{len(lengths)} ended, after {spread}: {kinds}"


# --------------------------------------------------------------------- exactness, speed, picture


def _exactness(task: Any, device: Any, options: Namespace) -> Iterator[tuple[str, str]]:
    from marl.envs import trials

    seed, steps = options.seed, options.steps
    same = trials.repeats(task, device, seed, steps)
    yield (
        "seeds",
        "equal seeds play equal episodes"
        if same
        else "EQUAL SEEDS PLAY DIFFERENT EPISODES: runs "
        "cannot be repeated; draw all random numbers from what reset(seed) seeds",
    )
    restored = trials.restores(task, device, seed, steps) if same else None
    if restored is False:
        raise UserError(
            f"task {task.name!r} goes on otherwise from a saved state than before; state_dict must "
            "hold all that later steps depend on, or return None (a VMAS scenario keeps what "
            "changes in tensors, lists, dicts and objects)"
        )
    if same:
        words = {True: "saved: runs resume exactly", None: "not saved: resumed runs begin episodes"}
        yield "state", words[restored]


def _speed(task: Any, device: Any) -> str:
    from marl.envs import trials

    parts = []
    for copies in SPEED_COPIES:
        env = task(copies, device)
        parts.append(f"{trials.frames_per_second(env):,.0f} with {copies}")
        env.close()
    return f"{' and '.join(parts)} copies (frames per second of random play)"


def _picture(task: Any, device: Any, options: Namespace) -> str:
    """Draws a step into a PNG file; returns its path, or why there is none."""
    from PIL import Image

    from marl.env import checked_steps
    from marl.envs.drawing import why_not_drawn
    from marl.envs.graph import cannot_draw

    env = task(1, device)
    try:
        if why := cannot_draw(env):
            return f"none: {why}"
        for _ in checked_steps(env, 3, options.seed):
            pass
        frame = env.render(0)
        path = Path(options.picture or default_picture(task.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(path, "PNG")
        return str(path)
    except Exception as error:  # any error of the environment's own drawing
        return f"none: {why_not_drawn(error)}"
    finally:
        env.close()


def default_picture(name: str) -> str:
    """Returns ``check-<task>.png``, in the working directory."""
    stem = re.sub(r"\W+", "_", name.rpartition("/")[2] if ":" in name else name)
    return f"check-{stem}.png"
