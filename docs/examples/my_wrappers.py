# marl train task=mpe/simple_spread total_frames=1e5 \
#   'task.wrappers=[{wrapper: docs/examples/my_wrappers.py:Sticky, probability: 0.1}]'
"""A wrapper: with some probability an agent repeats its last action; and functions for others."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from marl import Observation, Transition, VectorEnv, Wrapper


class Sticky(Wrapper):
    def __init__(self, env: VectorEnv, probability: float = 0.25):
        super().__init__(env)  # passes on everything that is not overridden here
        self.probability = probability
        self.random = torch.Generator(self.device)  # of its own, seeded by reset
        self.last: dict[str, Tensor] = {}
        self.start = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)

    def reset(self, seed: int) -> Observation:
        self.random.manual_seed(seed)
        self.last, self.start = {}, torch.ones_like(self.start)
        return self.env.reset(seed)

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        self.last = {name: self._stick(name, new) for name, new in action.items()}
        transition = self.env.step(self.last)
        self.start = transition.done  # the next action is an episode's first
        return transition

    def _stick(self, name: str, new: Tensor) -> Tensor:
        """Returns the actions [B, N, ...] of one group, some of them those of the step before."""
        draw = torch.rand(new.shape[:2], generator=self.random, device=self.device)
        repeats = (draw < self.probability) & ~self.start.unsqueeze(-1)
        repeats = repeats.reshape(*repeats.shape, *[1] * (new.dim() - 2))
        return torch.where(repeats, self.last.get(name, new), new)

    def own_state(self) -> dict[str, Any]:
        """Returns what a resumed run needs; of a wrapper without memory there is nothing."""
        return {"random": self.random.get_state(), "last": self.last, "start": self.start}

    def load_own_state(self, state: dict[str, Any]) -> None:
        self.random.set_state(state["random"].cpu())
        self.last = {name: x.to(self.device) for name, x in state["last"].items()}
        self.start = state["start"].to(self.device)


def calm(obs: Observation) -> dict[str, Tensor]:
    """A potential for {reward_potential: …:calm}, minus the speed in mpe/simple_spread, [B, N]."""
    return {name: -group.obs[..., :2].norm(dim=-1) for name, group in obs.groups.items()}


def punctual(obs: Observation, next_obs: Observation, reward: dict[str, Tensor]) -> Any:
    """A reward for {reward_function: …:punctual}: each step costs 0.1 more."""
    return {name: values - 0.1 for name, values in reward.items()}


def best(transition: Transition) -> Tensor:
    """A number for {metric: …:best}: the largest reward of an agent in this step, [B]."""
    return torch.cat(list(transition.reward.values()), dim=1).amax(dim=1)
