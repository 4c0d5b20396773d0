"""A check of a user's batched environment at its first reset and its first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from marl.env import VectorEnv, check_observation, check_teams, check_transition
from marl.envs.drawing import NO_RENDER
from marl.envs.wrappers import Wrapper, cannot_draw
from marl.errors import UserError
from marl.types import ActionSpec, AgentGroup, Observation, Transition

MEMBERS = (
    *("num_envs", "device", "groups", "teams", "state_size"),
    *("reset", "step", "state_dict", "load_state_dict", "close"),
)


class FirstStepCheck(Wrapper):
    """An environment whose first observation and first transition are checked.

    It plays no step of its own and draws no random numbers; later steps go straight through.

    Args:
        env: the environment.
        task: its name, for errors.
        num_envs: B, the number of copies that it was asked for.

    Raises:
        UserError: it is not a batched environment.
    """

    #: Steps of the environment within may be taken in place of this one's.
    passes_steps = True

    def __init__(self, env: VectorEnv, task: str, num_envs: int):
        if missing := [name for name in MEMBERS if not hasattr(env, name)]:
            raise UserError(
                f"task {task!r} gave an object of type {type(env).__name__!r} without "
                f"{', '.join(missing)}; a factory that takes num_envs must return a batched "
                "environment, a marl.env.VectorEnv"
            )
        super().__init__(env)
        self.task = task
        self._unchecked = {"reset", "step"}
        with self._one_sentence("as made"):
            assert self.num_envs == num_envs, f"num_envs is {self.num_envs}, expected {num_envs}"
            _check_groups(self.groups)
            check_teams(env)

    def reset(self, seed: int) -> Observation:
        observation = self.env.reset(seed)
        if "reset" in self._unchecked:
            with self._one_sentence("after reset"):
                check_observation(self.env, observation)
            self._unchecked.discard("reset")
        return observation

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        transition = self.env.step(action)
        if "step" in self._unchecked:
            with self._one_sentence("in its first step"):
                check_transition(self.env, transition)
            self._unchecked.discard("step")
        return transition

    @contextmanager
    def _one_sentence(self, when: str) -> Iterator[None]:
        """Turns a broken contract into a UserError that names the task."""
        try:
            yield
        except AssertionError as error:
            raise UserError(
                f"task {self.task!r} breaks the contract of batched environments {when}: {error}; "
                "marl.check_env(env) checks it whole"
            ) from None

    def state_dict(self) -> dict[str, Any] | None:
        return self.env.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.env.load_state_dict(state)

    def cannot_draw(self) -> str:
        """Returns why ``render`` gives no picture, ``""`` where it does or does not say."""
        return cannot_draw(self.env) if hasattr(self.env, "render") else NO_RENDER


def _check_groups(groups: Any) -> None:
    assert isinstance(groups, Mapping) and groups, (
        f"groups is {groups!r}, expected a dict of AgentGroup by name"
    )
    for name, group in groups.items():
        assert isinstance(group, AgentGroup), f"group {name!r} is {group!r}, expected an AgentGroup"
        assert group.agents, f"group {name!r} has no agents, expected at least one"
        assert isinstance(group.action, ActionSpec), (
            f"the actions of group {name!r} are {group.action!r}, expected a marl.Discrete, "
            "MultiDiscrete or Continuous"
        )
