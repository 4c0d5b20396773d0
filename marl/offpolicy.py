"""What the off-policy algorithms share: acting with a warm-up, drawing from the run's replay,
n-step targets, critics with averaged copies, and actors that move together or one after the other.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from marl.algorithm import REWARDS, Setting, check_range, check_word
from marl.critics import SCOPES
from marl.distributions import uniform_action, uniform_noise
from marl.errors import UserError
from marl.networks import Model, per_agent
from marl.optimizer import Optimizer, compiled
from marl.policies import IndependentPolicy, Member, Policy, members
from marl.qcritics import Actions, joint_actions, q_critics
from marl.replay import ReplayBatch
from marl.types import Carry, Metrics, Noise, Observation, PolicyStep, Rollout


@dataclass
class OffPolicyConfig:
    """Hyperparameters of every off-policy algorithm."""

    replays: ClassVar[bool] = True  # needs the run's replay
    critic: str = "team"  # what the critics see: agent, team, all (every team), or state
    reward: str = "team_mean"  # own, team_sum or team_mean
    sequential: bool = False  # agents move one after the other, and see those before them moved
    actor_lr: float = 5e-4
    critic_lr: float = 5e-4
    adam_eps: float = 1e-8
    max_grad_norm: float = 10.0
    gamma: float = 0.99  # discount
    n_step: int = 1  # rewards summed before the critic is asked
    tau: float = 0.005  # share of the new weights in each averaged copy
    batch_size: int = 256  # transitions of a gradient step
    frames_per_update: float = 20.0  # frames collected for each gradient step
    warmup: int = 10_000  # frames of uniformly random actions before the first
    compile: bool = False  # the critics' and each actor's step into one graph each

    def __post_init__(self) -> None:
        check_word("critic", self.critic, SCOPES)
        check_word("reward", self.reward, REWARDS)
        check_range(
            self, actor_lr=(0, 1), critic_lr=(0, 1), adam_eps=(0, 1), max_grad_norm=(0, math.inf),
            gamma=(0, 1), n_step=(1, 1000), tau=(0, 1), batch_size=(1, math.inf),
            frames_per_update=(1e-3, math.inf), warmup=(0, math.inf),
        )  # fmt: skip
        if self.critic == "agent" and self.reward != "own":
            raise UserError(
                f"critic 'agent' with reward {self.reward!r}: every agent's own critic needs its "
                "own reward; set reward=own"
            )

    def model(self, setting: Setting) -> Model:
        """The policies' network: of each agent's own weights where they move one by one."""
        return per_agent(setting.model) if self.sequential else setting.model


class OffPolicy:
    """The base of all.

    A subclass tells the critics' ``target``, what an actor minimises, and what ``follows``. With
    ``sequential`` the update is heterogeneous-agent mirror learning (``marl.sequence``).
    """

    names: tuple[str, ...]  # of the statistics that ``_step`` returns

    def __init__(
        self, config: OffPolicyConfig, setting: Setting, policy: IndependentPolicy, k: int
    ):
        assert setting.replay is not None, "an off-policy algorithm needs the run's replay"
        self.config, self.setting, self.team = config, setting, setting.team
        self.replay, self.policy = setting.replay, policy
        self.agents = [(name, row) for name, g in self.team.items() for row in range(g.size)]
        own = config.reward == "own"
        critic = q_critics(k, config.critic, self.team, setting.everyone, setting.state_size, own,
                           setting.critic_model)  # fmt: skip
        self.critic = critic.to(setting.device)
        self.target_critic = averaged(self.critic)
        self.followers = [Follower(self.target_critic, self.critic)]
        self.critic_optimizer = self._optimizer(self.critic.parameters(), config.critic_lr)
        self.members: list[Member] = members(policy) if config.sequential else []
        parts = [m.parameters for m in self.members] or [list(policy.parameters())]
        self.actor_optimizers = [self._optimizer(part, config.actor_lr) for part in parts]
        self.frames = self.updates = 0
        if policy.initial_carry(1):
            raise UserError("off-policy actors have no memory yet; leave model.gru=0")

    def _optimizer(self, parameters: Any, lr: float) -> Optimizer:
        config = self.config
        return Optimizer({"": parameters}, {"": lr}, config.adam_eps, config.max_grad_norm)

    def _compiler(self) -> Callable[[Any], Any]:
        return compiled if self.config.compile else lambda function: function

    # --------------------------------------------------------------------------------------- acting

    @torch.no_grad()
    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        batch = len(start)
        if explore and self.frames < self.config.warmup:
            action = self._random_action(obs, batch, generator)
        else:
            noise = self._exploration(self.policy.noise(batch, generator)) if explore else None
            action = self.policy.act(obs, carry, start, noise).action
        zeros = {n: torch.zeros(batch, g.size, device=start.device) for n, g in self.team.items()}
        return PolicyStep(action, zeros, {}, {name: {} for name in self.team})

    def _random_action(
        self, obs: Observation, batch: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        noise = {
            n: uniform_noise(g.action, (batch, g.size), generator) for n, g in self.team.items()
        }
        return {
            n: uniform_action(g.action, noise[n], obs.groups[n].action_mask)
            for n, g in self.team.items()
        }

    def _exploration(self, noise: Noise) -> Noise:
        return noise

    # ------------------------------------------------------------------------------------- learning

    def update(self, rollout: Rollout) -> Metrics:
        """As many gradient steps as the frames collected so far are due."""
        config = self.config
        self.frames += rollout.frames
        due = int((self.frames - config.warmup) / config.frames_per_update) - self.updates
        stats = [self._learn() for _ in range(due)]
        if not stats:
            return {}
        return dict(zip(self.names, torch.stack(stats).mean(0).unbind(), strict=True))

    def _learn(self) -> Tensor:
        config, random = self.config, self.setting.generator
        index = self.replay.draw(config.batch_size, random)
        batch = self.replay.transitions(
            index, config.n_step, config.gamma, self.team, config.reward
        )
        draws = 3 if self.members else 2  # for the target, the gradient, and those who follow
        noise = [self.policy.noise(config.batch_size, random) for _ in range(draws)]
        self.updates += 1
        return self._step(batch, noise)

    def _step(self, batch: ReplayBatch, noise: Sequence[Noise]) -> Tensor:
        """One step of critics and actors; the statistics as one vector."""
        raise NotImplementedError

    def follow(self) -> None:
        """Moves all averaged copies."""
        for follower in self.followers:
            follower.move(self.config.tau)

    def critic_loss(self, batch: ReplayBatch, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared errors of all critics, summed, and the mean value."""
        q = self.critic(batch.obs, self.encoded(batch.action))
        return (q - target).square().mean((1, 2)).sum(), q.detach().mean()

    def encoded(self, action: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Stored actions of all groups as critics read them."""
        return {n: g.action.encode(action[n]) for n, g in self.setting.everyone.items()}

    def q_of_fresh(self, batch: ReplayBatch, fresh: Actions, others: Actions) -> Tensor:
        """Q ``[K, M, H]`` of every agent's ``fresh`` action while the ``others`` play theirs; H is
        1 where one value moves all of them at once."""
        heads = self.critic.heads
        if self.config.critic == "agent" or (heads == 1 and others is fresh):
            return self.critic(batch.obs, {**self.encoded(batch.action), **fresh})
        base = {**self.encoded(batch.action), **{n: a.detach() for n, a in others.items()}}
        return self.critic(batch.obs, joint_actions(fresh, base), each=True)

    def q_of_one(self, batch: ReplayBatch, agent: int, own: Tensor, actions: Actions) -> Tensor:
        """Q ``[K, M]`` of the agent's ``own [M, 1, A]`` while its team plays ``actions``."""
        joint = {**self.encoded(batch.action), **self.exchanged(agent, own, actions)}
        return self.critic(batch.obs, joint)[..., agent if self.critic.heads > 1 else 0]

    def exchanged(self, agent: int, own: Tensor, actions: Actions) -> dict[str, Tensor]:
        """``actions`` with the agent's ``own`` in its place."""
        name, row = self.agents[agent]
        team = actions[name]
        changed = torch.cat([team[:, :row], own, team[:, row + 1 :]], dim=1).contiguous()
        return {**actions, name: changed}

    # ---------------------------------------------------------------------------------------- state

    def _kept(self) -> dict[str, Any]:
        """Everything with a state of its own."""
        actors = {f"actor_{i}": optimizer for i, optimizer in enumerate(self.actor_optimizers)}
        return {
            "policy": self.policy,
            "critic": self.critic,
            "target_critic": self.target_critic,
            "critic_optimizer": self.critic_optimizer,
            **actors,
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            **{name: part.state_dict() for name, part in self._kept().items()},
            "generator": self.setting.generator.get_state(),
            "frames": self.frames,
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self._kept().items():
            part.load_state_dict(state[name])
        self.setting.generator.set_state(state["generator"].cpu())
        self.frames, self.updates = state["frames"], state["updates"]


def averaged(module: nn.Module) -> Any:
    """A copy to be moved by a Follower only."""
    return copy.deepcopy(module).requires_grad_(False)


class Follower:
    """Moves an averaged copy towards its original (Lillicrap et al. 2016). The parameters are found
    once: to walk a network takes longer than to move it."""

    def __init__(self, copied: nn.Module, module: nn.Module):
        self.copied, self.original = list(copied.parameters()), list(module.parameters())

    @torch.no_grad()
    def move(self, tau: float) -> None:
        """By ``tau`` of the way."""
        torch._foreach_lerp_(self.copied, self.original, tau)  # type: ignore[reportPrivateImportUsage]  # the one fused call for it


@torch.no_grad()
def opponents_actions(
    policies: Mapping[str, Policy], setting: Setting, obs: Observation
) -> dict[str, Tensor]:
    """What the groups of other teams do in ``obs``, encoded, without gradient. ``policies`` by
    team.

    Raises:
        UserError: an opponent with memory.
    """
    actions: dict[str, Tensor] = {}
    for name, policy in policies.items():
        groups = {n: g for n, g in policy.groups.items() if n not in setting.team}
        if not groups:
            continue
        if policy.initial_carry(1):
            raise UserError(f"critic 'all' cannot ask team {name!r} what it does: it has a memory")
        first = next(iter(groups))
        batch = len(obs.groups[first].obs)
        start = torch.ones(batch, dtype=torch.bool, device=setting.device)
        noise = policy.noise(batch, setting.generator)
        step = policy.act(obs, {}, start, noise)
        actions.update({n: g.action.encode(step.action[n]) for n, g in groups.items()})
    return actions
